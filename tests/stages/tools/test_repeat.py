"""`sslpipe repeat` on a project of two stages that take no time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[3]
PRETRAIN = """
import pathlib, sys, time, yaml
seed = yaml.safe_load(open("params.yaml"))["seed"]
image = int(pathlib.Path("data/images/0.txt").read_text())
log = pathlib.Path(sys.argv[1])
try:
    with log.open("a") as file:
        file.write(f"pretrain {seed}\\n")
    time.sleep(30 if log.with_name("slow").exists() else 0)
except KeyboardInterrupt:
    with log.open("a") as file:
        file.write(f"saved {seed}\\n")
    sys.exit(130)
pathlib.Path("runs/pretrain").mkdir(parents=True)
pathlib.Path("runs/pretrain/model").write_text(str(image * seed))
"""
EVALUATE = """
import json, pathlib, sys, yaml
params = yaml.safe_load(open("params.yaml"))
with open(sys.argv[1], "a") as file:
    file.write("evaluate\\n")
if params["evaluate"]["wrong"]:
    sys.exit("error: evaluate.wrong: True found, expected False")
acc = float(pathlib.Path("runs/pretrain/model").read_text()) / 100 + params["prepare"]["labelled"]["fold"] / 10
row = {"acc": acc, "protocol": "split", "seed": params["seed"], "images": 9}
pathlib.Path("runs/evaluate").mkdir(parents=True)
metrics = {"semisup.fixmatch": {**row, "labels": 40}, "linear": {**row, "acc": 0.5}}
pathlib.Path("runs/evaluate/metrics.json").write_text(json.dumps(metrics))
"""
PIPELINE = {
    "pretrain": {
        "cmd": "python code/pretrain.py {log}",
        "deps": ["code/pretrain.py", "data/images"],
        "params": ["seed"],
        "outs": ["runs/pretrain"],
    },
    "evaluate": {
        "cmd": "python code/evaluate.py {log}",
        "deps": ["code/evaluate.py", "runs/pretrain/model"],
        "params": ["seed", "prepare.labelled.fold", "evaluate"],
        "outs": ["runs/evaluate"],
    },
}
PARAMS = {"seed": 9, "prepare": {"labelled": {"per_class": 4}}, "evaluate": {"wrong": False}}


class Project:
    """A folder under DVC, and what its stages did."""

    def __init__(self, folder, warm):
        """warm: path of an `sslpipe` that needs no time to start."""
        self.folder, self.log, self.warm = folder, folder.parent / "log", warm
        stages = {name: {**stage, "cmd": stage["cmd"].format(log=self.log)} for name, stage in PIPELINE.items()}
        self.write("dvc.yaml", yaml.safe_dump({"stages": stages}))
        self.write("params.yaml", yaml.safe_dump(PARAMS))
        self.write("code/pretrain.py", PRETRAIN)
        self.write("code/evaluate.py", EVALUATE)
        self.write("data/images/0.txt", "10")
        self.write(".dvc/config", "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n")

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def command(self, *arguments, program=(sys.executable, "-m", "stages")):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [*program, "repeat", *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def repeat(self, *arguments, code=0):
        """What the command printed, stdout and stderr; it needs no time to start."""
        process = self.command(*arguments, program=[self.warm])
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, out + err
        return out, err

    def wait_for_a_stage(self):
        for _ in range(300):
            if self.log.exists() and self.log.read_text():
                return
            time.sleep(0.1)

    def did(self):
        """What the stages did since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def project(tmp_path, warm_bin):
    return Project(tmp_path / "project", warm_bin / "sslpipe")


