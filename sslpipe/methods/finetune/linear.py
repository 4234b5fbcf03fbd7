"""Multinomial logistic regression on frozen features, by L-BFGS (SimMatch, section 4.2, "Transfer learning")."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sslpipe.io.console import say
from sslpipe.io.settings import Count, Positive
from sslpipe.methods.parts.logistic import DEFAULT_PENALTY, labelled_features, regress, set_classifier
from sslpipe.methods.parts.task import Task
from sslpipe.methods.semisup.supervised import add_classifier
from sslpipe.methods.training import Training
from sslpipe.nets.heads import LinearHead
from sslpipe.objectives.supervised import cross_entropy


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The penalty is chosen on labelled images that are left out in turn."""

    penalties: tuple[Positive, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """Candidates for λ of mean cross-entropy + λ/2 |W|², on standardised features (own choice: decades)."""
    folds: Count = 5
    """Parts that are left out in turn; at most as many as the rarest class has labels."""
    iterations: Count = 200
    """Of L-BFGS."""


def tune(settings: Settings, task: Task, training: Training) -> None:
    """Write the start's network with a linear classifier, its backbone untouched."""
    network, labelled = task.network, task.labelled
    features, label = labelled_features(network, labelled)
    penalty = choose_penalty(features, label, settings)
    network.head = nn.Identity()
    add_classifier(network, labelled.classes)
    assert isinstance(network.head, LinearHead)
    set_classifier(network.head, *regress(features, label, penalty, settings.iterations))
    training.write(network, settings, [{"penalty": penalty, "labels": len(labelled)}])


def choose_penalty(features: Tensor, label: Tensor, settings: Settings) -> float:
    """The penalty under which images left out are likeliest; features: [L, D], label: [L]."""
    folds = min(settings.folds, int(label.bincount().min()))
    if folds < 2:
        say(f"linear: a class has one label alone; penalty {DEFAULT_PENALTY:g}")
        return DEFAULT_PENALTY
    # The images of each class take turns, so every part has its share of every class.
    part = torch.empty_like(label)
    for each in range(int(label.max()) + 1):
        part[label == each] = torch.arange(int((label == each).sum()), device=label.device) % folds
    losses = {}
    for penalty in settings.penalties:
        left_out = []
        for fold in range(folds):
            inside, outside = part != fold, part == fold
            weight, bias = regress(features[inside], label[inside], penalty, settings.iterations)
            left_out.append(float(cross_entropy(features[outside] @ weight.T + bias, label[outside])))
        losses[penalty] = sum(left_out) / folds
    best = min(losses, key=lambda penalty: losses[penalty])
    say(f"linear: penalty {best:g}, by {folds}-fold cross-validation over {len(label)} labels")
    return best
