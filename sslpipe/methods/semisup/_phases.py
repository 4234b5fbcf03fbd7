"""Order of the epochs in "Boosting SSL" (Lerner et al. 2020, arXiv:2012.00504, algorithm 2), a function of the step."""

from dataclasses import dataclass
from typing import Literal

from sslpipe.engine.method import Progress

Phase = Literal["rotation", "semisupervised", "clustering"]


@dataclass(frozen=True)
class Phases:
    """Rotation alone, then iterations of semi-supervised, rotation and clustering epochs, in this order."""

    warmup: int
    """Epochs of rotation alone."""
    semisupervised: int
    """Epochs in an iteration, like the next two."""
    rotation: int
    clustering: int

    def at(self, progress: Progress) -> Phase:
        """Return the phase of the epoch of the next step."""
        epoch = progress.step // progress.steps_per_epoch - self.warmup
        if epoch < 0:
            return "rotation"
        place = epoch % self._iteration
        if place < self.semisupervised:
            return "semisupervised"
        return "rotation" if place < self.semisupervised + self.rotation else "clustering"

    def among_semisupervised(self, progress: Progress) -> Progress:
        """Return the position among the steps of the semi-supervised epochs alone."""
        done, total = (
            self._steps(step, progress, first=0, epochs=self.semisupervised) for step in (progress.step, progress.total)
        )
        return Progress(done, max(total, 1), progress.steps_per_epoch)

    def clusterings(self, progress: Progress) -> int:
        """Return the number of clustering epochs done."""
        first = self.semisupervised + self.rotation
        return self._steps(progress.step, progress, first=first, epochs=self.clustering) // progress.steps_per_epoch

    @property
    def _iteration(self) -> int:
        return self.semisupervised + self.rotation + self.clustering

    def _steps(self, step: int, progress: Progress, *, first: int, epochs: int) -> int:
        """Return how many steps before `step` are in `epochs` epochs of their iteration, from its epoch `first` on."""
        length = progress.steps_per_epoch
        iterations, place = divmod(max(step - self.warmup * length, 0), self._iteration * length)
        return iterations * epochs * length + min(max(place - first * length, 0), epochs * length)
