"""The search of TURTLE (Gadetsky et al. 2024, arXiv:2406.07236) for labels that linear classifiers reproduce."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.io.settings import Count, NonNegative, Positive
from sslpipe.objectives.turtle import mean_label, turtle


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Settings of the search; the defaults are the paper's, except `warm_start` (own choice)."""

    entropy_weight: NonNegative = 10.0
    """γ of eq. 12. Larger: clusters of more equal sizes, and no collapse to a few."""
    steps: Count = 6000
    """Steps of the labelling. More: labels that are reproduced better, in proportionally more time."""
    inner_steps: Count = 10
    """Steps of the classifiers for each step of the labelling. More: classifiers nearer to their best, in almost
    proportionally more time."""
    batch: Count = 10_000
    """Images in a step, drawn without replacement; all of them if there are no more. Larger: less noise in a step, more
    time and memory."""
    lr: Positive = 1e-3
    """Learning rate of the labelling's Adam. Larger: faster learning, until the labels no longer settle."""
    inner_lr: Positive = 1e-3
    """Learning rate of the classifiers' Adam. Larger: classifiers nearer to their best after `inner_steps`, until they
    no longer settle."""
    warm_start: bool = True
    """Whether the classifiers and their Adam continue from the step before or begin anew in each step (cold start, as
    in the public code, where 10 small steps hardly fit them to these features; docs/results.md)."""


class LinearLayers(nn.Module):
    """A linear layer of K outputs for each of S feature spaces: features S × [B, D_s] to logits [S, K, B]."""

    def __init__(self, spaces: Sequence[Tensor], clusters: int, generator: torch.Generator) -> None:
        """Draw weights and biases between ± 1/√D_s, as torch's linear layers do.

        spaces: features [N, D_s], whose type and device the layers take. generator: on the CPU.
        """
        super().__init__()

        def drawn(space: Tensor, *shape: int) -> Tensor:
            uniform = 2 * torch.rand(*shape, generator=generator, dtype=space.dtype) - 1
            return (uniform / sqrt(space.shape[1])).to(space.device)

        self.weights = nn.ParameterList(drawn(space, clusters, space.shape[1]) for space in spaces)
        self.biases = nn.ParameterList(drawn(space, clusters) for space in spaces)

    def matrices(self) -> list[Tensor]:
        """Return the matrix [K, D_s] of each space."""
        return list(self.weights)

    def forward(self, spaces: Sequence[Tensor]) -> Tensor:
        """Map features S × [B, D_s] to logits [S, K, B]."""
        layers = zip(spaces, self.matrices(), self.biases, strict=True)
        return torch.stack([matrix @ space.T + bias[:, None] for space, matrix, bias in layers])


class Labelling(LinearLayers):
    """θ: linear layers with weight normalisation, that is with a parameter for the length of each row."""

    def __init__(self, spaces: Sequence[Tensor], clusters: int, generator: torch.Generator) -> None:
        super().__init__(spaces, clusters, generator)
        self.lengths = nn.ParameterList(weight.detach().norm(dim=1, keepdim=True) for weight in self.weights)

    def matrices(self) -> list[Tensor]:
        """Return the matrix [K, D_s] of each space."""
        return [length * F.normalize(weight, dim=1) for length, weight in zip(self.lengths, self.weights, strict=True)]


class LabelSearch:
    """The alternating steps of the labelling and of the classifiers of its labels.

    In each step the classifiers W are trained on the labels as they are (inner loop), and then the labelling θ takes
    one step on the loss of eq. 12 with W fixed: its gradient is the first-order one (eq. 13), and does not flow through
    the inner loop. At the minimum of the inner loop both are the same, since there the loss has no gradient in W.
    """

    def __init__(
        self, spaces: Sequence[Tensor], settings: SearchSettings, *, clusters: int, generator: torch.Generator
    ) -> None:
        """Begin with random layers.

        spaces: features [N, D_s] of the same images, on one device. generator: on the CPU, gives all random numbers.
        """
        self.spaces, self.settings, self.clusters, self.generator = spaces, settings, clusters, generator
        self.labelling = Labelling(spaces, clusters, generator)
        self._outer = torch.optim.Adam(self.labelling.parameters(), lr=settings.lr)
        self._begin_inner()

    def _begin_inner(self) -> None:
        """Draw new classifiers, with a new optimiser."""
        self.classifiers = LinearLayers(self.spaces, self.clusters, self.generator)
        self._inner = torch.optim.Adam(self.classifiers.parameters(), lr=self.settings.inner_lr)

    def _batch(self) -> Sequence[Tensor]:
        """Return the features S × [B, D_s] of the images of a step."""
        count = len(self.spaces[0])
        if self.settings.batch >= count:
            return self.spaces
        index = torch.randperm(count, generator=self.generator)[: self.settings.batch]
        return [space[index.to(space.device)] for space in self.spaces]

    @torch.no_grad()
    def _inner_step(self, spaces: Sequence[Tensor], label: Tensor) -> None:
        """Take one step of the classifiers on their mean cross-entropy with the labels [K, B].

        Its gradient in the logits is (softmax - label) / B, so that no graph is built.
        """
        for space, weight, bias in zip(spaces, self.classifiers.weights, self.classifiers.biases, strict=True):
            error = (weight @ space.T).add_(bias[:, None]).softmax(dim=0).sub_(label).div_(len(space))
            weight.grad, bias.grad = error @ space, error.sum(dim=1)
        self._inner.step()

    def step(self) -> dict[str, Tensor]:
        """Train the classifiers, then take one step of the labelling; return the terms of its loss, detached."""
        spaces = self._batch()
        if not self.settings.warm_start:
            self._begin_inner()
        label_logits = self.labelling(spaces)
        label = mean_label(label_logits.detach())
        for _ in range(self.settings.inner_steps):
            self._inner_step(spaces, label)
        with torch.no_grad():
            classifier_logits = self.classifiers(spaces)
        terms = turtle(label_logits, classifier_logits, entropy_weight=self.settings.entropy_weight)
        self._outer.zero_grad()
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        self._outer.step()
        return {name: value.detach() for name, value in terms.items()}
