"""What this process is told by its environment: its cores, and its number among those that train together."""

import os


def processes_started() -> int:
    """Return the number of processes that train together, as which this one was started, also by torchrun; 1: alone."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def own_number() -> int:
    """Return the number of this process among them, from 0."""
    return int(os.environ["RANK"]) if processes_started() > 1 else 0


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
