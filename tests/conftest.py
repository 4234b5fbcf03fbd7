import os
import signal

import pytest
from hypothesis import settings

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

LONGEST = ("test_docs.py", "test_repro.py")
"""Files that start first, so that the processes end at about the same time."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def one_thread():
    """Published networks on few images: torch's threads would wait for one another."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
