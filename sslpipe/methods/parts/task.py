"""What a learner with few labels is given."""

from dataclasses import dataclass
from pathlib import Path

from sslpipe.data.labelled import LabelledImages
from sslpipe.methods.watch import Watch
from sslpipe.nets.network import Network

SCRATCH = "prepare"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One method that runs: an entry of semisup.methods or finetune.methods."""

    start: str = "pretrain"
    """What it goes on from, a folder under runs/: pretrain, cluster, self-label, semisup/<method>. From prepare on,
    which has images but no model, it starts from scratch."""
    base: str = "supervised"
    """The method that it builds on; for dvc.yaml, and for the one that has a choice, alternation."""
    objective: str = ""
    """The module of sslpipe.objectives that it uses; for dvc.yaml."""

    def folder(self, runs: Path) -> Path | None:
        """Where the model to start from lies; None: from scratch."""
        return None if self.start == SCRATCH else runs / self.start


@dataclass(frozen=True)
class Task:
    """A start, labelled images, and all the others."""

    network: Network
    """With the start's weights; its head is one whose outputs are the classes in order, a projection, or none."""
    labelled: LabelledImages
    """With all training images, the labelled ones included."""
    watch: Watch | None = None
    base: str = "supervised"
    """The method that the learner builds on, where it has a choice (semisup.methods.<method>.base)."""
