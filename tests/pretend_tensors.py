"""Tensors that say cuda:0 and hold their values on the CPU, and what CUDA lets be done with them.

Operations of two devices raise, and so do generators of the other device; reads of values and blocking copies are
counted with the line of sslpipe that asks for them.
"""

import torch
from pretend_counts import Pretence
from pretend_streams import only_views, tensors_in, written_by
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE, HOST = torch.device("cuda:0"), torch.device("cpu")
aten = torch.ops.aten
BY_INDEX = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
"""Operations whose indices may be on the CPU, and which read a value if one of them is a mask."""
READING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


NOW: Pretence | None = None
"""The pretence in whose block the process is."""


class DeviceTensor(Tensor):
    """A tensor that says cuda:0. held: its values, a tensor on the CPU of the same shape, strides and type."""

    @staticmethod
    def __new__(cls, held):
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})

    def __deepcopy__(self, memo):
        copy = DeviceTensor(self.held.clone()).requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copy._is_param = True
        memo[id(self)] = copy
        return copy

    def __repr__(self):
        return f"DeviceTensor({self.held})"

    def __format__(self, form):
        return format(self.item() if self.ndim == 0 else repr(self), form)

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value):
        Tensor.data.__set__(self, value)
        self.held = value.held

    def tolist(self):
        NOW.wait("tolist")
        return self.held.tolist()

    def record_stream(self, stream):
        pass


class DeviceGenerator(torch.Generator):
    """A generator that says cuda:0 and draws what one of the CPU draws from the same seed."""

    device = DEVICE

    def manual_seed(self, seed):
        if NOW.graph is not None:
            raise RuntimeError("Cannot call CUDAGeneratorImpl::set_current_seed during CUDA graph capture.")
        return super().manual_seed(seed)


class _Generators(type):
    kind = torch.Generator

    def __call__(cls, device="cpu"):
        if torch.device(device).type != "cuda":
            return cls.kind()
        made = DeviceGenerator()
        NOW.generators[made._cdata] = made
        return made

    def __instancecheck__(cls, thing):
        return isinstance(thing, cls.kind)


class Generators(metaclass=_Generators):
    """Stands for `torch.Generator`."""


class Factories(TorchDispatchMode):
    """Sees all operations: those that make tensors of nothing or of tensors on the CPU as well."""

    @classmethod
    def _should_skip_dynamo(cls):
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


def run(func, args, kwargs):
    """Run an operation on the values that the tensors hold."""
    name = func.__name__.partition(".")[0]
    leaves = []
    for value in (*args, *kwargs.values()):
        leaves += value if isinstance(value, (list, tuple)) else (value,)
    on_device = [leaf for leaf in leaves if type(leaf) is DeviceTensor]
    on_host = [leaf for leaf in leaves if type(leaf) is not DeviceTensor and isinstance(leaf, Tensor)]
    asked = kwargs.get("device")
    to_device = bool(on_device) if asked is None else torch.device(asked).type == "cuda"
    _check_generators(leaves, to_device)
    if on_device or to_device:
        if on_device and on_host:
            _check_devices(func, name, args, on_host)
        to_device = _count(func, name, args, kwargs, on_device, to_device)
    plain_args = [_converted(_held, value) for value in args]
    plain_kwargs = {key: _converted(_held, value) for key, value in kwargs.items()}
    if asked is not None:
        plain_kwargs["device"] = HOST
    pins = plain_kwargs.pop("pin_memory", None)
    if not on_device and not to_device:
        out = func(*plain_args, **plain_kwargs)
        return NOW.pin(out) if pins else out
    if name == "set_" and plain_args[0] is plain_args[1]:  # torch's parametrizations set a weight to itself
        return args[0]
    if torch.Tag.inplace_view in func.tags:
        raise NotImplementedError(f"{func} of a pretended tensor")
    work = ON_CUDA_ALONE.get(name, func)
    if NOW.graph is not None and to_device:
        out = NOW.graph.record(func, work, plain_args, plain_kwargs)
    else:
        out = work(*plain_args, **plain_kwargs)
        if len(NOW.streams.all) > 1 and not only_views(func):
            _use_memory(func, on_device, plain_args, plain_kwargs, out)
    if not to_device or out is None:
        return out
    given = {id(tensor.held): tensor for tensor in on_device}

    def on_the_device(value):
        return (given[id(value)] if id(value) in given else DeviceTensor(value)) if isinstance(value, Tensor) else value

    return _converted(on_the_device, out)


