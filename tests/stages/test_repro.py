"""The pipeline under DVC, in a copy of the repository with small budgets."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
OTHER_PRETEXTS = sorted({path.stem for path in (ROOT / "sslpipe/methods/pretrain").glob("[a-z]*.py")} - {"simclr"})
METHODS = {"semisup": ("supervised", "simmatch", "alternation"), "finetune": ("linear",)}


def run(*command, cwd):
    path = os.pathsep.join([str(cwd.parent / "bin"), str(BIN), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory, tiny, warm_bin):
    base = tmp_path_factory.mktemp("repro")
    (base / "bin").symlink_to(warm_bin)
    folder = base / "clone"
    for name in ("sslpipe", "stages", "dvc.yaml", ".gitignore", ".dvcignore", ".dvc/config"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for stage, names in METHODS.items():
        tiny = {**tiny, stage: {**tiny[stage], "methods": {name: tiny[stage]["methods"][name] for name in names}}}
    tiny = {**tiny, "report": {**tiny["report"], "map": False}}  # which takes most of its time
    (folder / "params.yaml").write_text(yaml.safe_dump(tiny))
    run("git", "init", "-q", cwd=folder)
    return folder


@contextmanager
def changed(repository, **values):
    """Other values in params.yaml for a while; keys are dotted, with __ for the dot."""
    params = yaml.safe_load((repository / "params.yaml").read_text())
    for key, value in values.items():
        *parents, name = key.split("__")
        block = params
        for part in parents:
            block = block[part]
        block[name] = value
    with rewritten(repository / "params.yaml", yaml.safe_dump(params)):
        yield


def edited(repository, name):
    """A comment more in a module for a while."""
    path = repository / "sslpipe" / f"{name}.py"
    return rewritten(path, path.read_text() + "# a thought\n")


@contextmanager
def rewritten(path, text):
    before = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)


def repro(repository, *targets):
    """The stages that `dvc repro` runs."""
    ran = re.findall(r"Running stage '(.*?)'", run("dvc", "repro", *targets, cwd=repository))
    assert len(set(ran)) == len(ran)
    return set(ran)


def stale(repository):
    """The stages of which a dep or a setting has changed; what hangs on their outputs is not among them yet."""
    return set(yaml.safe_load(run("dvc", "status", "--json", cwd=repository)))


def test_runs_what_changed_and_nothing_else(repository):
    unsupervised = {"prepare", "pretrain", "features", "mine-neighbors", "cluster", "self-label"}
    few_labels = {f"{stage}@{method}" for stage, methods in METHODS.items() for method in methods}
    assert repro(repository) == unsupervised | few_labels | {"evaluate", "report"}
    assert repro(repository) == set()

    # A stage depends on the folders of code that it imports.
    with edited(repository, "methods/semisup/simmatch"):
        assert stale(repository) == few_labels
    with edited(repository, "methods/finetune/supervised"):
        assert stale(repository) == {"finetune@linear"}
    with ExitStack() as stack:
        for pretext in OTHER_PRETEXTS:
            stack.enter_context(edited(repository, f"methods/pretrain/{pretext}"))
        assert stale(repository) == {"pretrain"}
    with edited(repository, "objectives/uda"):
        assert stale(repository) == {"pretrain", "cluster", "self-label"} | few_labels
    with edited(repository, "tools/predict"):
        assert stale(repository) == {"report"}  # which reads the provenance of the models, as inspect does
    # A method depends on its own settings.
    with changed(repository, semisup__alternation__radius=0.3, finetune__linear__iterations=100):
        assert stale(repository) == {"semisup@alternation", "finetune@linear", "evaluate", "report"}
    with changed(repository, cluster__scan__entropy_weight=3.0):
        assert stale(repository) == {"cluster", "evaluate", "report"}
    # Levels of groups need no training.
    with changed(repository, evaluate__groups=5):
        assert stale(repository) == {"evaluate", "report"}
        assert repro(repository, "evaluate") == {"evaluate"}
        assert "'merged_from': 10" in run("dvc", "metrics", "show", "--json", cwd=repository).replace('"', "'")
    assert repro(repository, "evaluate") == set()  # from DVC's cache
    with changed(repository, report__groups=5):
        assert stale(repository) == {"report"}
    with changed(repository, cluster__levels={"by": "means"}):
        assert stale(repository) == {"cluster", "evaluate", "report"}
    with changed(repository, pretrain__nce__temperature=0.2, semisup__uda__threshold=0.3):
        # evaluate refuses keys of these blocks that no stage reads, report shows all settings.
        assert stale(repository) == {"evaluate", "report"}

    with changed(repository, semisup__simmatch__threshold=0.5):
        assert repro(repository) == {"semisup@simmatch", "evaluate", "report"}
    assert repro(repository) == set()
    with changed(repository, prepare__labelled__fold=1):
        assert repro(repository, "prepare") == {"prepare"}
        assert stale(repository) == few_labels | {"evaluate", "report"}
    assert repro(repository) == set()
    with changed(repository, pretrain__method="nce"):
        assert repro(repository, "pretrain") == {"pretrain"}
        next_ones = {"features", "mine-neighbors", "cluster", "evaluate", "report"}  # self-label hangs on cluster
        assert stale(repository) == next_ones | few_labels - {"semisup@supervised"}
    assert repro(repository) == set()
    metrics = yaml.safe_load(run("dvc", "metrics", "show", "--json", cwd=repository))
    assert "cluster_acc" in str(metrics)
    assert "semisup.simmatch" in str(metrics)
