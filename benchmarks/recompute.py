"""What recomputed activations (network.recompute) spare in memory and cost in time: a forward and backward alone.

Each case has a process of its own. Its peak memory is that above its start, with gradients and what the C library's
allocator has not given back.
"""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from benchmarks.mining import peak_of
from benchmarks.report import Options, Table
from sslpipe.nets.network import BackboneSettings

CASES: tuple[tuple[dict[str, Any], int, int], ...] = (
    ({"name": "vit_small_16"}, 224, 16),
    ({"name": "resnet50", "stem": "imagenet"}, 224, 8),
)
"""Settings of a backbone, side of its images in pixels, images in a batch."""


def step(settings: dict[str, Any], side: int, batch: int) -> dict[str, float]:
    """One thread of the CPU: CPU seconds of a forward and backward, GB kept in between, and the peak above."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone, images = BackboneSettings(**settings).build(3).train(), torch.rand(batch, 3, side, side)
    images = images.contiguous(memory_format=torch.channels_last)
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def work() -> None:
        backbone.zero_grad(set_to_none=True)
        backbone(images).mean().backward()

    peak, _ = peak_of(lambda: (work(), work()))
    began = time.process_time()
    work()
    return {"seconds": time.process_time() - began, "kept": kept(backbone, images), "peak": peak}


def kept(backbone: nn.Module, images: Tensor) -> float:
    """GB that a forward keeps for its backward, beside weights and buffers."""
    held = {}

    def keep(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = backbone(images)
    own = {each.untyped_storage().data_ptr() for each in (*backbone.parameters(), *backbone.buffers())}
    del output
    return sum(storage.nbytes() for key, storage in held.items() if key not in own) / 1e9


def in_process(settings: dict[str, Any], side: int, batch: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.recompute", json.dumps([settings, side, batch])]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def measure(options: Options) -> list[Table]:
    rows = []
    for settings, side, batch in CASES:
        side, batch = (64, 2) if options.quick else (side, batch)
        both = [in_process({**settings, "recompute": each}, side, batch) for each in (False, True)]
        values = [each[name] for name in ("kept", "peak", "seconds") for each in both]
        rows.append([settings["name"], side, batch, *values, both[1]["seconds"] / both[0]["seconds"]])
    pairs = [column for name in ("kept, GB", "peak, GB", "step, CPU s") for column in (name, "recomputed")]
    note = "CPU, one thread, float32; a process each; forward and backward alone."
    return [Table("Recomputed activations", ["network", "side, px", "batch", *pairs, "ratio"], rows, note)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", help="as JSON: settings, side, batch")
    print(json.dumps(step(*json.loads(parser.parse_args().case))))
