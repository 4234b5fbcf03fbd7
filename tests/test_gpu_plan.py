"""The plan for a GPU, rehearsed on the CPU: parts, what is kept between calls, lengths, and planted faults."""

import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from benchmarks.gpu import ahead, cifar10, commands, digits, few, mining, resume, same, table, waits
from benchmarks.gpu.__main__ import AGAIN, BAD, main
from benchmarks.gpu.length import steps_per_second, that_fit
from benchmarks.gpu.methods import DrawnOnCPU, every_method, trainer
from benchmarks.gpu.plan import PARTS, Plan
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.io.params import Params, find_module

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
HIDDEN = ("faiss", "dvc", "ruamel", "lightly", "kornia", "timm")
"""Packages that a machine with a GPU may lack."""


@pytest.fixture
def call(tmp_path):
    """Call the plan's rehearsal in this process; returns the exit code."""

    def run(*arguments):
        return main([*arguments, "--device", "cpu", "--tiny", "--out", str(tmp_path / "out")])

    return run


@pytest.fixture
def parts(tmp_path):
    """Read the parts in results.json."""
    return lambda: json.loads((tmp_path / "out/results.json").read_text())["parts"]


@pytest.fixture
def plan(tmp_path):
    """A call with a minute left."""
    return Plan(CPU, True, tmp_path, None, training_minutes=1.0, ends=time.monotonic() + 60)


@pytest.fixture
def without(tmp_path):
    """An environment in which the packages of HIDDEN cannot be imported."""
    for name in HIDDEN:
        (tmp_path / "hidden" / name).mkdir(parents=True)
        (tmp_path / "hidden" / name / "__init__.py").write_text(f"raise ModuleNotFoundError('{name}', name='{name}')")
    return {**os.environ, "PYTHONPATH": str(tmp_path / "hidden"), "OMP_NUM_THREADS": "1"}


