"""How much memory counts as free, from copies of Linux's files, and what share of it images may take."""

from math import inf

import numpy as np
import pytest
import torch

from sslpipe.data import images as module
from sslpipe.data import memory
from sslpipe.data.images import Images

GB = 10**9


@pytest.fixture
def root(tmp_path):
    """A machine of which 10 GB are available, without control groups."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemFree: 2 kB\nMemAvailable: {10 * GB // 1024} kB\n")
    return tmp_path


def group(folder, limit, used, cached, version):
    """A control group whose use has so many bytes of files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    prefix = "" if version == 2 else "total_"
    (folder / "memory.stat").write_text(f"anon 5\n{prefix}inactive_file {cached}\n{prefix}active_file 0\n")


def test_what_the_machine_says_is_available(root):
    assert memory.host_memory(root) == pytest.approx(10 * GB, abs=1024)


@pytest.mark.parametrize(
    ("version", "line", "folder"),
    [
        (2, "0::/box/job", "sys/fs/cgroup/box/job"),
        (2, "0::/box/job", "sys/fs/cgroup/box"),  # the limit of the group above
        (2, "0::/../other", "sys/fs/cgroup"),  # in a container
        (1, "4:cpu,memory:/box/job", "sys/fs/cgroup/memory/box"),
        (1, "4:memory:/outside/the/container", "sys/fs/cgroup/memory"),
    ],
)
def test_a_limit_of_a_control_group_counts(root, version, line, folder):
    (root / "proc/self/cgroup").write_text(f"7:pids:/box\n{line}\n")
    group(root / folder, 6 * GB, 3 * GB, 1 * GB, version)
    assert memory.host_memory(root) == 4 * GB
    group(root / folder, 2 * GB, 3 * GB, 0, version)
    assert memory.host_memory(root) == 0


@pytest.mark.parametrize("limit", ["max", str(2**63 - 4096)])
def test_no_limit(root, limit):
    (root / "proc/self/cgroup").write_text("0::/box\n4:memory:/box\n")
    group(root / "sys/fs/cgroup/box", limit, GB, 0, 2)
    group(root / "sys/fs/cgroup/memory/box", limit, GB, 0, 1)
    assert memory.host_memory(root) == pytest.approx(10 * GB, abs=1024)


def test_this_machine():
    assert 0 < memory.free_memory(torch.device("cpu")) < inf


@pytest.mark.parametrize(("device", "most"), [("cpu", 5 * GB), ("cuda", 2.5 * GB), ("mps", 2.5 * GB)])
def test_a_share_of_what_is_free(device, most):
    assert memory.fits(int(most), torch.device(device), 10 * GB)
    assert not memory.fits(int(most) + 1, torch.device(device), 10 * GB)


def test_a_line_says_that_images_do_not_fit(tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "images.npy", np.zeros((20, 3, 4, 4), np.uint8))
    monkeypatch.setattr(module, "free_memory", lambda device: 1900.0)
    images = Images(np.load(tmp_path / "images.npy", mmap_mode="r"), torch.device("cpu"))
    for _ in range(2):
        assert images[torch.tensor([3])].shape == (1, 3, 4, 4)
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert line.startswith("images: 9.6e-07 GB are more than 50% of the 1.9e-06 GB of memory that are free on cpu")
    assert "prepare.store: jpeg" in line
    monkeypatch.setattr(module, "free_memory", lambda device: 1920.0)
    again = Images(images.array, torch.device("cpu"))
    assert again.resident is not None
    assert not capsys.readouterr().out
