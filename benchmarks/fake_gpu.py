"""A training step on a CUDA device that is not there: shapes, types and devices as on one, without values.

torch's FakeTensorMode makes tensors of which all but the values is known, and `recorded` lists the operations that
would run a kernel. Work on the CPU is done as usual, such as the order of an epoch. A value that is read from the
device is recorded as a wait and is 0.
"""

import linecache
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

import sslpipe
from benchmarks import fake_backward
from sslpipe.data.images import Images
from sslpipe.engine.optimizers import build_optimizer
from sslpipe.engine.trainer import Trainer

DEVICE = torch.device("cuda:0")
PACKAGE = str(Path(sslpipe.__file__).parent) + "/"
PARTS = ("views", "forward", "loss", "backward", "optimiser", "averages", "data")
"""Of a step; averages: all that follows the update, memories included. loss: what belongs to none of the others."""

WITHOUT_KERNEL = {
    *("view", "_unsafe_view", "_reshape_alias", "as_strided", "alias", "detach", "lift_fresh", "expand", "permute"),
    *("t", "transpose", "slice", "select", "split", "split_with_sizes", "unbind", "unfold", "diagonal", "squeeze"),
    *("unsqueeze", "unsafe_split", "unsafe_split_with_sizes", "empty", "empty_like", "empty_strided", "new_empty"),
    *("new_empty_strided", "set_", "resize_", "is_same_size", "view_as_real", "view_as_complex", "broadcast_to"),
}
"""Operations that change what is known of a tensor, or reserve memory."""
READERS = {"index", "index_select", "gather", "embedding"}
"""Operations that read as much of their first tensor as they write."""
WRITERS = {"index_put_", "_index_put_impl_", "index_copy_", "index_add_", "scatter_", "scatter_add_", "index_fill_"}
"""Operations that change as much of their first tensor as they are given."""
TENSORS = (110, 64, 48, 36, 30)
"""Tensors of each list in one kernel of `_foreach_` and fused operations, by the number of lists: torch's
MultiTensorApply.cuh."""


class Launch(NamedTuple):
    """An operation as the device is asked for it."""

    part: str
    name: str
    line: str
    """Innermost line of sslpipe, "path:number text"."""
    kernels: int
    bytes: float
    """What is read and written once each."""
    flops: float
    dtype: torch.dtype
    waits: bool = False
    """Whether the CPU waits for its result."""


class DeviceGenerator(torch.Generator):
    """A generator of the CPU that says it is on the device."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The device that is not there."""
        return DEVICE


class Recorder(TorchDispatchMode):
    """Records what the device is asked for; entered after a FakeTensorMode."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[Launch] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name().split("::")[1].split(".")[0]
        given = _tensors((args, kwargs))
        from_device = any(t.device.type == "cuda" for t in given)
        to_device = torch.device(kwargs.get("device") or "cpu").type == "cuda"
        if name in ("is_pinned", "_pin_memory", "pin_memory"):
            return name == "is_pinned" or args[0]  # to pin memory needs a driver
        if not from_device and not to_device:
            with no_dispatch():
                return func(*args, **kwargs)
        asks = name == "_local_scalar_dense" or (name == "_to_copy" and from_device and _is_cpu(kwargs.get("device")))
        if asks:
            with no_dispatch():
                out: Any = torch.zeros(given[0].shape, dtype=kwargs.get("dtype") or given[0].dtype)
                out = out.item() if name == "_local_scalar_dense" else out
            self._add(func, name, args, kwargs, given, [given[0]], waits=True)
            return out
        if name == "index" and any(each is not None and each.dtype == torch.bool for each in args[1]):
            # As many rows as the mask could choose.
            out = args[0].new_empty((args[1][0].numel(), *args[0].shape[args[1][0].ndim :]))
            self._add(func, name, args, kwargs, given, [out], waits=True)
            return out
        out = None if name.startswith("_fused_") else func(*args, **kwargs)
        waits = name == "_to_copy" and not from_device and bool(given) and not kwargs.get("non_blocking")
        if func.namespace != "prim" and name not in WITHOUT_KERNEL:
            self._add(func, name, args, kwargs, given, _tensors(out), waits=waits)
        return out

    def _add(
        self, func: Any, name: str, args: Any, kwargs: Any, given: list[Tensor], made: list[Tensor], *, waits: bool
    ) -> None:
        """Append what was asked for."""
        flops = 0.0
        if func._overloadpacket in flop_registry:
            out = made[0] if len(made) == 1 else tuple(made)
            if name == "convolution_backward":
                out = _gradients(args, made)
            flops = float(flop_registry[func._overloadpacket](*args, **kwargs, out_val=out))
        part, line = _called_from()
        dtype = next((t.dtype for t in given if t.is_floating_point()), torch.float32)
        self.launches.append(
            Launch(part, name, line, kernels(name, args), _bytes(name, given, made), flops, dtype, waits)
        )


def _gradients(args: Any, made: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the outputs of a convolution's backward, None where its mask asks for none."""
    left = iter(made)
    return tuple(next(left, None) if asked else None for asked in args[-1])


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _is_cpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cpu"