def test_runs_every_combination_and_aggregates_them(project, read_csv):
    out, _ = project.repeat("--seeds", "2,1", "--folds", "0,3", "--name", "first")
    # A seed's pretraining is done once for its folds, by way of the shared cache.
    assert project.did() == ["pretrain 2", "evaluate", "evaluate", "pretrain 1", "evaluate", "evaluate"]
    assert not (project.folder / "runs" / "evaluate").exists()
    assert "seed 2, fold 3 (2 of 4): running, log in .sslpipe/repeats/first/seed2-fold3/repro.log" in out
    assert "2 folds × 2 seeds, protocol split, 40 labels" in out
    assert "0.300 ± 0.183" in out  # 0.2, 0.5, 0.1, 0.4

    summary = json.loads((project.folder / "runs/repeat/summary.json").read_text())
    assert summary["settings"] == {"name": "first", "seeds": [2, 1], "folds": [0, 3], "set": []}
    assert summary["models"]["semisup.fixmatch"]["acc"] == {
        "mean": pytest.approx(0.3),
        "std": pytest.approx((0.1 / 3) ** 0.5),
        "n": 4,
        "min": pytest.approx(0.1),
        "max": pytest.approx(0.5),
    }
    assert summary["models"]["linear"]["acc"]["std"] == 0
    rows = read_csv(project.folder / "runs/repeat/runs.csv")
    assert len(rows) == 8
    keys = ("model", "seed", "fold", "labels", "images")
    assert [rows[2][key] for key in keys] == ["semisup.fixmatch", "2", "3", "40", "9"]
    assert float(rows[2]["acc"]) == pytest.approx(0.5)

    # What is done stays done; a further fold costs its own part only.
    out, _ = project.repeat("--seeds", "1", "--folds", "0,3,4", "--name", "first", "--metric", "acc")
    assert project.did() == ["evaluate"]
    assert "3 folds × 1 seed" in out
    # Changed data is seen through the link to it, in all folders.
    project.write("data/images/0.txt", "20")
    project.repeat("--seeds", "1", "--name", "first")
    assert project.did() == ["pretrain 1", "evaluate"]


def test_a_run_that_fails_is_one_line_and_the_next_call_goes_on(project):
    out, err = project.repeat("--seeds", "1,2", "--set", "evaluate.wrong=true", code=2)
    assert project.did() == ["pretrain 1", "evaluate"]
    log = ".sslpipe/repeats/default/seed1-fold0/repro.log"
    told = "evaluate.wrong: True found, expected False"
    assert err == f"error: seed 1, fold 0: dvc repro failed: {told}; its output is in {log}\n"
    assert "Running stage 'pretrain'" in (project.folder / log).read_text()
    assert not (project.folder / "runs").exists()

    out, _ = project.repeat("--seeds", "1,2")
    assert project.did() == ["evaluate", "pretrain 2", "evaluate"]
    assert "1 fold × 2 seeds" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupt_lets_the_stage_save_and_ends(project, number):
    slow = project.folder.parent / "slow"
    slow.touch()
    process = project.command("--seeds", "1,2", "--target", "pretrain")
    project.wait_for_a_stage()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert project.did() == ["pretrain 1", "saved 1"]
    assert "seed 1, fold 0 (1 of 2): stopped; the same command continues from here" in out
    assert "Traceback" not in err

    slow.unlink()
    out, _ = project.repeat("--seeds", "1,2", "--target", "pretrain")
    assert project.did() == ["pretrain 1", "pretrain 2"]
    assert "no table: evaluate is not among the targets" in out
    assert not (project.folder / "runs").exists()


def test_dvc_ends_when_the_command_is_killed(project):
    (project.folder.parent / "slow").touch()
    process = project.command("--seeds", "1", "--target", "pretrain")
    project.wait_for_a_stage()
    (dvc,) = psutil.Process(process.pid).children()
    stage = dvc.children(recursive=True)
    process.kill()
    process.communicate()
    try:
        dvc.wait(10)
    finally:
        for left in stage:  # a stage of sslpipe would have ended with DVC
            left.kill()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0;1"], "--seeds: '0;1' found"),
        (["--folds", "x"], "--folds: 'x' found"),
        (["--metric", "accc"], "--metric: unknown name 'accc'"),
        (["--name", "../x"], "--name: '../x' found"),
    ],
)
def test_a_users_mistake_is_one_line(project, arguments, message):
    _, err = project.repeat(*arguments, code=2)
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not (project.folder / ".sslpipe").exists()


@pytest.mark.parametrize("missing", ["dvc.yaml", ".dvc"])
def test_no_project_is_one_line(project, missing):
    (project.folder / missing).rename(project.folder / "gone")
    _, err = project.repeat(code=2)
    assert err.startswith(f"error: {missing}: not found; run sslpipe repeat in a DVC project")
    assert err.count("\n") == 1
