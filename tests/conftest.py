import fcntl
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
from warm import start_commands

# A shell's job in the background ignores SIGINT, and one under nohup SIGHUP; tests and their processes inherit that.
for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if (number := getattr(signal, name, None)) and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# As the command line does; read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
if "PYTEST_XDIST_WORKER" in os.environ:
    # A core each: processes whose threads share the cores wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test depends on how fast the machine is.
settings.register_profile("sslpipe", deadline=None, max_examples=50)
settings.load_profile("sslpipe")

LONGEST = (
    "test_docs.py",
    "test_nothing_learned.py",  # makes the project of tests/stages, which others would wait for
    "test_whole_way.py",
    "test_browser.py",
    "test_export.py",
    "test_recipes.py",
    "test_repro.py",
)
"""Files that start first, in this order, so that the processes end at about the same time."""


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session")
def warm_bin(tmp_path_factory):
    """A folder for PATH with `sslpipe` and `dvc` that need no time to start. The processes of a run share it."""
    base, run = tmp_path_factory.getbasetemp(), os.getpid()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base, run = base.parent, os.getppid()
    with (base / "warm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "warm/server").exists():
            start_commands(Path(__file__).parents[1], base / "warm", until=run)
    return base / "warm"


@pytest.fixture
def warm_python(warm_bin, monkeypatch):
    """DVC needs no time to start in this process, where `init` runs it by `sys.executable`."""
    monkeypatch.setattr(sys, "executable", str(warm_bin / "python"))


@pytest.fixture
def one_thread():
    """Published networks on few images: torch's threads would wait for one another."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
