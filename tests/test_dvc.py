"""dvc.yaml against the import graph: every file that a stage reaches is a dep, and no dep is one too many."""

import copy
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from import_closure import ROOT, closure, named_packages, stages, value_at


def methods_of(stage):
    return sorted(path.stem for path in (ROOT / "sslpipe/methods" / stage).glob("[a-z]*.py"))


def params_with_every_method():
    """params.yaml, those methods listed as well that the demonstration leaves out."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for stage in ("semisup", "finetune"):
        for method in methods_of(stage):
            entry = {"start": "pretrain", "base": "supervised", "objective": method}
            params[stage]["methods"].setdefault(method, entry)
    return params


PARAMS = params_with_every_method()
STAGES = stages(PARAMS)
CHOICES = {"prepare": "prepare.source", "pretrain": "pretrain.method"}
"""Stage → key that names the module it finds; semisup and finetune find the one after the @."""
SOURCES = sorted(path.stem for path in (ROOT / "sslpipe/sources").glob("[a-z]*.py"))
CASES = [
    *((stage, {}) for stage in STAGES),
    *(("pretrain", {"pretrain.method": method}) for method in methods_of("pretrain")),
    *(("prepare", {"prepare.source": source}) for source in SOURCES),
    *(("semisup@alternation", {"semisup.methods.alternation.base": base}) for base in ("fixmatch", "mixmatch", "uda")),
    *(("semisup@fixmatch", {"semisup.methods.fixmatch.start": start}) for start in ("prepare", "self-label")),
]


def chosen(choice):
    """params.yaml with other values at some dotted keys."""
    params = copy.deepcopy(PARAMS)
    for key, value in choice.items():
        block, name = key.rsplit(".", 1)
        value_at(params, block)[name] = value
    return params


def code_deps(stage, params):
    """A set: the same file is there twice where a method's base is the one that all have, which DVC allows."""
    return {Path(dep) for dep in stages(params)[stage]["deps"] if not dep.startswith("runs/")}


def reached(stage, params):
    """The closure of the stage's own file, of the module that it finds by name and of the one that this one finds."""
    name, _, method = stage.partition("@")
    own = Path("stages", name.replace("-", "_") + ".py")
    module = method or (value_at(params, CHOICES[name]) if name in CHOICES else "")
    found = closure({own} | found_by_name(own, module))
    if method:
        base = params[name]["methods"][method]["base"]
        found |= closure({file for path in found - {own} for file in found_by_name(path, base)})
    return found


def found_by_name(path, module):
    return {Path(package.replace(".", "/"), f"{module}.py") for package in named_packages(path)}


def uncovered(files, deps):
    return {file for file in files if not any(file == dep or dep in file.parents for dep in deps)}


@pytest.mark.parametrize(("stage", "choice"), CASES)
def test_every_file_that_a_stage_reaches_is_a_dep(stage, choice):
    params = chosen(choice)
    assert uncovered(reached(stage, params), code_deps(stage, params)) == set()


@pytest.mark.parametrize(("stage", "choice"), CASES)
def test_no_dep_can_be_deleted_and_all_are_there(stage, choice):
    params = chosen(choice)
    deps, files = code_deps(stage, params), reached(stage, params)
    for dep in deps:
        assert (ROOT / dep).exists()
        assert uncovered(files, deps - {dep}), f"{dep} is not reached by {stage}"


def test_a_folder_is_listed_whole_only_where_its_files_change_together():
    folders = {dep for stage in STAGES for dep in code_deps(stage, PARAMS) if (ROOT / dep).is_dir()}
    names = {"io", "data", "engine", "nets", "neighbors", "views", "methods/parts", "methods/pretext"}
    assert folders <= {Path("sslpipe", name) for name in names}


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
    of_all = {"seed", "protocol", "network"} | (
        {"semisup.methods", "finetune.methods"} if stage == "evaluate" else set()
    )
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


@pytest.mark.parametrize("stage", ["semisup", "finetune"])
def test_every_method_has_a_block_of_settings(stage):
    assert set(PARAMS[stage]) - {"methods"} == set(methods_of(stage))


def test_what_a_method_starts_from_is_an_output():
    outs = {out for stage in STAGES.values() for out in stage["outs"]}
    for name in ("semisup", "finetune"):
        assert {f"runs/{entry['start']}" for entry in PARAMS[name]["methods"].values()} <= outs
