"""What this machine has and what would be used, as text to paste into a bug report."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

from sslpipe.data.device import find_device
from sslpipe.nets.weights_packages import PACKAGES
from sslpipe.tools.yaml_text import shipped

GIGABYTE = 1e9
NO_COMMAND = "its command is not on PATH; 'sslpipe dvc repro' runs it"


def findings(folder: Path) -> list[tuple[str, str]]:
    """Return (name, what was found) of this machine and of the project in a folder."""
    return [
        ("sslpipe", f"{_version('sslpipe')}, from {shipped('recipes').parent}"),
        ("python", f"{platform.python_version()}, {platform.platform()}"),
        ("device", _device()),
        ("cores", f"{os.cpu_count()}, {torch.get_num_threads()} threads of torch"),
        ("disk", f"{shutil.disk_usage(folder).free / GIGABYTE:,.0f} GB free at {folder.resolve()}"),
        ("git", _program("git")),
        ("dvc", f"{_version('dvc')}, {'found' if shutil.which('dvc') else NO_COMMAND}"),
        *((name, _version(name)) for name in _required()),
        *((name, _extra(name)) for name in ("onnxruntime", "pi-heif", "pyarrow", "tensorboard", *_weights())),
        ("project", _project(folder)),
    ]  # fmt: skip


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _extra(name: str) -> str:
    found = _version(name)
    return f"{found} (an extra of sslpipe brings it)" if found == "not installed" else found


def _required() -> list[str]:
    """Return the packages that sslpipe needs on this machine, without those that have a line of their own."""
    parsed = map(Requirement, requires("sslpipe") or ())
    return [
        each.name for each in parsed if each.name != "dvc" and (not each.marker or each.marker.evaluate({"extra": ""}))
    ]


def _weights() -> list[str]:
    return [package.distribution for package in PACKAGES.values()]


def _device() -> str:
    cuda, count = torch.version.cuda, torch.cuda.device_count()
    cards = [f"{count} × {torch.cuda.get_device_name(0)}, CUDA {cuda}"] if torch.cuda.is_available() else []
    apple = ["an Apple GPU (mps)"] if torch.backends.mps.is_available() else []
    none = f"no GPU for torch {torch.__version__} (CUDA {cuda or 'not built in'})"
    return f"{', '.join(cards + apple) or none}; --device auto takes {find_device('auto').text}"


def _program(name: str) -> str:
    if not shutil.which(name):
        return "not found on PATH; 'dvc repro' needs it"
    done = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip().removeprefix(f"{name} version ") or f"'{name} --version' failed"


def _project(folder: Path) -> str:
    present = [name for name in ("params.yaml", "dvc.yaml", ".dvc", ".git") if (folder / name).exists()]
    where = f"in {folder.resolve()}"
    return f"{', '.join(present)} {where}" if present else f"none {where}; 'sslpipe init' makes one"
