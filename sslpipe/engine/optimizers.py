"""Optimisers: their settings, the groups of weights, LARS, gradient clipping and skipped updates."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sslpipe.io.errors import UserError
from sslpipe.io.settings import Fraction, NonNegative, Positive

TAKEN_BY = {
    "momentum": ("sgd", "lars"),
    "nesterov": ("sgd",),
    "betas": ("adam", "adamw"),
    "trust": ("lars",),
    "scale_all": ("lars",),
}
"""Setting → the optimisers that take it; all optimisers take the settings that are not listed."""


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The name of an optimiser and its settings; a setting that it does not take must keep its default."""

    name: Literal["sgd", "adam", "adamw", "lars"] = "adam"
    """The optimiser: stochastic gradient descent, Adam, AdamW (decay apart from the gradient), or LARS for large
    batches."""
    lr: Positive
    """Initial learning rate. Larger: faster learning, until training no longer settles."""
    weight_decay: NonNegative = 0.0
    """Strength of weight decay. Larger: smaller weights and less overfitting, until the network underfits."""
    momentum: Fraction = 0.9
    """Momentum of sgd and lars. Larger: smoother steps, which add up to 1 / (1 - momentum) times as much."""
    nesterov: bool = False
    """Whether sgd uses Nesterov momentum, which takes the gradient where the momentum leads (FixMatch: true)."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay rates of adam's and adamw's averages of the gradient and of its square. Larger: smoother steps, which react
    later to a change of the gradient (first) or of its size (second)."""
    trust: Positive = 0.001
    """Trust coefficient η of lars (You et al. 2017, arXiv:1708.03888). Larger: a larger step of every layer, in
    proportion."""
    scale_all: bool = False
    """Whether lars scales the updates of one-dimensional weights (biases, normalisation layers) by the trust ratio too:
    true in the public code of SwAV and Suave; false in that of SimCLR, BYOL and Daino, which leave them out."""
    decay_all: bool = False
    """Whether weight decay applies to biases and normalisation layers too, as by default in torch."""

    def __post_init__(self) -> None:
        for key, names in TAKEN_BY.items():
            if self.name not in names and getattr(self, key) != getattr(OptimizerSettings, key):
                raise UserError(f"{key} is a setting of {' and '.join(names)}, not of {self.name}")

    def base_for(self, block: Mapping[str, Any]) -> "OptimizerSettings":
        """Return these settings as the defaults of a block (see `parse`), which may name another optimiser.

        The settings that the other optimiser does not take are reset to their defaults.
        """
        name = block.get("name", self.name)
        unused = [key for key, names in TAKEN_BY.items() if name not in names]
        return replace(self, name=name, **{key: getattr(OptimizerSettings, key) for key in unused})


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv:1708.03888, algorithm 1).

    v ← μ v + lr · r (g + β w), w ← w - v, with r = η |w| / |g + β w|, or r = 1 where a norm is 0. One-dimensional
    weights (biases, normalisation layers) have r = 1, as in SimCLR (arXiv:2002.05709) and BYOL (arXiv:2006.07733),
    unless `scale_all`, as in SwAV (arXiv:2006.09882) and Suave (arXiv:2306.07483). The public code of these two has
    |g| + β |w| instead of |g + β w|: with their β of 1e-6 the same but for weights without a gradient.
    """

    def __init__(
        self, params: Any, *, lr: float, momentum: float, weight_decay: float, trust: float, scale_all: bool = False
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})
        self.scale_all = scale_all

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all weights that have a gradient; `closure` is ignored."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            gradients = torch._foreach_add([p.grad for p in weights], weights, alpha=group["weight_decay"])
            scaled = [each for each, weight in enumerate(weights) if weight.ndim >= 2 or self.scale_all]
            if scaled:
                own, theirs = [weights[each] for each in scaled], [gradients[each] for each in scaled]
                norms, gradient_norms = (torch.stack(torch._foreach_norm(each)) for each in (own, theirs))
                torch._foreach_mul_(theirs, _trust_ratios(norms, gradient_norms, group["trust"]).unbind())
            velocities = [self._velocity(weight) for weight in weights]
            skipped = getattr(self, "found_inf", None)
            learns = 1.0 if skipped is None else 1 - skipped
            torch._foreach_mul_(velocities, 1 - learns + learns * group["momentum"])
            torch._foreach_add_(velocities, torch._foreach_mul(gradients, learns * group["lr"]))
            torch._foreach_sub_(weights, torch._foreach_mul(velocities, learns))

    def _velocity(self, weight: Tensor) -> Tensor:
        """Return v of a weight, which is 0 before its first update."""
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        velocity: Tensor = state["momentum_buffer"]
        return velocity


def _trust_ratios(norms: Tensor, gradient_norms: Tensor, trust: float) -> Tensor:
    return torch.where((norms > 0) & (gradient_norms > 0), trust * norms / gradient_norms, torch.ones_like(norms))


def skip_update(optimizer: torch.optim.Optimizer, skipped: Tensor | None) -> None:
    """Set whether the next steps of the optimiser change weights and state: not if `skipped` is 1.

    skipped: float scalar tensor, 0 or 1, read without a wait for the device; None is the same as 0.
    Uses the attributes `grad_scale` and `found_inf`, by which torch's fused optimisers skip steps with infinite
    gradients in mixed-precision training.
    """
    optimizer.grad_scale, optimizer.found_inf = None, skipped  # type: ignore[attr-defined]


def gradient_norm(weights: Iterable[Tensor]) -> Tensor:
    """Return the 2-norm of all gradients together, a scalar on the device; 0 without any."""
    return nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])


def clip_gradients(weights: Iterable[Tensor], max_norm: float, *, by: Literal["all", "tensor"]) -> None:
    """Scale gradients to a norm of at most `max_norm`: the norm of all gradients together, or of each tensor alone."""
    if by == "all":
        nn.utils.clip_grad_norm_(weights, max_norm)
        return
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if gradients:
        # As clip_grad_norm_ does for one weight.
        factors = (max_norm / (torch.stack(torch._foreach_norm(gradients)) + 1e-6)).clamp(max=1)
        torch._foreach_mul_(gradients, factors.unbind())


def build_optimizer(
    settings: OptimizerSettings, module: nn.Module, rate: Callable[[str], float] = lambda name: 1.0
) -> torch.optim.Optimizer:
    """Build the optimiser of a module's weights that require a gradient.

    Weights of fewer than 2 dimensions have no weight decay, unless `settings.decay_all`.
    rate: maps a weight's name to a factor on its learning rate. Each parameter group has two additional entries:
    "rate", this factor, and "decay", the group's weight decay before any schedule.
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
        return LARS(groups, **common, momentum=settings.momentum, trust=settings.trust, scale_all=settings.scale_all)
    # fused=True updates all weights in one kernel, on the CPU and on CUDA.
    if settings.name == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0
        sgd = torch.optim.SGD(groups, **common, momentum=settings.momentum, nesterov=nesterov, fused=True)
        if settings.momentum:
            # The state after a first gradient of 0. By default torch creates the buffers at the first gradient, but its
            # fused kernel fails if weights get theirs at different steps, as prototypes do that are frozen at first.
            for weight in (weight for group in groups for weight in group["params"]):
                sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        return sgd
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, **common, betas=settings.betas, fused=True)
