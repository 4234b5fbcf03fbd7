"""The programs of the environment that sslpipe is installed in, which need not be on PATH (pipx, uv tool)."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

FOLDER = Path(sys.executable).parent
"""Where the environment has its programs, sslpipe and dvc among them."""


def repro_command() -> str:
    """Return the command that runs the pipeline: without `dvc` or `sslpipe` on PATH, by sslpipe as it was called."""
    if shutil.which("dvc") and shutil.which("sslpipe"):
        return "dvc repro"
    return f"{'sslpipe' if shutil.which('sslpipe') else FOLDER / 'sslpipe'} dvc repro"


def run_dvc(arguments: Sequence[str]) -> int:
    """Run the environment's DVC and return its exit code; the commands of its stages find the environment's sslpipe."""
    command, environment = [sys.executable, "-m", "dvc", *arguments], with_own_programs(os.environ)
    if os.name == "posix":
        os.execve(sys.executable, command, environment)  # one process, so that signals reach DVC alone
    return subprocess.call(command, env=environment)


def with_own_programs(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment with the folder of the programs first on PATH."""
    return {**environment, "PATH": os.pathsep.join([str(FOLDER), environment.get("PATH", os.defpath)])}
