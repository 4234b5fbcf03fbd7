"""Voting probes: linear probes vote on the unlabelled images, and are fitted again to what they voted for.

The method is V-PET (Zhang et al. 2025, "Revisiting semi-supervised learning in the era of foundation models",
arXiv:2503.09707), with probes of stored features in the place of fine-tuned networks: each of several joined networks,
and all of them together, with each of several strengths. Nothing is trained by gradient descent in steps, and the
backbone stays as it is.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, Positive
from sslpipe.methods.semisup._answers import drawn_labels
from sslpipe.methods.semisup._base import Problem
from sslpipe.methods.semisup._voting import Vote, Voters, fit_voters, spaces_of
from sslpipe.nets.inference import head_logits
from sslpipe.nets.network import Network

WHERE = "semisup.voting_probes"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One round of self-training on all unlabelled images, without a threshold, as in the paper."""

    reads_features: ClassVar[bool] = True
    """The method reads the outputs of the stages features and mine-neighbors."""

    strengths: tuple[Positive, ...] = (1.0, 10.0, 100.0)
    """C of the probes in each feature space, each of which minimises C · (sum of cross-entropies) + |W|²/2 on unit
    features (own choice: decades around 10). Larger: labels are fitted more exactly, predictions more certain. More of
    them: more probes vote, in as many times the time."""
    vote: Vote = "mean_probability"
    """What is voted for. mean_probability: the class with the largest mean probability. mean_label: the class that most
    probes predict."""
    self_training: bool = True
    """Whether new probes, one in each feature space, are fitted to the labels and to what was voted for, and predict in
    the place of the first ones."""
    student_strength: Positive = 1.0
    """C of the probes of self-training (own choice). It counts all images, wrongly labelled ones too, so that it is
    smaller than those of few labels. Larger: what was voted for is fitted more exactly, errors included; too small: the
    most frequent class is predicted for all images."""
    images: Count = 20_000
    """Maximum number of unlabelled images that a probe of self-training is fitted to, drawn in equal number from each
    class that was voted for if there are more (own choice). More: surer, slower."""
    iterations: Count = 200
    """Maximum number of L-BFGS iterations of a probe. More: closer to its minimum, if it is not reached before."""
    components: Count = 256
    """Number of principal components of each space's L2-normalised features. More: finer differences between images,
    slower."""
    fit: None = None
    """Everything is solved when the method is built; there is nothing to train."""

    def __post_init__(self) -> None:
        if not self.strengths:
            raise UserError("strengths: no number found, expected at least one")


class Method(nn.Module):
    """The start's network with the mean of several linear classifiers as its head; its backbone stays as it is."""

    collapse_hint = "label more images, or start from another model"

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__()
        if problem.features is None:
            raise ValueError(f"{WHERE}: no stored features given")
        self.network, self.problem, features = problem.network, problem, problem.features
        index, label = problem.labelled.index.cpu().numpy(), problem.labelled.label.cpu()
        spaces = spaces_of(features, self.network.backbone.parts, settings.components)
        voters = fit_voters(spaces, features[index], label, settings.strengths, settings.iterations)
        voted, unanimous = voters.vote(features, settings.vote)
        unlabelled = np.setdiff1d(np.arange(len(features)), index)
        self.unanimous = float(unanimous[unlabelled].mean()) if len(unlabelled) else 1.0
        _report(voters, self.unanimous, len(unlabelled))
        if settings.self_training and len(unlabelled):
            voted[index] = label.numpy()
            used = np.union1d(index, _some(voted, unlabelled, settings.images))
            own, strength = torch.from_numpy(voted[used]), (settings.student_strength,)
            voters = fit_voters(spaces, features[used], own, strength, settings.iterations)
        self.network.head = voters.head(features.shape[1]).to(self.network.mean.device)

    def selected(self) -> Network:
        """The network to keep."""
        return self.network

    def training_logits(self) -> Tensor:
        """Logits [N, C] of all training images by their stored features."""
        assert self.problem.features is not None
        return head_logits(self.network, self.problem.features)

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """The one row of the history: number of labels, share of unanimous votes, and accuracy on held-out images."""
        row: dict[str, float] = {"labels": len(self.problem.labelled), "unanimous": self.unanimous}
        return row | self.problem.stored_held_out_acc()


def _some(voted: NDArray[np.int64], unlabelled: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the unlabelled images to learn from: all, or some of each class, and a line says so.

    voted: [N], the class of each image. unlabelled: [U], indices of images.
    """
    rng = np.random.default_rng(int(torch.randint(2**31 - 1, ())))
    used = unlabelled[drawn_labels(voted[unlabelled], most, least=1, rng=rng)]
    if len(used) < len(unlabelled):
        info(
            f"{WHERE}: self-training learns from {len(used)} of {len(unlabelled)} unlabelled images, drawn from each "
            f"class that was voted for; raise {WHERE}.images to learn from more"
        )
    return used


def _report(voters: Voters, unanimous: float, unlabelled: int) -> None:
    """Print a line that says which probes vote, and on how many of the unlabelled images they agree."""
    spaces, strengths = len(voters.spaces), len(voters.probes[0])
    agreed = f", all agree on {unanimous:.0%} of {unlabelled} unlabelled images" if unlabelled else ""
    info(
        f"{WHERE}: {len(voters)} probes vote (feature spaces × strengths: {spaces} × {strengths}){agreed}; other ones: "
        f"{WHERE}.strengths, or other networks in network.architecture"
    )
