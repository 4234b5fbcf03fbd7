"""dvc.yaml against the import graph: every file that a stage reaches is a dep, and no dep is one too many."""

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from import_closure import ROOT, closure, named_packages

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
CHOICES = {"sslpipe.sources": "prepare.source", "sslpipe.methods.pretrain": "pretrain.method"}
METHODS = sorted(path.stem for path in (ROOT / "sslpipe/methods/pretrain").glob("[a-z]*.py"))
SOURCES = sorted(path.stem for path in (ROOT / "sslpipe/sources").glob("[a-z]*.py"))
CASES = [
    *((stage, {}) for stage in STAGES),
    *(("pretrain", {"pretrain.method": method}) for method in METHODS),
    *(("prepare", {"prepare.source": source}) for source in SOURCES),
]


def chosen(key, choice):
    stage, name = key.split(".")
    return choice.get(key, PARAMS[stage][name])


def resolved(text, choice):
    for key in CHOICES.values():
        text = text.replace("${" + key + "}", chosen(key, choice))
    return text


def code_deps(stage, choice):
    return [Path(dep) for line in STAGES[stage]["deps"] if not (dep := resolved(line, choice)).startswith("runs/")]


def reached(stage, choice):
    own = Path("stages", stage.replace("-", "_") + ".py")
    found = {
        Path(package.replace(".", "/"), chosen(CHOICES[package], choice) + ".py") for package in named_packages(own)
    }
    return closure({own} | found)


def uncovered(files, deps):
    return {file for file in files if not any(file == dep or dep in file.parents for dep in deps)}


@pytest.mark.parametrize(("stage", "choice"), CASES)
def test_every_file_that_a_stage_reaches_is_a_dep(stage, choice):
    assert uncovered(reached(stage, choice), code_deps(stage, choice)) == set()


@pytest.mark.parametrize(("stage", "choice"), CASES)
def test_no_dep_can_be_deleted_and_all_are_there(stage, choice):
    deps, files = code_deps(stage, choice), reached(stage, choice)
    for dep in deps:
        assert (ROOT / dep).exists()
        rest = [other for other in deps if other != dep]
        assert uncovered(files, rest), f"{dep} is not reached by {stage}"


def test_a_folder_is_listed_whole_only_where_its_files_change_together():
    folders = {dep for stage in STAGES for dep in code_deps(stage, {}) if (ROOT / dep).is_dir()}
    names = {"io", "data", "engine", "nets", "neighbors", "views"}
    assert folders <= {Path("sslpipe", name) for name in names}


def test_the_name_law():
    for stage, content in STAGES.items():
        module = stage.replace("-", "_")
        assert content["cmd"] == f"sslpipe {stage}"
        assert content["outs"] == [f"runs/{stage}"]
        assert (ROOT / "stages" / f"{module}.py").is_file()
        assert module in PARAMS
        assert (ROOT / "tests" / "stages" / f"test_{module}.py").is_file()
    files = {path.stem for path in (ROOT / "stages").glob("[a-z]*.py")}
    assert files == {stage.replace("-", "_") for stage in STAGES}


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_stage_is_run_again_for_its_own_settings_only(stage):
    blocks = {param.split(".")[0] for param in STAGES[stage]["params"]}
    assert stage.replace("-", "_") in blocks
    assert blocks <= {stage.replace("-", "_"), "seed", "protocol", "network"}
