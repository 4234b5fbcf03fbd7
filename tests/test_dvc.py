"""dvc.yaml against the import graph: a stage depends on the folders of the code that it imports, and on no others."""

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from import_closure import ROOT, closure, stages, value_at

from sslpipe.io.stages import SHARED_KEYS, TRAINING_STAGES, key_of
from sslpipe.io.stages import STAGES as STAGE_NAMES


def methods_of(stage):
    return sorted(path.stem for path in (ROOT / "sslpipe/methods" / stage).glob("[a-z]*.py"))


def params_with_every_method():
    """params.yaml, those methods listed as well that the demonstration leaves out."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for stage in ("semisup", "finetune"):
        for method in methods_of(stage):
            params[stage]["methods"].setdefault(method, {"start": "pretrain"})
            params[stage].setdefault(method, {})
    return params


PARAMS = params_with_every_method()
STAGES = stages(PARAMS)
FOUND_BY_NAME = {"prepare": "sslpipe/sources"} | {
    stage: f"sslpipe/methods/{key_of(stage)}" for stage in TRAINING_STAGES
}
"""Stage → folder in which it finds a module by name."""


def code_deps(stage):
    return [Path(dep) for dep in STAGES[stage]["deps"] if not dep.startswith("runs/")]


def dep_of(file):
    """The dep that covers a file: its folder, below sslpipe/methods its stage's; a file that lies in none itself."""
    depth = 3 if file.parts[:2] == ("sslpipe", "methods") else 2
    return Path(*file.parts[:depth])


def reached(stage):
    """The closure of the stage's own file and of every module that it may find by its name."""
    name = stage.partition("@")[0]
    start = {Path("stages", name.replace("-", "_") + ".py")}
    if name in FOUND_BY_NAME:
        folder = ROOT / FOUND_BY_NAME[name]
        start |= {path.relative_to(ROOT) for path in folder.glob("*.py") if path.name != "__init__.py"}
    return closure(start)


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_folders_of_what_a_stage_imports(stage):
    deps = code_deps(stage)
    assert len(set(deps)) == len(deps)
    assert set(deps) == {dep_of(file) for file in reached(stage)}


def test_the_name_law():
    for stage, content in STAGES.items():
        name, _, method = stage.partition("@")
        module = name.replace("-", "_")
        assert content["cmd"] == f"sslpipe {name}" + (f" --method {method}" if method else "")
        assert content["outs"] == [f"runs/{name}/{method}" if method else f"runs/{name}"]
        assert (ROOT / "stages" / f"{module}.py").is_file()
        assert module in PARAMS
        assert (ROOT / "tests" / "stages" / f"test_{module}.py").is_file()
        if method:
            assert (ROOT / "sslpipe" / "methods" / module / f"{method}.py").is_file()
    files = {path.stem for path in (ROOT / "stages").glob("[a-z]*.py")}
    assert files == {stage.partition("@")[0].replace("-", "_") for stage in STAGES}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if "@" not in stage])
def test_a_stage_is_run_again_for_its_own_settings_only(stage):
    own = stage.replace("-", "_")
    of_all = {"seed", "protocol", "network"} | (set(map(key_of, TRAINING_STAGES)) if stage == "evaluate" else set())
    of_all |= set(map(key_of, STAGE_NAMES)) - {"report"} if stage == "report" else set()
    rest = set(STAGES[stage]["params"]) - of_all
    assert own in {param.partition(".")[0] for param in rest}
    assert {param.partition(".")[0] for param in rest} == {own}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if "@" in stage])
def test_a_method_is_run_again_for_its_own_settings_only(stage):
    name, _, method = stage.partition("@")
    assert STAGES[stage]["params"] == ["seed", "network", f"{name}.methods.{method}", f"{name}.{method}"]


@pytest.mark.parametrize("stage", STAGES)
def test_the_settings_a_stage_hangs_on_are_all_there(stage):
    for param in STAGES[stage]["params"]:
        value_at(PARAMS, param)  # DVC stops where a key is missing


def test_params_hold_what_runs_and_nothing_else():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for stage in ("semisup", "finetune"):
        assert set(params[stage]) - {"methods"} == set(params[stage]["methods"])
    for stage in ("pretrain", "cluster", "self_label"):
        assert set(params[stage]) == {"method", *SHARED_KEYS.get(stage, ()), params[stage]["method"]}
    assert "&" not in (ROOT / "params.yaml").read_text()


def test_what_a_method_starts_from_is_an_output():
    outs = {out for stage in STAGES.values() for out in stage["outs"]}
    for name in ("semisup", "finetune"):
        assert {f"runs/{entry['start']}" for entry in PARAMS[name]["methods"].values()} <= outs
