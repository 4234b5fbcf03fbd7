"""DVC in a process that ends with the one that started it: `python -m sslpipe.tools.dvc_process ARGUMENTS`.

Without this, `sslpipe repeat` ended by SIGKILL would leave `dvc repro` running.
"""

import sys

from sslpipe.engine.interrupts import ended_with_parent

if __name__ == "__main__":
    with ended_with_parent():
        from dvc.cli import main

        sys.exit(main(sys.argv[1:]))
