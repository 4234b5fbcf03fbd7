"""Optimisers and which weights decay."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sslpipe.io.settings import Fraction, NonNegative, Positive


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """An optimiser by name and what it takes; what the named one does not know is passed over."""

    name: Literal["sgd", "adam", "adamw", "lars"] = "adam"
    lr: Positive
    weight_decay: NonNegative = 0.0
    momentum: Fraction = 0.9
    """sgd, lars."""
    nesterov: bool = False
    """sgd."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """adam, adamw."""
    trust: Positive = 0.001
    """lars: the trust coefficient η (You et al. 2017)."""
    decay_all: bool = False
    """Whether weight decay also holds for biases and norm layers' weights, as in plain torch optimisers."""


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017, algorithm 1), for weights of two and more dimensions.

    v ← μ v + lr · r (g + β w), w ← w - v, with r = η |w| / |g + β w|; one-dimensional weights (biases, norm layers)
    take r = 1, as SimCLR and SwAV do.
    """

    def __init__(self, params: Any, *, lr: float, momentum: float, weight_decay: float, trust: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of all weights that have a gradient."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            gradients = torch._foreach_add([p.grad for p in weights], weights, alpha=group["weight_decay"])
            ratios = [
                _trust_ratio(weight, norm, gradient_norm, group["trust"])
                for weight, norm, gradient_norm in zip(
                    weights, torch._foreach_norm(weights), torch._foreach_norm(gradients), strict=True
                )
            ]
            torch._foreach_mul_(gradients, ratios)
            velocities = [
                self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight)) for weight in weights
            ]
            skipped = getattr(self, "found_inf", None)
            learns = 1.0 if skipped is None else 1 - skipped
            torch._foreach_mul_(velocities, 1 - learns + learns * group["momentum"])
            torch._foreach_add_(velocities, torch._foreach_mul(gradients, learns * group["lr"]))
            torch._foreach_sub_(weights, torch._foreach_mul(velocities, learns))


def _trust_ratio(weight: Tensor, norm: Tensor, gradient_norm: Tensor, trust: float) -> Tensor:
    if weight.ndim < 2:
        return torch.ones_like(norm)
    return torch.where((norm > 0) & (gradient_norm > 0), trust * norm / gradient_norm, torch.ones_like(norm))


def skip_update(optimizer: torch.optim.Optimizer, skipped: Tensor | None) -> None:
    """Let the coming steps change nothing if `skipped` (float scalar) is 1, not 0 or None; nobody waits for its value.

    Fused optimisers have this for a scaled loss's infinite gradients, under the same names.
    """
    optimizer.grad_scale, optimizer.found_inf = None, skipped  # type: ignore[attr-defined]


@torch.no_grad()
def clip_gradients(weights: Iterable[Tensor], largest: float, *, together: bool) -> None:
    """Shorten gradients to a norm of at most `largest`: of all of them together, or of each by itself."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norms = list(torch._foreach_norm(gradients))
    if together:
        norms = [torch.linalg.vector_norm(torch.stack(norms))] * len(norms)
    torch._foreach_mul_(gradients, [(largest / (norm + 1e-6)).clamp(max=1) for norm in norms])


def build_optimizer(
    settings: OptimizerSettings, module: nn.Module, rate: Callable[[str], float] = lambda name: 1.0
) -> torch.optim.Optimizer:
    """An optimiser over a module's weights that want a gradient; those of fewer than 2 dimensions do not decay.

    rate: from a weight's name to a factor on its learning rate, which stands in its group under "rate", as
    the group's own weight decay stands under "decay".
    """
    members: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, weight in module.named_parameters():
        if weight.requires_grad:
            decays = weight.ndim >= 2 or settings.decay_all
            members.setdefault((decays, rate(name)), []).append(weight)
    groups: list[dict[str, Any]] = []
    for (decays, factor), weights in members.items():
        decay = settings.weight_decay if decays else 0.0
        groups.append(
            {"params": weights, "rate": factor, "lr": settings.lr * factor, "decay": decay, "weight_decay": decay}
        )
    common: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.name == "lars":
        return LARS(groups, **common, momentum=settings.momentum, trust=settings.trust)
    # Fused: one kernel for all weights, on CPU and on CUDA.
    if settings.name == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0
        sgd = torch.optim.SGD(groups, **common, momentum=settings.momentum, nesterov=nesterov, fused=True)
        if settings.momentum:
            # As after a first gradient of 0. torch begins where the first gradient comes, but its fused kernel fails
            # where weights begin at different steps, as prototypes do that stay frozen for a while.
            for weight in (weight for group in groups for weight in group["params"]):
                sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        return sgd
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, **common, betas=settings.betas, fused=True)
