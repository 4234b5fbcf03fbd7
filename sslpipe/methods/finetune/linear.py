"""A linear probe: multinomial logistic regression on frozen features (SimMatch, arXiv:2203.06915, section 4.2)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, CountOrZero, Positive, TwoOrMore
from sslpipe.methods.semisup._base import Problem, add_classifier
from sslpipe.methods.semisup._logistic import (
    DEFAULT_PENALTY,
    labelled_features,
    penalty_losses,
    regress,
    set_classifier,
    stratified_folds,
)
from sslpipe.nets.inference import head_logits
from sslpipe.nets.network import Network


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The penalty is chosen by cross-validation on the labelled images."""

    prefers_features: ClassVar[bool] = True
    """The method reads the output of the stage features if that is of its start's backbone."""

    penalties: tuple[Positive, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """Candidates for λ of mean cross-entropy + λ/2 |W|², on standardised features (own choice: decades). Larger:
    smaller weights, less overfitting of few labels, less certain predictions."""
    folds: TwoOrMore = 5
    """Number of folds; at most as many as the rarest class has labels. More: a surer choice of the penalty, slower."""
    all_folds_up_to: CountOrZero = 20_000
    """Number of labels up to which every fold is left out once; with more, the first fold alone is, which then has
    labels enough (own choice). Larger: a surer choice of the penalty with many labels, in as many times the time as
    there are folds."""
    iterations: Count = 200
    """Maximum number of L-BFGS iterations. More: closer to the minimum, if it is not reached before."""
    fit: None = None
    """The regression is solved when the method is built; there is nothing to train."""

    def __post_init__(self) -> None:
        if not self.penalties:
            raise UserError("penalties: no number found, expected at least one")


class Method(nn.Module):
    """The start's network with a linear classifier; its backbone stays as it is."""

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__()
        self.network, self.stored, labelled = problem.network, problem.features, problem.labelled
        features, label = labelled_features(self.network, labelled, self.stored)
        self.penalty, self.labels = choose_penalty(features, label, settings), len(labelled)
        self.network.head = nn.Identity()
        add_classifier(self.network, labelled, "random")
        assert isinstance(self.network.head, nn.Linear)
        set_classifier(self.network.head, *regress(features, label, self.penalty, settings.iterations))

    def selected(self) -> Network:
        """The network to keep."""
        return self.network

    def training_logits(self) -> Tensor | None:
        """Logits [N, C] of all training images by their stored features; None if these are not stored."""
        return None if self.stored is None else head_logits(self.network, self.stored)

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """The chosen penalty and the number of labels, the one row of the history."""
        return {"penalty": self.penalty, "labels": self.labels}


def choose_penalty(features: Tensor, label: Tensor, settings: Settings) -> float:
    """The penalty with the lowest cross-entropy on left-out images; features: [L, D], label: [L]."""
    folds = min(settings.folds, int(label.bincount().min()))
    if folds < 2:
        info(f"linear: a class has only one label; penalty {DEFAULT_PENALTY:g}")
        return DEFAULT_PENALTY
    parts = stratified_folds(label, folds)
    used = parts if len(label) <= settings.all_folds_up_to else parts[:1]
    losses = penalty_losses(features, label, used, settings.penalties, settings.iterations)
    best = min(losses, key=lambda penalty: losses[penalty])
    if len(used) == folds:
        info(f"linear: penalty {best:g}, by {folds}-fold cross-validation over {len(label)} labels")
    else:
        info(
            f"linear: penalty {best:g}, by the first of {folds} folds, of {len(used[0][1])} of {len(label)} labels; "
            f"finetune.linear.all_folds_up_to: {len(label)} takes all {folds}"
        )
    return best
