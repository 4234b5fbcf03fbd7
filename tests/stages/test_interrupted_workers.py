"""A signal to all processes of a command that decodes in several: one line, and nothing is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    # They take several seconds, so that no signal comes after the last one.
    Image.fromarray(rng.integers(0, 256, (700, 700, 3), dtype=np.uint8)).save(folder / "images/0.png")
    for i in range(1, 600):
        os.link(folder / "images/0.png", folder / f"images/{i}.png")
    (folder / "params.yaml").write_text("prepare: {source: folder, folder: {path: images}, size: 32, channels: 3}")
    return folder


@pytest.mark.parametrize("seconds", [0.1, 0.8])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_nothing_is_left_and_one_line_is_printed(photographs, name, seconds, warm_bin):
    program = [sys.executable, "-m", "stages"] if name == "SIGINT" else [warm_bin / "sslpipe"]
    command = [*program, "prepare", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=photographs, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0
    ) as process:
        while not (photographs / "runs/.prepare.partial").exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(seconds)  # while the others start, and while they decode
        os.killpg(process.pid, getattr(signal, name))
        # The pipe ends with the last process.
        assert process.stderr.read().decode() == f"stopped by {name}\n"
        assert process.wait() == 128 + getattr(signal, name)
    assert not list((photographs / "runs").iterdir())
