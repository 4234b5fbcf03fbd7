"""Stages by several processes of one machine: the files of one process, and ends that leave nothing."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
NEXT = "all others were ended, the next run resumes from the last checkpoint"
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "SSLPIPE_TIMEOUT": "3"}


def begin(*arguments, **environment):
    """Start a command, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "stages", *map(str, arguments)],
        env={**os.environ, **ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def end(process):
    """Wait for a command; exit code, stdout, the lines of stderr, and seconds."""
    began = time.monotonic()
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err.splitlines(), time.monotonic() - began


def run(*arguments, **environment):
    return end(begin(*arguments, **environment))


def ranks():
    """Rank → number of the process of that rank, of those that run in this folder."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
                here = (folder / "cwd").readlink() == Path.cwd()
                ended = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            own = [value for value in variables if value.startswith(b"RANK=")]
            if own and here and not ended:
                found[int(own[0].removeprefix(b"RANK="))] = int(folder.name)
    return found


def wait_for_checkpoint():
    """Wait until a stage that has begun saves."""

    def times():
        return [path.stat().st_mtime_ns for path in Path(".sslpipe/checkpoints").glob("*/run.safetensors")]

    before, deadline = times(), time.monotonic() + 60
    while times() == before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_ends_a_process_ends_all_and_any_number_goes_on(project):
    command = ["pretrain", "--batch", 48, "--epochs", 3, "--checkpoint-seconds", 0]
    assert run(*command, "--out", "runs/alone")[0] == 0

    process = begin(*command, "--devices", 2)
    wait_for_checkpoint()
    os.kill(ranks()[1], signal.SIGKILL)
    code, _, err, seconds = end(process)
    assert (code, err) == (137, [f"process 1 of 2 was killed (SIGKILL); {NEXT}"])
    assert seconds < 10
    assert not ranks()

    process = begin(*command, "--devices", 3)
    wait_for_checkpoint()
    os.kill(ranks()[2], signal.SIGSTOP)
    code, out, err, seconds = end(process)
    assert "resumed after step" in out
    assert code == 1
    assert err == [
        "process 2 of 3 did not answer; all others were ended, the next run resumes from the last checkpoint"
    ]
    assert seconds < 20
    assert not ranks()

    process = begin(*command, "--devices", 2)
    wait_for_checkpoint()
    process.send_signal(signal.SIGINT)
    code, out, err, _ = end(process)
    assert code == 130
    assert re.search(r"stopped after step \d+ of \d+; the next run resumes after step", out)
    assert err == ["stopped by SIGINT"]
    assert not ranks()

    code, out, _, _ = run(*command)
    assert code == 0
    assert "resumed after step" in out
    losses = [
        [float(row["loss"]) for row in csv.DictReader((folder / "history.csv").read_text().splitlines())]
        for folder in (Path("runs/pretrain"), Path("runs/alone"))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # rounding grows from step to step


def test_features_are_those_of_one_process(project):
    before = {path: np.load(path) for path in Path("runs/features").rglob("features.npy")}
    code, out, err, _ = run("features", "--devices", 2, "--batch", 50)
    assert (code, err) == (0, [])
    assert out.count("features: 64 features of each") == 1
    for path, features in before.items():
        np.testing.assert_allclose(np.load(path).astype(float), features.astype(float), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrain", "--batch", 25], "pretrain.simclr.fit.batch: 25 found, expected a multiple of the 2 devices"),
        (["pretrain", "--batch", "x"], None),
        (["semisup", "--method", "fixmatch", "--set", "labelled_batch=21"],
         "semisup.fixmatch.labelled_batch: 21 found, expected a multiple of the 2 devices"),
    ],
)  # fmt: skip
def test_errors_of_the_user_are_said_once(project, arguments, message):
    code, _, err, _ = run(*arguments, SSLPIPE_DEVICES="2")
    assert code == 2
    assert message is None or err == [f"error: {message}"]


def test_a_loss_that_is_not_finite_ends_all_with_one_line(project):
    lr = "simclr.fit.optimizer.lr=1e30"
    code, _, err, _ = run("pretrain", "--batch", 48, "--epochs", 2, "--set", lr, "--devices", 2)
    assert code == 2
    assert len(err) == 1
    assert err[0].startswith("error: pretrain.simclr")
    assert not ranks()


def test_a_method_on_features_needs_one_device(project):
    expected = Path("runs/semisup/propagation/model.safetensors")
    code, _, err, _ = run("semisup", "--method", "propagation", "--devices", 2)
    assert (code, err) == (0, [])
    assert expected.exists()


def test_neighbors_are_those_of_one_process(project):
    before = {path: np.load(path) for path in Path("runs/mine-neighbors").rglob("indices.npy")}
    code, _, err, _ = run("mine-neighbors", SSLPIPE_DEVICES="2")
    assert (code, err) == (0, [])
    assert len(before) == 2
    for path, indices in before.items():
        np.testing.assert_array_equal(np.load(path), indices)