def kernels(name: str, args: Any) -> int:
    """Return how many kernels an operation runs: 1, but for lists of tensors.

    Fused optimisers take many tensors in a kernel; so do `_foreach_` operations whose lists agree in shapes, strides
    and types, and otherwise each tensor has a kernel of its own.
    """
    if not name.startswith(("_foreach_", "_fused_", "_amp_foreach")):
        return 1
    lists = [each for each in args if isinstance(each, (list, tuple)) and each and isinstance(each[0], Tensor)]
    if name.startswith("_foreach_"):
        forms = [[(t.shape, t.stride(), t.dtype) for t in each] for each in lists]
        if any(form != forms[0] for form in forms):
            return len(lists[0])
    return -(-len(lists[0]) // TENSORS[min(len(lists), len(TENSORS)) - 1])


def _size(tensor: Tensor) -> int:
    """Return the bytes of a tensor's own values, those along expanded dimensions once."""
    return tensor.element_size() * prod(n for n, step in zip(tensor.shape, tensor.stride(), strict=True) if step)


def _bytes(name: str, given: list[Tensor], made: list[Tensor]) -> float:
    """Return what an operation reads and writes."""
    if name in READERS and given:
        return sum(map(_size, given[1:])) + 2 * sum(map(_size, made))
    if name in WRITERS:
        return sum(map(_size, given[1:])) + 2 * sum(map(_size, given[-1:]))
    if name.startswith("_fused_"):
        return 2 * sum(map(_size, given))
    return sum(map(_size, given)) + sum(map(_size, made))


def _called_from() -> tuple[str, str]:
    """Return the part of the step that the current operation belongs to, and the innermost line of sslpipe."""
    frame, line, found = sys._getframe(2), "", set()
    while frame is not None:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        if path.startswith(PACKAGE):
            path = path.removeprefix(PACKAGE)
            line = line or f"{path}:{frame.f_lineno} {linecache.getline(PACKAGE + path, frame.f_lineno).strip()}"
            found.add(_part(path, name))
        elif path == fake_backward.__file__:
            found.add("backward")
        elif "/torch/optim/" in path:
            found.add("optimiser")
        frame = frame.f_back
    order = ("backward", "views", "averages", "data", "optimiser", "forward")
    return next((part for part in order if part in found), "loss"), line


def _part(path: str, function: str) -> str:
    """Return the part of a step that a function of the package belongs to, "" if that is not known."""
    if path.startswith("views/") or function in ("views", "draw_views"):
        return "views"
    if function == "after_step" or (path == "nets/averaged.py" and function == "update"):
        return "averages"
    if path.startswith("data/") and not path.endswith("world.py"):
        return "data"
    if path == "engine/optimizers.py":
        return "optimiser"
    return "forward" if path.startswith("nets/") else ""


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Have the device within the block; the list fills with what it is asked for."""
    import torch._dynamo  # which FakeTensorMode imports, at length

    recorder = Recorder()
    with ExitStack() as stack:
        # Both ask for a driver.
        stack.enter_context(patch.object(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False))
        stack.enter_context(patch.object(torch.cuda, "is_bf16_supported", lambda *_, **__: True))
        stack.enter_context(patch.object(torch.autograd, "backward", fake_backward.backward))
        for cached in _caches():
            stack.callback(cached.cache_clear)  # what they keep exists only within the block
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(recorder)
        yield recorder.launches


def _caches() -> list[Any]:
    """Return the functions of sslpipe that keep tensors of a device."""
    modules = [module for name, module in sys.modules.items() if name.startswith("sslpipe.views.")]
    return [value for module in modules for value in vars(module).values() if hasattr(value, "cache_clear")]


def on_device(trainer: Trainer) -> Trainer:
    """Move a trainer that was built on the CPU, with all that it holds; only within `recorded`."""
    unlabelled = getattr(trainer.batches, "unlabelled", trainer.batches)
    assert unlabelled.images.resident is not None  # in memory now, so that it is moved, too
    _moved(trainer, {})
    trainer._drawing._of_batches = torch.Generator()  # batches are drawn on the CPU
    trainer.optimizer = build_optimizer(trainer.settings.optimizer, trainer.method, trainer.method.rate)
    return trainer


def _moved(thing: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """Return what stands for a thing on the device; objects are changed in place.

    done: id → the thing, and what stands for it.
    """
    if id(thing) in done:
        return done[id(thing)][1]
    new = thing
    if isinstance(thing, Tensor):
        new = torch.empty_strided(thing.shape, thing.stride(), dtype=thing.dtype, device=DEVICE)
        new = nn.Parameter(new, thing.requires_grad) if isinstance(thing, nn.Parameter) else new
    elif isinstance(thing, torch.device):
        new = DEVICE
    elif isinstance(thing, torch.Generator):
        new = DeviceGenerator()
    done[id(thing)] = (thing, new)
    if isinstance(thing, dict):
        thing.update({key: _moved(value, done) for key, value in thing.items()})
    elif type(thing) in (list, tuple):
        new = type(thing)(_moved(value, done) for value in thing)
    elif isinstance(thing, nn.Module) or (type(thing).__module__.startswith("sslpipe.") and hasattr(thing, "__dict__")):
        # As Module.to does, a tensor that is neither weight nor buffer stays where it is.
        stays = Tensor if isinstance(thing, nn.Module) else ()
        vars(thing).update({k: v if isinstance(v, stays) else _moved(v, done) for k, v in vars(thing).items()})
    if isinstance(thing, Images):
        vars(thing)["_resident"] = torch.empty(thing.array.shape, dtype=torch.uint8, device=DEVICE)
    done[id(thing)] = (thing, new)
    return new
