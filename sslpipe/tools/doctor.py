"""What this machine has and what would be used, as text to paste into a bug report."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

from sslpipe.data.device import choose_device, precision
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
    if choose_device("auto").type != "cuda":
        built = f"CUDA {torch.version.cuda or 'not built in'}"
        return f"no CUDA device for torch {torch.__version__} ({built}); --device auto takes cpu, float32"
    cards = f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}"
    return f"{cards}; --device auto takes cuda, {str(precision()).removeprefix('torch.')}"


def _program(name: str) -> str:
    if not shutil.which(name):
        return "not found on PATH; 'dvc repro' needs it"
    done = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip().removeprefix(f"{name} version ") or f"'{name} --version' failed"


def _project(folder: Path) -> str:
    present = [name for name in ("params.yaml", "dvc.yaml", ".dvc", ".git") if (folder / name).exists()]
    where = f"in {folder.resolve()}"
    return f"{', '.join(present)} {where}" if present else f"none {where}; 'sslpipe init' makes one"
