"""Streams and events of a device that is not there: work is done at once, and its order is checked.

Every stream counts its operations and knows how far it has waited for the others. An operation raises if it uses
memory that another stream has written, or writes memory that another stream has used, without a wait in between.
"""

import threading
from contextlib import contextmanager

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves


class Stream:
    """Stands for `torch.cuda.Stream`."""

    streams = None
    """The Streams of the pretence."""

    def __init__(self, device=None, priority=0):
        self.device = torch.device("cuda:0")
        self.done = 0
        """Number of operations that were given to the stream."""
        self.seen = {}
        """Other stream → number of its operations that this one has waited for."""
        self.streams.all.append(self)

    def state(self):
        """Stream → number of its operations that this one's next operation comes after."""
        return {**self.seen, self: self.done}

    def wait_stream(self, stream):
        self._wait(stream.state())

    def wait_event(self, event):
        self._wait(event.seen)

    def _wait(self, seen):
        for stream, done in seen.items():
            self.seen[stream] = max(done, self.seen.get(stream, 0))

    def record_event(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def query(self):
        return True

    def synchronize(self):
        self.streams.pretence.wait("stream", self.state())


class Event:
    """Stands for `torch.cuda.Event`."""

    streams = None

    def __init__(self, enable_timing=False, blocking=False, interprocess=False):
        self.seen = {}

    def record(self, stream=None):
        stream = stream or self.streams.current
        self.seen = stream.state()

    def wait(self, stream=None):
        (stream or self.streams.current).wait_event(self)

    def query(self):
        return True

    def synchronize(self):
        self.streams.pretence.wait("event", self.seen)

    def elapsed_time(self, end):
        return 1.0


def tensors_in(values):
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def written_by(func, args, kwargs):
    """The tensors that an operation writes to."""
    writes = [each.alias_info is not None and each.alias_info.is_write for each in func._schema.arguments]
    named = {each.name for each, is_written in zip(func._schema.arguments, writes, strict=True) if is_written}
    placed = [value for value, is_written in zip(args, writes, strict=False) if is_written]
    return tensors_in([placed, [value for name, value in kwargs.items() if name in named]])


def only_views(func):
    """Whether an operation returns a view and computes nothing."""
    return not func._schema.is_mutable and any(each.alias_info is not None for each in func._schema.returns)


class Streams:
    """The streams of a pretence, and who uses which memory; nothing is kept as long as there is one stream."""

    def __init__(self, pretence):
        self.pretence = pretence
        self.all = []
        Stream.streams = Event.streams = self
        self._threads = threading.local()
        self.default = Stream()
        self.default.done = 1
        self._used = {}
        """Identity of a storage → a weak reference to it, its last write, and its uses since: stream → number."""

    @property
    def current(self):
        """The stream that this thread gives its operations to."""
        return getattr(self._threads, "stream", self.default)

    @current.setter
    def current(self, stream):
        self._threads.stream = stream

    @contextmanager
    def chosen(self, stream):
        """Stands for `torch.cuda.stream`."""
        before, self.current = self.current, stream or self.current
        try:
            yield
        finally:
            self.current = before

    def host_has_waited(self, seen):
        """What the host gives to any stream from now on comes after these operations."""
        for stream in self.all:
            stream._wait(seen)

    def synchronize(self, device=None):
        """Stands for `torch.cuda.synchronize`."""
        self.pretence.wait("synchronize", {stream: stream.done for stream in self.all})

    def use(self, func, read, written, made):
        """Give an operation on tensors to the current stream; raises if it does not wait for another stream."""
        now = self.current
        now.done += 1
        for tensor in read:
            _, write, uses = self._entry(tensor)
            self._check(func, *write)
            uses[now] = now.done
        for tensor in written:
            for use in self._entry(tensor)[2].items():
                self._check(func, *use)
        for tensor in (*written, *made):
            self._entry(tensor)[1:] = (now, now.done), {}

    def _entry(self, tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in self._used:
            # The weak reference keeps the identity from being given to other memory.
            self._used[storage._cdata] = [StorageWeakRef(storage), (self.default, 1), {}]
        return self._used[storage._cdata]

    def _check(self, func, stream, done):
        now = self.current
        if stream is not now and done > now.seen.get(stream, 0):
            raise RuntimeError(f"{func}: a stream does not wait for what another one does with the same memory")
