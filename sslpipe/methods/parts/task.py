"""What a learner with few labels is given."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages
from sslpipe.data.store import Store
from sslpipe.nets.inference import infer
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
class Watch:
    """Held-out images, for figures in the history that decide nothing."""

    images: Images
    label: Tensor
    """int64 [M], -1 where unknown, on the images' device."""

    def accuracy(self, logits: Tensor) -> float:
        """Share of the held-out images with a known label that logits [M, C] name rightly; 0 to 1."""
        known = self.label >= 0
        return float((logits.argmax(dim=1) == self.label)[known].float().mean())

    @property
    def sees(self) -> bool:
        """Whether any held-out label is known."""
        return bool((self.label >= 0).any())

    @torch.no_grad()
    def accuracy_of(self, network: Network) -> float:
        """As `accuracy`, of a network's answers for the images as they are; leaves the network in eval mode."""
        return self.accuracy(infer(network.eval(), self.images))


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


def read_watch(store: Store, device: torch.device) -> Watch:
    """The held-out images and whatever labels of them are known."""
    label = torch.from_numpy(np.array(store.labels("held_out"))).to(device)
    return Watch(Images(store.images("held_out"), device), label)