def _use_memory(func, on_device, args, kwargs, out):
    """Check the order of an operation and those of other streams; where the host waits, it has seen them."""
    written = written_by(func, args, kwargs)
    made = [] if func._schema.is_mutable else tensors_in(out)
    NOW.streams.use(func, [tensor.held for tensor in on_device], written, made)


def _held(value):
    return value.held if type(value) is DeviceTensor else value


def _converted(convert, value):
    """A value, or those in a list of an operation's arguments or results, converted."""
    return type(value)(map(convert, value)) if type(value) in (list, tuple) else convert(value)


def _check_devices(func, name, args, on_host):
    """Raise as CUDA does where operands are on two devices."""
    if name in ("copy_", "_to_copy"):
        return
    sizes = [tensor.ndim for tensor in on_host]
    if name in BY_INDEX and isinstance(args[0], DeviceTensor):
        values = args[2:3] if "put" in name else ()
        if all(isinstance(value, DeviceTensor) or value.ndim == 0 for value in values):
            return
    written = isinstance(args[0], Tensor) and not isinstance(args[0], DeviceTensor) and func._schema.is_mutable
    if any(sizes) or written or torch.Tag.pointwise not in func.tags:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu ({func})")


def _check_generators(leaves, on_device):
    """Raise as CUDA does if a generator is not on the device where it draws."""
    for leaf in leaves:
        if isinstance(leaf, _Generators.kind):
            own, other = ("cuda", "cpu") if on_device else ("cpu", "cuda")
            if on_device != (leaf._cdata in NOW.generators):
                raise RuntimeError(f"Expected a '{own}' device type for generator but found '{other}'")
            if NOW.graph is not None and on_device and not NOW.graph.has(leaf):
                raise RuntimeError("Attempt to draw from a generator that is not registered with the captured graph")


def _count(func, name, args, kwargs, on_device, to_device):
    """Count what the host waits for; return whether the result is on the device."""
    if name in ("copy_", "_to_copy"):
        source = args[1] if name == "copy_" else args[0]
        to_device = isinstance(args[0], DeviceTensor) if name == "copy_" else to_device
        from_device = isinstance(source, DeviceTensor)
        without_wait = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        if from_device and not to_device:
            if not without_wait or (name == "copy_" and not NOW.is_pinned(args[0])):
                NOW.wait("copy to the host")
        elif to_device and not from_device:
            if without_wait and NOW.is_pinned(source):
                NOW.pinned_copies += 1
            else:
                NOW.blocking_copy("without non_blocking" if not without_wait else "memory that is not pinned")
    elif name in BY_INDEX:
        index = [each for each in args[1] if each is not None]
        masks = any(each.dtype in (torch.bool, torch.uint8) for each in index)
        # torch fills by masked_fill where one value is put by one mask.
        fills = "put" in name and len(index) == 1 and args[2].numel() == 1 and not any(args[3:4])
        if masks and not fills:
            NOW.wait("mask")
        if any(not isinstance(each, DeviceTensor) for each in index):
            NOW.blocking_copy("indices on the CPU")
    elif READING & set(func.tags) and on_device:
        if not (name == "repeat_interleave" and kwargs.get("output_size") is not None):
            NOW.wait(name)
    elif name == "_linalg_check_errors":
        NOW.wait(name)
    return to_device


def _batch_norm(x, weight, bias, mean, var, training, momentum, epsilon):
    return *aten.native_batch_norm(x, weight, bias, mean, var, training, momentum, epsilon), torch.empty(0)


def _batch_norm_backward(x, gradient, weight, mean, var, saved_mean, saved_var, epsilon, reserve):
    every = [True] * 3
    return aten.native_batch_norm_backward(gradient, x, weight, mean, var, saved_mean, saved_var, True, epsilon, every)


ON_CUDA_ALONE = {
    "cudnn_batch_norm": _batch_norm,
    "cudnn_batch_norm_backward": _batch_norm_backward,
    "_fused_sdp_choice": lambda *_, **__: 0,  # attention by its formula
}
"""Operations that torch chooses for CUDA tensors and does not have for the CPU."""