def test_a_rehearsal_needs_neither_faiss_nor_dvc(tmp_path, without, call, parts, capsys):
    asked = ["device", "same", "waits", "resume", "mining", "steps", "ahead"]
    command = [sys.executable, "-m", "benchmarks.gpu", *asked, "--device", "cpu", "--tiny", "--out", tmp_path / "out"]
    done = subprocess.run(command, cwd=ROOT, env=without, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [name for name in asked if parts()[name]["done"] and not parts()[name]["bad"]] == asked
    assert all(each["float32"]["update"] == 0 for each in parts()["same"]["facts"].values())
    assert parts()["steps"]["facts"].keys() == {"step simclr", "step fixmatch", "launches"}
    before = parts()
    assert call(*asked[1:]) == 0  # nothing is done again
    assert parts() == before
    assert capsys.readouterr().out.count("(done before)") == len(asked) - 1


def test_stages_need_neither_faiss_nor_dvc(tmp_path, without):
    code = (
        "import sys; from stages.__main__ import app\n"
        "import sslpipe.running.stage, sslpipe.running.evaluation, sslpipe.running.mining, sslpipe.running.features\n"
        "import sslpipe.running.clustering, sslpipe.running.self_labelling, sslpipe.running.few_labels\n"
        f"print([name for name in {HIDDEN} if name in sys.modules])"
    )
    environment = commands.environment(without)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


# What is wrong


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["everything"], "unknown part 'everything'"),
        (["device", "--minutes", "0"], "--minutes: 0.0 found"),
        (["cifar10", "--images", "nowhere"], "--images nowhere: expected a folder with train/ and test/"),
    ],
)
def test_wrong_input_is_one_line(call, arguments, words, capsys):
    assert call(*arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {words}")


def test_without_a_gpu_only_a_rehearsal_is_possible(tmp_path, capsys):
    assert main(["same", "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert "--tiny" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", '{"setup": {"dev', "[]", '{"setup": {}, "parts": {"same": {}}}', '{"parts": 1}'])
def test_results_that_are_broken_stay_as_they_are(tmp_path, call, capsys, text):
    path = tmp_path / "out/results.json"
    path.parent.mkdir()
    path.write_text(text)
    assert call("device") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert path.read_text() == text


def test_results_of_a_gpu_are_not_mixed_with_a_rehearsal(tmp_path, call, capsys):
    path = tmp_path / "out/results.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"setup": {"device": "cuda", "tiny": False}, "parts": {}}))
    assert call("device") == 2
    assert "another --out" in capsys.readouterr().err


def test_a_part_that_dies_is_done_again_and_others_are_kept(call, parts, monkeypatch, capsys):
    monkeypatch.setattr(mining, "TINY", ((300, 8), (400, 8)))
    real, seen = mining.compare, []

    def dies(images, *rest):
        seen.append(images)
        if len(seen) == 2:
            raise RuntimeError("CUDA error: out of memory")
        return real(images, *rest)

    monkeypatch.setattr(mining, "compare", dies)
    assert call("device", "mining") == BAD
    assert "mining: failed: CUDA error: out of memory" in capsys.readouterr().out
    assert parts()["device"]["done"]
    assert parts()["mining"]["facts"].keys() == {"300 × 8"}
    assert call("mining") == 0
    assert seen == [300, 400, 400]


def test_time_that_is_up_is_said_and_the_next_call_goes_on(call, parts, capsys):
    assert call("mining", "table", "--minutes", "0.1") == AGAIN
    assert "no time left" in capsys.readouterr().out
    assert call("mining") == 0
    assert parts()["mining"]["done"]


# Is it right


@pytest.fixture
def planted(monkeypatch):
    """Make one method the only one, whose losses are changed from its n-th trainer on."""

    def plant(change, first):
        built = []

        def build(given, network):
            settings, method = every_method().pretext(every_method().simclr)(given, network)
            built.append(method)
            if len(built) >= first:
                change(method)
            return settings, method

        monkeypatch.setitem(every_method().METHODS, "planted", build)
        monkeypatch.setattr("benchmarks.gpu.methods.TINY", ("planted",))

    return plant


def scaled(method):
    """A loss that is too large by a tenth of a percent, as of a device that computes something else."""
    real = method.losses
    method.losses = lambda *given: {name: value * 1.001 for name, value in real(*given).items()}


def test_a_method_that_differs_on_the_device_is_bad(planted, call, parts, capsys):
    planted(scaled, first=4)  # after those of the CPU and of the start values
    assert call("same") == BAD
    assert "same: BAD: planted, float32: loss 0.001 > 1e-05" in capsys.readouterr().out
    assert parts()["same"]["done"]
    assert call("same") == BAD  # it stays so


def test_other_start_values_are_bad(planted, call, capsys):
    def moved(method):
        with torch.no_grad():
            next(method.parameters()).add_(1)

    planted(moved, first=3)
    assert call("same") == BAD
    assert "start values" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_on_one_device_is_beyond_all_bounds():
    assert same.relative(float("nan"), 1.0) == float("inf")
    assert same.relative(1e-9, 0.0) < 1e-6
    assert same.beyond({"loss": float("nan"), "terms": 0, "update": 0, "last": 0}, same.BOUNDS["bfloat16"])


def test_draws_for_another_device_are_those_of_the_cpu():
    seeds = iter((5, 5, 6))
    given = SimpleNamespace(device=torch.device("cuda"), initial_seed=lambda: next(seeds))
    drawn = DrawnOnCPU()
    first, second = torch.rand(2, generator=drawn._twin(given)), torch.rand(2, generator=drawn._twin(given))
    expected = torch.rand(4, generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.cat([first, second]), expected)
    other = torch.rand(2, generator=drawn._twin(given))
    assert torch.equal(other, torch.rand(2, generator=torch.Generator().manual_seed(6)))


@pytest.mark.parametrize("name", ["semisup/fixmatch ctaugment alignment", "semisup/mixmatch"])
def test_draws_on_the_cpu_change_nothing_there(name):
    own = trainer(name, CPU).step(0)
    with DrawnOnCPU():
        again = trainer(name, CPU).step(0)
    assert {key: value.item() for key, value in own.items()} == {key: value.item() for key, value in again.items()}


def test_waits_are_lines_and_are_bad(call, monkeypatch, capsys):
    text = "called a synchronizing CUDA operation"
    with waits.noted(ROOT / "tests") as lines:
        warnings.warn(text, stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    (line,) = lines
    assert line.startswith("tests/test_gpu_plan.py:")
    with waits.noted() as elsewhere:
        warnings.warn_explicit(text, UserWarning, "/torch/autograd/graph.py", 7)
    assert elsewhere == {"graph.py:7"}
    monkeypatch.setattr("benchmarks.gpu.methods.TINY", ("pretrain/simclr",))
    monkeypatch.setattr(waits, "waits", lambda trained: [line])
    assert call("waits") == BAD
    assert f"BAD: pretrain/simclr waits at {line}" in capsys.readouterr().out


def test_a_wait_in_a_step_is_seen(monkeypatch):
    def waits_there(*given):
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        return real(*given)

    trained = trainer("pretrain/simclr", CPU)
    assert waits.waits(trained) == []
    real = trained.method.losses
    trained.method.losses = waits_there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the steps before
        (line,) = waits.waits(trained)
    assert line.startswith("sslpipe/engine/trainer.py:")  # from where the loss is called


def test_kernels_copies_and_launches_are_counted():
    names = {"gemm": DeviceType.CUDA, "Memcpy DtoH": DeviceType.CUDA, "Memset": DeviceType.CUDA}
    names |= {"cudaLaunchKernelExC": DeviceType.CPU, "cudaGraphLaunch": DeviceType.CPU, "aten::mm": DeviceType.CPU}
    events = [SimpleNamespace(name=name, device_type=device) for name, device in names.items()]
    assert waits.counted(events) == {"kernels": 1, "copies": 2, "launches": 2}


def test_a_state_that_is_lost_is_bad(call, monkeypatch, capsys):
    real = Checkpoint.load

    def forgets(self, method, optimizer):
        state = real(self, method, optimizer)
        optimizer.state.clear()
        return state

    monkeypatch.setattr(resume, "METHODS", ("pretrain/simclr",))
    monkeypatch.setattr(Checkpoint, "load", forgets)
    assert call("resume") == BAD
    assert "BAD: pretrain/simclr begun on cpu" in capsys.readouterr().out


def test_neighbours_that_differ_are_bad(call, monkeypatch):
    real = mining.nearest_neighbors
    monkeypatch.setattr(
        mining, "nearest_neighbors", lambda *given, **more: [each[::-1] for each in real(*given, **more)]
    )
    assert call("mining") == BAD


def test_views_ahead_may_differ_as_much_as_equal_runs_do():
    equal = {"first differs": False, "differ": 0, "equal runs differ": 0}
    assert not ahead.wrong(equal)
    assert not ahead.wrong({**equal, "differ": 3, "equal runs differ": 5})
    assert ahead.wrong({**equal, "differ": 3})
    assert ahead.wrong({"first differs": True, "differ": 3, "equal runs differ": 5})


# Does it reach its figures


def test_documented_metrics_are_those_of_the_demonstration():
    found = digits.documented(digits.TABLE.read_text())
    assert found["kmeans_pixels"] == 0.822
    assert found["semisup.alternation"] == 0.984
    assert len(found) == 12
    assert not any("/" in model for model in found)


def test_a_model_that_is_much_lower_is_bad():
    assert digits.lower({"cluster": (0.94, 0.953), "self_label": (0.9, 0.962)}) == (
        "self_label 0.900, documented 0.962",
    )


def test_digits_run_by_the_stages_commands(call, parts, warm_bin, monkeypatch):
    monkeypatch.setattr(commands, "PROGRAM", [str(warm_bin / "sslpipe")])
    assert call("digits") == 0
    found = parts()["digits"]["facts"]
    assert found["metrics"].keys() == {"kmeans_pixels", "kmeans_features", "finetune.linear"}
    assert found["seconds"].keys() == {"prepare", "pretrain", "finetune-linear", "evaluate"}
    assert abs(found["metrics"]["kmeans_pixels"]["cluster_acc"] - 0.822) < 0.05


def test_all_stages_of_the_demonstration_are_run_in_order():
    names = [job.name for job in digits.jobs(Params(ROOT / "params.yaml"), "cuda")]
    assert names[:6] == ["prepare", "pretrain", "features", "mine-neighbors", "cluster", "self-label"]
    assert names[6:8] == ["semisup-supervised", "semisup-fixmatch"]
    assert names[-3:] == ["finetune-linear", "finetune-semisupervised", "evaluate"]


def test_lengths_are_what_fits():
    assert that_fit(900, 2.0, most=500) == 450
    assert that_fit(9000, 2.0, most=500) == 500
    assert that_fit(1, 2.0, most=500) == 1


def test_the_pace_is_that_of_the_last_interval(tmp_path):
    pace = tmp_path / "pace.csv"
    pace.write_text("step,epoch,seconds,lr\n10,1,60.0,1\n20,2,62.0,1\n30,3,64.5,1\n")
    assert steps_per_second(pace) == 4.0


def test_settings_are_the_recipes(plan, monkeypatch):
    real = Plan(CPU, False, plan.out, None, training_minutes=1.0, ends=plan.ends)
    path = plan.out / "params.yaml"
    cifar10.settings.write(path, cifar10.settings.recipe(cifar10.RECIPE), cifar10.replaced(real, Path("images")))
    written, recipe = Params(path).tree, cifar10.settings.recipe(cifar10.RECIPE).tree
    assert {key for key in recipe if written[key] != recipe[key]} == {"prepare"}
    few.settings.write(
        path, few.settings.recipe(few.RECIPE), {**cifar10.replaced(real, Path("i")), **few.changes(real)}
    )
    project = Params(path)
    for method in few.METHODS:
        own = few.settings.recipe(f"{method}-cifar10-40-short").tree["semisup"][method]
        block = project.tree["semisup"][method]
        assert {key for key in own if block[key] != own[key]} == {"head_init", "fit"}
        module = find_module("sslpipe.methods.semisup", method, where="semisup")
        assert project.parse_method(module.Settings, "semisup", method).fit.optimizer.lr == 0.01


STAGES = """\
    import json, os, signal, sys, time
    from pathlib import Path
    stage, options = sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2]))
    out = Path(options["--out"])
    with open("calls.txt", "a") as file:
        file.write(" ".join([str(out), options.get("--epochs", options.get("--set", ""))]).strip() + "\\n")
    begun = out.with_name(out.name + ".begun")
    if os.environ.get("SLOW") == str(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        signal.signal(signal.SIGINT, lambda *_: (begun.touch(), sys.exit(130)))
        print("trains", flush=True)
        time.sleep(60)
    if os.environ.get("FAILS") == str(out):
        sys.exit("error: no such class")
    pace = out.parent / "live" / out.name / "pace.csv"
    pace.parent.mkdir(parents=True, exist_ok=True)
    pace.write_text("step,seconds\\n1,9.0\\n2,9.5\\n3,10.0\\n")
    out.mkdir(parents=True)
    metric = {"acc": 0.9, "cluster_acc": 0.9, "nmi": 0.8, "ari": 0.7, "protocol": "split", "seed": 0}
    (out / "metrics.json").write_text(json.dumps({"self_label": metric, "semisup.fixmatch": metric}))
    (out / "store.json").write_text('{"train": 32}')
"""
"""A program that writes what a stage writes, two steps a second; it is stopped by SIGINT where SLOW says so."""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Take it for the stages; returns the calls so far: output and length."""
    path = tmp_path / "program.py"
    path.write_text("\n".join(line[4:] for line in STAGES.splitlines()))
    monkeypatch.setattr(commands, "PROGRAM", [sys.executable, "-S", str(path)])
    return lambda: (tmp_path / "out/cifar10/calls.txt").read_text().splitlines()


def test_lengths_are_fixed_before_the_start_and_by_the_budget(call, parts, program):
    # Two steps a second, two an epoch of 32 images: 0.6, 0.15 and 0.25 of 2 s.
    assert call("cifar10", "few", "--training-minutes", str(2 / 60)) == 0
    expected = ["runs/prepare", "runs/timing/pretrain 3", "runs/pretrain 1", "runs/features", "runs/mine-neighbors"]
    expected += ["runs/timing/cluster 3", "runs/cluster 1", "runs/timing/self-label 3", "runs/self-label 1"]
    calls = program()
    assert calls[:10] == [*expected, "runs/evaluate"]
    assert set(calls[10:12]) == {f"runs/timing/{method} fit.steps=4" for method in few.METHODS}
    # 0.3 of 2 s.
    assert set(calls[12:14]) == {f"runs/semisup/{method} fit.steps=1" for method in few.METHODS}
    assert calls[14:] == ["runs/finetune/linear", "runs/evaluate-few"]
    assert parts()["few"]["facts"]["metrics"]["semisup.fixmatch"]["acc"] == 0.9


def test_a_longer_budget_has_the_recipes_epochs_at_most(call, program):
    assert call("cifar10") == 0
    assert "runs/pretrain 3" in program()  # of the rehearsal's settings


def test_sigint_stops_a_training_and_the_next_call_goes_on(tmp_path, call, parts, program, monkeypatch):
    monkeypatch.setattr(commands, "SAVE_SECONDS", 30.0)  # so that 6 s are left
    monkeypatch.setenv("SLOW", "runs/pretrain")
    assert call("cifar10", "--minutes", str(36 / 60)) == AGAIN
    assert (tmp_path / "out/cifar10/runs/pretrain.begun").exists()
    assert parts()["cifar10"]["line"].startswith("pretrain stopped at the time limit")
    epochs = parts()["cifar10"]["facts"]["epochs"]
    monkeypatch.delenv("SLOW")
    assert call("cifar10") == 0
    # The timing is not done again, and the length is the same.
    assert program()[:4] == ["runs/prepare", "runs/timing/pretrain 3", *["runs/pretrain 3"] * 2]
    assert parts()["cifar10"]["facts"]["epochs"].items() >= epochs.items()


def test_a_stage_that_fails_is_said_by_its_last_line(call, parts, program, monkeypatch, capsys):
    monkeypatch.setenv("FAILS", "runs/cluster")
    assert call("cifar10") == BAD
    assert "cifar10: failed: cluster: error: no such class" in capsys.readouterr().out
    monkeypatch.delenv("FAILS")
    assert call("cifar10") == 0
    assert sum(line.startswith("runs/pretrain") for line in program()) == 1


def test_few_waits_for_the_network(call, parts, capsys):
    assert call("few") == 0  # to call again would not help
    assert not parts()["few"]["done"]
    assert "the part cifar10 has pretrained no network yet" in capsys.readouterr().out


def test_a_table_of_results_and_what_is_missing(tmp_path, call, capsys):
    metric = {"cluster_acc": 0.81234, "nmi": 0.7, "protocol": "split", "seed": 0}
    complete = {"done": True, "bad": [], "line": "", "minutes": 12.5}
    found = {
        "device": {**complete, "facts": {"device": "NVIDIA H200", "torch": "2.11"}},
        "cifar10": {**complete, "facts": {"metrics": {"self_label": metric}, "epochs": {"pretrain": 240}}},
        "same": {**complete, "bad": ["planted, float32: loss"], "facts": {}},
        "few": {**complete, "done": False, "line": "stopped", "facts": {}},
    }
    path = tmp_path / "out/results.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"setup": {"device": "cpu", "tiny": True}, "parts": found}))
    assert call("table") == 0
    printed = capsys.readouterr().out
    assert "| cifar10 | self_label | cluster_acc | 0.812 | split | 0 | 12.5 |" in printed
    assert "NVIDIA H200, torch 2.11; cifar10: epochs {'pretrain': 240}." in printed
    assert "missing: same: BAD: planted, float32: loss" in printed
    assert "missing: few: not complete: stopped" in printed
    assert "missing: waits: not begun" in printed


def test_every_part_is_a_module_and_is_documented():
    page = (ROOT / "docs/gpu.md").read_text()
    for name in PARTS:
        assert (ROOT / f"benchmarks/gpu/{name}.py").exists()
        assert f"`{name}`" in page
    assert callable(table.measure)
