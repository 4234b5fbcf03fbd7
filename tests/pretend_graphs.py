"""CUDA graphs of a device that is not there, see pretend_device.py.

A graph keeps the operations of its block and runs them again into the same tensors. As on a device, the block itself
computes nothing: afterwards its tensors hold garbage, what it writes to is unchanged and its generators have not
drawn.
"""

from contextlib import contextmanager

import torch
from pretend_streams import Event, Stream, only_views, tensors_in, written_by
from torch.utils._python_dispatch import _disable_current_modes

GARBAGE = {torch.bool: True, torch.uint8: 255}


class Graph:
    """Stands for `torch.cuda.CUDAGraph`."""

    def __init__(self, keep_graph=False):
        self._generators = [torch.default_generator]
        self._operations = []
        self._made = {}
        """Identity of a storage → the first tensor with it that the block made."""
        self._before = {}
        """Identity of a storage from before the block → its tensor and a copy of its values."""
        self._read, self._written = [], []
        self._captured = False

    def register_generator_state(self, generator):
        if generator.device.type != "cuda":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        self._generators.append(generator)

    def has(self, generator):
        return generator._cdata in [each._cdata for each in self._generators]

    def record(self, func, work, args, kwargs):
        """Run and keep an operation on the values that tensors hold; return its result."""
        written = written_by(func, args, kwargs)
        for tensor in written:
            self._keep(tensor)
        out = work(*args, **kwargs)
        if only_views(func):
            return out
        self._operations.append((work, args, kwargs, tensors_in(out)))
        if not func._schema.is_mutable:
            for tensor in tensors_in(out):
                self._made.setdefault(tensor.untyped_storage()._cdata, tensor)
        self._read += tensors_in([args, kwargs])
        self._written += written
        return out

    def _keep(self, tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in self._made and storage._cdata not in self._before:
            self._before[storage._cdata] = (storage, storage.clone())

    @contextmanager
    def captured(self):
        states = [generator.get_state() for generator in self._generators]
        yield
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)
        with _disable_current_modes():
            for storage, values in self._before.values():
                storage.copy_(values)
            for tensor in self._made.values():
                tensor.fill_(GARBAGE.get(tensor.dtype, float("nan") if tensor.is_floating_point() else -1))
        self._captured = True

    def replay(self):
        if not self._captured:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        outside = [each for each in self._read if each.untyped_storage()._cdata not in self._made]
        made = list(self._made.values())
        with torch.no_grad(), _disable_current_modes():
            self.streams.use("the replay of a graph", outside, [*self._written, *made], [])
            for work, args, kwargs, results in self._operations:
                again = tensors_in(work(*args, **kwargs))
                for tensor, value in zip(results, again, strict=True):
                    if tensor.untyped_storage()._cdata != value.untyped_storage()._cdata:
                        tensor.copy_(value)

    def pool(self):
        return (0, 0)

    def reset(self):
        self._operations.clear()
        self._captured = False


def replaced(pretence):
    """Name in torch.cuda → what stands for it."""
    streams = pretence.streams

    @contextmanager
    def graph(cuda_graph, pool=None, stream=None, capture_error_mode="global"):
        if pretence.graph is not None or stream is streams.default:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream, one at a time.")
        streams.synchronize()
        cuda_graph.streams = streams
        with streams.chosen(stream or Stream()), cuda_graph.captured():
            pretence.graph = cuda_graph
            try:
                yield
            finally:
                pretence.graph = None

    return {
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": graph,
        "stream": streams.chosen,
        "current_stream": lambda device=None: streams.current,
        "default_stream": lambda device=None: streams.default,
        "set_stream": lambda stream: setattr(streams, "current", stream),
        "synchronize": streams.synchronize,
        "is_current_stream_capturing": lambda: pretence.graph is not None,
        "graph_pool_handle": lambda: (0, 0),
    }
