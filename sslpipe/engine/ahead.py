"""Views that a GPU draws one step ahead, beside the step that it computes.

Strong views are hundreds of small operations, whose launches take the CPU longer than the GPU computes. They are the
same in every step, so they are recorded once as a CUDA graph, which one launch repeats on a stream of its own. Two
steps take turns with two sets of buffers, one that is learned from and one that is filled.
"""

import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sslpipe.data.batches import Stream
from sslpipe.data.seeds import seed_of_step
from sslpipe.engine.drawing import Drawing, Drawn
from sslpipe.engine.method import BaseMethod
from sslpipe.io.console import info
from sslpipe.io.errors import one_line

AHEAD = "SSLPIPE_VIEWS_AHEAD"
"""Environment variable: 0 draws the views of each step within the step, as on a CPU; they are the same views."""


def drawing_for(method: BaseMethod, batches: Stream, *, seed: int, total: int) -> Drawing:
    """Return what draws the inputs of the steps of a run of `total` steps."""
    if batches.device.type == "cuda" and os.environ.get(AHEAD) != "0":
        return DrawingAhead(method, batches, seed=seed, total=total)
    return Drawing(method, batches, seed=seed)


@dataclass(frozen=True)
class Recorded:
    """A graph that fills `views` from `batch`; both keep their places in memory."""

    graph: torch.cuda.CUDAGraph
    batch: Any
    views: Any


class Buffers:
    """What one of two steps that take turns is drawn into."""

    def __init__(self, device: torch.device) -> None:
        self.generator = torch.Generator(device)
        self.filled, self.used = (torch.cuda.Event() for _ in range(2))  # type: ignore[no-untyped-call]
        self.recorded: dict[Hashable, Recorded] = {}
        self.step = -1
        self.drawn: Drawn | None = None
        """The inputs of `step`; None: they are drawn within the step."""


class DrawingAhead(Drawing):
    """Draws the inputs of the step after the one that is asked for, where the method's views can be drawn ahead."""

    def __init__(self, method: BaseMethod, batches: Stream, *, seed: int, total: int) -> None:
        super().__init__(method, batches, seed=seed)
        self.total = total
        self._stream = torch.cuda.Stream(batches.device)  # type: ignore[no-untyped-call]
        self._buffers = (Buffers(batches.device), Buffers(batches.device))
        self._failed = False

    def at(self, step: int) -> Drawn:
        """Return the inputs of a step, and begin to draw those of the next one."""
        buffers = self._of(step)
        if buffers.step != step:  # the first step of this process
            self._stream.wait_stream(torch.cuda.current_stream(self.batches.device))
            self._draw(step)
        torch.cuda.current_stream(self.batches.device).wait_event(buffers.filled)
        if step + 1 < self.total:
            self._draw(step + 1)
        return super().at(step) if buffers.drawn is None else buffers.drawn

    def done(self, step: int) -> None:
        """Let the buffers of a step be filled again once the device has computed it."""
        self._of(step).used.record(torch.cuda.current_stream(self.batches.device))

    def _of(self, step: int) -> Buffers:
        return self._buffers[step % 2]

    def _draw(self, step: int) -> None:
        """Queue the drawing of a step on the stream of its own."""
        buffers = self._of(step)
        buffers.step, buffers.drawn = step, None
        with self._progress_of(step), torch.cuda.stream(self._stream):
            form = None if self._failed else self.method.views_form()
            if form is None:
                return
            self._stream.wait_event(buffers.used)
            batch = self.batch_at(step)
            key = (form, *((each.shape, each.dtype) for each in tensors(batch)))
            if key not in buffers.recorded and not self._record(buffers, key, batch):
                return
            recorded = buffers.recorded[key]
            torch._foreach_copy_(list(tensors(recorded.batch)), list(tensors(batch)), non_blocking=True)
            buffers.generator.manual_seed(seed_of_step(self.seed, step))
            recorded.graph.replay()
            buffers.filled.record(self._stream)
            buffers.drawn = Drawn(recorded.batch, recorded.views, buffers.generator)

    @contextmanager
    def _progress_of(self, step: int) -> Iterator[None]:
        """Let the method be at another step for the time of a block."""
        before = self.method.progress
        self.method.progress = replace(before, step=step)
        try:
            yield
        finally:
            self.method.progress = before

    def _record(self, buffers: Buffers, key: Hashable, batch: Any) -> bool:
        """Record the views of a batch, and compare the graph's with those that are drawn without it.

        Returns whether they are equal; if they are not, or a method's views cannot be recorded, a line says so and
        views are drawn within the steps from then on.
        """
        batch, generator = mapped(torch.clone, batch), buffers.generator
        try:
            expected = self.views_of(batch, generator.manual_seed(0))
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(generator)
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                views = self.views_of(batch, generator)
            generator.manual_seed(0)
            graph.replay()
            pairs = zip(tensors(expected), tensors(views), strict=True)
            reason = "" if all(torch.equal(*pair) for pair in pairs) else "they would differ from those without it"
        except RuntimeError as error:
            reason = one_line(error)
        if reason:
            self._failed = True
            info(f"views: drawn without a CUDA graph, so that a step takes longer: {reason}")
            return False
        buffers.recorded[key] = Recorded(graph, batch, views)
        return True


def mapped(function: Callable[[Tensor], Tensor], thing: Any) -> Any:
    """Return lists, tuples and dataclasses of tensors with each tensor replaced by `function` of it."""
    if isinstance(thing, Tensor):
        return function(thing)
    if isinstance(thing, list | tuple):
        return type(thing)(mapped(function, each) for each in thing)
    if is_dataclass(thing) and not isinstance(thing, type):
        return replace(thing, **{each.name: mapped(function, getattr(thing, each.name)) for each in fields(thing)})
    return thing


def tensors(thing: Any) -> Iterator[Tensor]:
    """Yield the tensors in lists, tuples and dataclasses."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, list | tuple):
        for each in thing:
            yield from tensors(each)
    elif is_dataclass(thing) and not isinstance(thing, type):
        for each in fields(thing):
            yield from tensors(getattr(thing, each.name))
