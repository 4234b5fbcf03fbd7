"""A CUDA device that is not there, for code that cannot have one: `with pretend_cuda() as pretence`.

What it cannot know: whether a kernel of CUDA gives the same numbers, how long anything takes, how much memory is used,
and whether the host writes to pinned memory before its copy is done, since all is done at once. Some of
torch's operations wait within their kernels, linear algebra above all, which no dispatcher sees; torch's own backward
pass, NCCL and compiled code do not run.
"""

import threading
from contextlib import ExitStack, contextmanager, nullcontext
from unittest import mock

import pretend_tensors
import torch
import torch._dynamo  # optimisers load it, which fails while functions that it knows are replaced
from pretend_backward import backward
from pretend_counts import Pretence
from pretend_graphs import replaced
from pretend_streams import Streams
from pretend_tensors import DEVICE as DEVICE
from pretend_tensors import DeviceTensor, Factories, Generators
from torch import Tensor


@contextmanager
def pretend_cuda():
    """Let `torch.device("cuda")` exist within the block; yields the Pretence."""
    pretend_tensors.NOW = pretence = Pretence()
    pretence.streams = Streams(pretence)
    with ExitStack() as stack:
        for owner, names in _replaced(pretence).items():
            for name, value in names.items():
                stack.enter_context(mock.patch.object(owner, name, value, create=True))
        stack.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
        before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # else torch.tensor(…, device="cuda") calls the driver
        stack.callback(torch._C._set_only_lift_cpu_tensors, before)
        torch._C._ensureCUDADeviceGuardSet()
        stack.enter_context(Factories())
        try:
            yield pretence
        finally:
            pretend_tensors.NOW = None


def _replaced(pretence):
    """Owner → its attributes in the pretence."""

    def pin_memory(tensor, device=None):
        if isinstance(tensor, DeviceTensor):
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        return tensor if pretence.is_pinned(tensor) else pretence.pin(tensor.clone())

    run_of_thread = threading.Thread.run

    def run(thread):
        with Factories():
            run_of_thread(thread)

    return {
        threading.Thread: {"run": run},
        torch.cuda.amp.common: {"amp_definitely_not_available": lambda: False},
        torch: {
            "Generator": Generators,
            # Modules keep their parameters where only the format changes.
            "_has_compatible_shallow_copy_type": lambda a, b: (
                isinstance(a, DeviceTensor) == isinstance(b, DeviceTensor)
            ),
        },
        Tensor: {
            "backward": backward,
            "pin_memory": pin_memory,
            "is_pinned": lambda t, device=None: pretence.is_pinned(t),
        },
        torch.cuda: {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "is_bf16_supported": lambda *_, **__: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "set_device": lambda device: None,
            "device": lambda device: nullcontext(),
            "get_device_name": lambda device=None: "a pretended device",
            "get_device_capability": lambda device=None: (9, 0),
            "mem_get_info": lambda device=None: (pretence.free, 80 << 30),
            "empty_cache": lambda: None,
            "max_memory_allocated": lambda device=None: 0,
            "reset_peak_memory_stats": lambda device=None: None,
            # Draws without a generator are those of the CPU's.
            "manual_seed_all": lambda seed: None,
            "get_rng_state": lambda device=None: torch.get_rng_state(),
            "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
            **replaced(pretence),
        },
    }
