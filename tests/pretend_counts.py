"""What a host asks of a device that is not there, counted by the lines of sslpipe that ask."""

import linecache
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sslpipe

FOLDER = str(Path(sslpipe.__file__).parent)


@dataclass
class Pretence:
    """What the host asked of the device, and what there is of it."""

    waits: Counter = field(default_factory=Counter)
    """Line of sslpipe → number of times it read a value, copied to the host or waited for a stream or an event."""
    copies: Counter = field(default_factory=Counter)
    """Line of sslpipe → number of its copies to the device that were not from pinned memory, or not non-blocking."""
    pinned_copies: int = 0
    """Number of copies to the device that the host does not wait for."""
    free: int = 80 << 30
    """Bytes of free memory that `torch.cuda.mem_get_info` returns."""
    folder: str = FOLDER
    """Lines of files below this folder are named."""
    streams: Any = None
    """Its streams, see pretend_streams.py."""
    graph: Any = None
    """The graph that is being captured, see pretend_graphs.py."""
    generators: dict = field(default_factory=dict)
    """Identity of a generator → the generator, for those of the device."""
    pinned: dict = field(default_factory=dict)
    """Identity of a storage → a tensor with it, which is pinned."""

    def clear(self):
        """Forget what was counted."""
        self.waits.clear()
        self.copies.clear()
        self.pinned_copies = 0

    def wait(self, what, seen=None):
        """Count a wait. seen: stream → number of its operations that are done then; None: the current stream's."""
        self._count(self.waits, what)
        self.streams.host_has_waited(seen or self.streams.current.state())

    def blocking_copy(self, what):
        """Count a copy to the device, which is the current stream's next operation and done when the host goes on."""
        self._count(self.copies, what)
        current = self.streams.current
        self.streams.host_has_waited({**current.state(), current: current.done + 1})

    def _count(self, counter, what):
        if self.graph is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({what})")
        counter[f"{self._line()}  [{what}]"] += 1

    def _line(self):
        """The innermost line of the folder that runs."""
        frame = sys._getframe(1)
        while frame is not None and not frame.f_code.co_filename.startswith(self.folder):
            frame = frame.f_back
        if frame is None:
            return "elsewhere"
        path, number = frame.f_code.co_filename, frame.f_lineno
        return f"{path[len(self.folder) + 1 :]}:{number} {linecache.getline(path, number).strip()}"

    def is_pinned(self, tensor):
        return tensor.untyped_storage()._cdata in self.pinned

    def pin(self, tensor):
        self.pinned[tensor.untyped_storage()._cdata] = tensor
        return tensor
