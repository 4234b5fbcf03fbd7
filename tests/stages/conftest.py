import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from math import inf
from pathlib import Path

import pytest
import yaml

from benchmarks.kills import Forked
from sslpipe.running import watching
from stages.__main__ import app
from stages.cluster import cluster
from stages.evaluate import evaluate
from stages.features import features
from stages.finetune import finetune
from stages.mine_neighbors import mine_neighbors
from stages.prepare import prepare
from stages.pretrain import pretrain
from stages.report import report
from stages.self_label import self_label
from stages.semisup import semisup

ROOT = Path(__file__).parents[2]
RUNNING = {
    "prepare": prepare,
    "pretrain": pretrain,
    "features": features,
    "mine-neighbors": mine_neighbors,
    "cluster": cluster,
    "self-label": self_label,
    "semisup": semisup,
    "finetune": finetune,
    "evaluate": evaluate,
    "report": report,
}
WITH_METHODS = ("semisup", "finetune")
BRIEF = {"epochs": 2, "batch": 240}
SHORT = {"epochs": 2, "batch": 128}
SMALL = {"hidden": 32, "outputs": 16, "local_views": {"size": 6}, "local_crops": 1, "queue": 240, "fit": BRIEF}
TINY = {
    "prepare": {"size": 8},
    "pretrain": {
        **{
            name: {"fit": SHORT} for name in ("simclr", "nce", "moco", "byol", "rotnet", "feature_decoupling", "propos")
        },
        **{name: {"prototypes": 20, "hidden": 32, "outputs": 16, "fit": SHORT} for name in ("swav", "dino")},
    },
    "mine_neighbors": {"k": 6},
    "cluster": {"compare": {"images": 200}, "scan": {"fit": SHORT}},
    "self_label": {"confident": {"threshold": 0.1, "fit": SHORT}},
    "semisup": {
        "methods": {  # those that the demonstration leaves out
            "mixmatch": {"start": "pretrain"},
            "uda": {"start": "self-label"},
            "propagation": {"start": "pretrain"},
            "voting_probes": {"start": "pretrain"},
        },
        **{method: {"fit": BRIEF} for method in ("supervised", "fixmatch", "mixmatch", "uda")},
        "simmatch": {"hidden": 32, "outputs": 16, "fit": BRIEF},
        "suave": SMALL,
        "daino": {key: value for key, value in SMALL.items() if key != "queue"},
        "alternation": {"ssl_epochs": 1, "fit": BRIEF},
        "propagation": {},
        "voting_probes": {},
    },
    "finetune": {
        "methods": {"supervised": {"start": "pretrain"}},
        "supervised": {"fit": BRIEF},
        "semisupervised": SMALL,
    },
    "evaluate": {"restarts": 10},
}


def merged(base, extra):
    """`extra` laid over `base`, block by block."""
    both = {
        k: merged(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v for k, v in extra.items()
    }
    return {**base, **both}


def tiny_params():
    """params.yaml with small budgets, and with settings of the methods that it leaves out."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for path in sorted((ROOT / "recipes").glob("digits-*.yaml")):
        pretrain = yaml.safe_load(path.read_text())["pretrain"]
        params["pretrain"][pretrain["method"]] = pretrain[pretrain["method"]]
    few = {**params["semisup"]["supervised"], "head_init": "logistic"}
    params["semisup"] |= {"mixmatch": few, "uda": {**few, "strong": params["semisup"]["fixmatch"]["strong"]}}
    params["finetune"]["supervised"] = merged(few, {"fit": {"optimizer": {"lr": 1.0e-3}}})
    return merged(params, TINY)


OPENED = {}
"""Stage, such as cluster or semisup@fixmatch → files under runs/ that it opened to read."""
_now = []


def _listen(event, arguments):
    if event == "open" and _now and isinstance(arguments[0], str) and arguments[1] in ("r", "rb", None):
        if arguments[1] is None and arguments[2] & os.O_WRONLY:
            return
        path = Path(arguments[0])
        path = path.relative_to(_now[1]) if path.is_absolute() and path.is_relative_to(_now[1]) else path
        OPENED.setdefault(_now[0], set()).add(path)


sys.addaudithook(_listen)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A project's folder in which every stage has run once, shortly. Not to be changed.

    The processes of a run of the tests share it: the first that needs it makes it, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, listed = shared / "project", shared / "opened.json"
    with (shared / "project.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not listed.exists():
            shutil.rmtree(folder, ignore_errors=True)  # another process has failed to make it
            opened = run_stages(folder)
            listed.write_text(json.dumps({stage: sorted(map(str, paths)) for stage, paths in opened.items()}))
    return folder


def run_stages(folder):
    """Run every stage in a new project; stage → files under runs/ that it opened to read."""
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(tiny_params(), sort_keys=False))
    before = Path.cwd()
    os.chdir(folder)
    # The kNN accuracy of a slow run would open labels, which no stage but those listed in dvc.yaml reads otherwise.
    after, watching.AFTER = watching.AFTER, inf
    try:
        for name, stage in RUNNING.items():
            if name not in WITH_METHODS:
                _now[:] = [name, folder]
                stage()
                continue
            for method in tiny_params()[name]["methods"]:
                _now[:] = [f"{name}@{method}", folder]
                stage(method=method)
    finally:
        _now.clear()
        watching.AFTER = after
        os.chdir(before)
    return OPENED


@pytest.fixture(scope="session")
def opened(finished):
    """Stage, such as cluster or semisup@fixmatch → files under runs/ that it opened to read."""
    found = json.loads((finished.parent / "opened.json").read_text())
    return {stage: {Path(path) for path in paths} for stage, paths in found.items()}


@pytest.fixture(scope="session")
def tiny():
    """params.yaml with budgets of seconds."""
    return tiny_params()


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """A copy of the finished project as the working folder, to be changed at will."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def sslpipe():
    """Run the command line as a user does."""

    def run(*arguments, **kwargs):
        command = [sys.executable, "-m", "stages", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **kwargs)

    return run


@pytest.fixture
def killed_and_resumed():
    """Run a stage whole, kill it once it has saved and run it again: it went on, and ends with the same files."""

    def check(weights, *arguments):
        def start():
            return Forked([*arguments, "--checkpoint-seconds", "0"], Path.cwd(), Path("output"))

        assert start().wait() == 0
        expected = {path.name: path.read_bytes() for path in weights.parent.iterdir()}
        process = start()
        deadline = time.monotonic() + 60
        while not list(Path(".sslpipe/checkpoints").glob(f"{arguments[0]}-*/run.safetensors")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert start().wait() == 0
        assert "resumed after step" in Path("output").read_text()
        assert {path.name: path.read_bytes() for path in weights.parent.iterdir()} == expected
        assert not list(Path("runs").rglob(".*"))

    return check


@pytest.fixture
def at_once(capsys):
    """As `sslpipe`, within this process, which takes no time to start; exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            app([*map(str, arguments)])
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(at_once):
    """Run a command that is a user's mistake: exit code 2; the one line on stderr."""

    def run(*arguments):
        code, _, err = at_once(*arguments)
        assert (code, len(err.splitlines())) == (2, 1), err
        return err

    return run


@pytest.fixture(scope="session")
def read_csv():
    """The rows of a CSV file."""

    def read(path):
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    return read
