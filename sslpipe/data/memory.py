"""How much memory is free on a device, and whether images may be kept there."""

import os
from contextlib import suppress
from math import inf
from pathlib import Path

import torch

SHARES = {"cpu": 1 / 2, "cuda": 1 / 4, "mps": 1 / 4}
"""Type of a device → maximum share of its free memory for images that are kept on it. The rest is for a training step,
whose gradients and activations come after the images. A quarter of a GPU of 80 GB leaves 60 GB: enough for all
published recipes whose images fit (at most 12.2 GB; docs/cost-model.md, bytes). Half of a CPU's memory: own choice."""
GROUPS = {
    2: ("sys/fs/cgroup", "memory.max", "memory.current", ("active_file", "inactive_file")),
    1: (
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_active_file", "total_inactive_file"),
    ),
}
"""Version of Linux's control groups → their folder; the files of the limit and of the use; in memory.stat, the use by
files that were read or written, which is given up when memory is needed."""


def fits(size: int, device: torch.device, free: float) -> bool:
    """Return whether `size` bytes of images may be kept on a device with `free` bytes of free memory."""
    return size <= SHARES[device.type] * free


def free_memory(device: torch.device) -> float:
    """Return the number of bytes that are free on a device; on a CPU those of the machine and of control groups."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free)
    if device.type == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return host_memory(Path("/"))


def host_memory(root: Path) -> float:
    """Return the number of bytes that a process can still take. root: folder of proc and sys."""
    with suppress(OSError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024, _left_by_groups(root))
    # macOS does not say how much of its memory is free.
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return float(os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE"))


def _left_by_groups(root: Path) -> float:
    """Return the least number of bytes left below a limit of this process's control groups; inf without a limit."""
    left = inf
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            # In a container the path may be the one outside of it, of which the folders here are only the last ones.
            names = [name for name in path.split("/") if name not in ("", "..")]
            for depth in range(len(names) + 1):
                left = min(left, _left(root, 1 if controllers else 2, "/".join(names[:depth])))
    return left


def _left(root: Path, version: int, name: str) -> float:
    """Return the number of bytes left below the limit of one control group; inf if it has none."""
    folder, limit, used, caches = GROUPS[version]
    group = root / folder / name
    with suppress(OSError, ValueError):  # the limit may be the word max
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = sum(int(stat.get(cache, 0)) for cache in caches)
        return max(int((group / limit).read_text()) - int((group / used).read_text()) + cached, 0)
    return inf
