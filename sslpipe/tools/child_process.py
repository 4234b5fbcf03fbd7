"""Runs a module in a process that ends with the one that started it.

`python -m sslpipe.tools.child_process dvc repro` is `python -m dvc repro`. Without this, `sslpipe repeat` and `sslpipe
label` ended by SIGKILL would leave `dvc repro` running.
"""

import runpy
import sys

from sslpipe.io.interrupts import ended_with_parent

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    with ended_with_parent():
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
