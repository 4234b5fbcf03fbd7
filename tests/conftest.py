import os

# As the command line does; read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
if "PYTEST_XDIST_WORKER" in os.environ:
    # A core each: processes whose threads share the cores wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

LONGEST = ("test_docs.py", "test_repro.py")
"""Files that begin first: the others fill the time of the process that is done earlier."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)
