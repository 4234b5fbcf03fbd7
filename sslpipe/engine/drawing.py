"""The inputs of a training step, its batch and its views, which depend on the seed and the step alone."""

from dataclasses import dataclass
from typing import Any

import torch

from sslpipe.data.batches import Stream
from sslpipe.data.device import autocast
from sslpipe.data.seeds import seed_of_step
from sslpipe.engine.method import BaseMethod


@dataclass(frozen=True)
class Drawn:
    """The inputs of a step."""

    batch: Any
    """What the stream of batches yields."""
    views: Any
    """What the method's `draw_views` returned for the batch."""
    generator: torch.Generator
    """The source of the step's further random numbers, on the device."""


class Drawing:
    """Draws the inputs of each step when they are asked for."""

    def __init__(self, method: BaseMethod, batches: Stream, *, seed: int) -> None:
        self.method, self.batches, self.seed = method, batches, seed
        self.generator = torch.Generator(batches.device)
        on_cpu = batches.device.type == "cpu"
        self._of_batches = self.generator if on_cpu else torch.Generator()
        """On a CPU the one generator goes on from the batch to the views, and from them to the losses."""

    def at(self, step: int) -> Drawn:
        """Return the inputs of a step (0-based), which is the method's `progress`."""
        seed = seed_of_step(self.seed, step)
        self.generator.manual_seed(seed)
        batch = self.batch_at(step)
        return Drawn(batch, self.views_of(batch, self.generator), self.generator)

    def batch_at(self, step: int) -> Any:
        """Return the batch of a step."""
        self._of_batches.manual_seed(seed_of_step(self.seed, step))
        return self.batches.at(step, self._of_batches)

    @torch.no_grad()
    def views_of(self, batch: Any, generator: torch.Generator) -> Any:
        """Return the views of a batch."""
        with autocast(self.batches.device):
            return self.method.draw_views(batch, generator)

    def done(self, step: int) -> None:
        """Take note that all of a step is computed or queued on the device."""
