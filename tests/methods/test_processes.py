"""Every method, trained by several processes that share each batch, as by one process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from every_method import METHODS
from train_as_one import SEARCH, searched

ROOT = Path(__file__).parents[2]
ACROSS = [
    "pretrain/simclr",
    "pretrain/propos",
    "pretrain/swav",
    "cluster/scan",
    "semisup/fixmatch ctaugment alignment",
    "semisup/simmatch temporal",
    "semisup/suave",
    "semisup/alternation public",
]
"""Methods that compare images with each other, mix them or count over the batch."""
FAULTY = ["same draws", "same images", "no gathering", "own gradients", "own statistics"]
EXACT = [f"exact:{name}" for name in METHODS]
RECOMPUTED = "exact:recompute:pretrain/byol"
"""The teacher's batch norms have statistics of their own; the student's are computed twice."""
IN_FLOAT32 = [name for name in ACROSS if name != "semisup/alternation public"]
"""Not over fifteen steps, in which differences in rounding grow."""
STOPPED, RESUMED = "exact:stopped:pretrain/swav", "exact:resumed:pretrain/swav"
RUNS = {
    2: [STOPPED, *EXACT, *IN_FLOAT32, *(f"exact:{fault}:pretrain/simclr" for fault in FAULTY), RECOMPUTED],
    1: [RESUMED, *EXACT, *IN_FLOAT32],
    3: [SEARCH, RESUMED, *(f"exact:{name}" for name in ACROSS)],
}


def run_all(folder, count, runs, timeout="60"):
    """Start the processes; their exit codes."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}",
        "WORLD_SIZE": str(count),
        "SSLPIPE_MEETING": str(folder / "meeting"),
        "SSLPIPE_TIMEOUT": timeout,
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(Path(__file__).with_name("train_as_one.py")), str(folder), *runs]
    started = []
    for rank in range(count):
        with (folder / f"log{rank}").open("w") as log:
            started.append(subprocess.Popen(command, env=environment | {"RANK": str(rank)}, stdout=log, stderr=log))
    return [process.wait(timeout=300) for process in started]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """(Number of processes, run) → history and state."""
    folder = tmp_path_factory.mktemp("processes")
    found = {}
    for count, runs in RUNS.items():
        (folder / str(count)).mkdir()
        if RESUMED in runs:
            shutil.copytree(folder / "2/checkpoint", folder / str(count) / "checkpoint")
        codes = run_all(folder / str(count), count, runs)
        assert codes == [0] * count, (folder / str(count) / "log0").read_text()
        for run in runs:
            path = folder / str(count) / f"{run.replace('/', '-')}.pt"
            if run != SEARCH:
                found[count, run] = torch.load(path, weights_only=True)
    found[SEARCH] = [torch.load(folder / f"3/{SEARCH}{rank}.pt", weights_only=True) for rank in range(3)]
    return found


def distance(found, expected):
    """The largest difference of a term and of a value of the state, absolute, or relative to larger values."""
    (history, state), (wanted, other) = found, expected
    assert [row.keys() for row in history] == [row.keys() for row in wanted]
    assert state.keys() == other.keys()
    pairs = [
        *((torch.tensor(row[key]), torch.tensor(value)) for row, old in zip(history, wanted, strict=True)
          for key, value in old.items()),
        *((state[key], value) for key, value in other.items() if value.numel()),
    ]  # fmt: skip
    return max(float(((a.double() - b.double()).abs() / b.double().abs().clamp(min=1)).max()) for a, b in pairs)


@pytest.mark.parametrize(("count", "run"), [(count, run) for count in (2, 3) for run in RUNS[count] if run in RUNS[1]])
def test_the_result_is_that_of_one_process(results, count, run):
    found, expected = results[count, run], results[1, run]
    if run in EXACT:
        assert distance(found, expected) < 1e-9
    else:  # Adam makes steps of one size of gradients that are zero but for rounding
        assert distance((found[0], {}), (expected[0], {})) < 1e-5


def test_processes_that_divide_a_search_all_find_the_same(results):
    expected = searched(shared=False)
    for found in results[SEARCH]:
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_goes_on_where_two_were_stopped(results, count):
    assert distance(results[count, RESUMED], results[1, "exact:pretrain/swav"]) < 1e-9


def test_activations_are_recomputed_over_all_processes(results):
    assert distance(results[2, RECOMPUTED], results[1, "exact:pretrain/byol"]) < 1e-9


def test_the_terms_of_unlabelled_images_count(results):
    """A term that is zero would be equal however it is computed."""
    shares = [row["confident"] for run in EXACT for row in results[1, run][0] if "confident" in row]
    assert len(shares) > 5
    assert all(share > 0 for share in shares)


@pytest.mark.parametrize("fault", FAULTY)
def test_what_a_process_leaves_out_is_noticed(results, fault):
    assert distance(results[2, f"exact:{fault}:pretrain/simclr"], results[1, "exact:pretrain/simclr"]) > 1e-6


def test_a_process_that_skips_a_pass_ends_all(tmp_path):
    codes = run_all(tmp_path, 2, ["skipped pass:pretrain/simclr"], timeout="3")
    assert all(codes)
    assert "ProcessLostError" in (tmp_path / "log0").read_text()
