"""Which operations of training a device has; asked of Apple's GPUs, on which torch lacks some."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FALLBACK = "fall back to run on the CPU"
"""In torch's warning for an operation that is computed on the CPU (PYTORCH_ENABLE_MPS_FALLBACK=1)."""


@dataclass(frozen=True)
class Probe:
    """What was found on a device, as names of OPERATIONS."""

    missing: tuple[str, ...] = ()
    """Those that failed."""
    on_cpu: tuple[str, ...] = ()
    """Those that ran on the CPU instead."""


def _convolution(device: torch.device) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    network.to(device)(torch.ones(2, 3, 8, 8, device=device)).square().sum().backward()


def _optimizers(device: torch.device) -> None:
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        weight = torch.ones(4, device=device, requires_grad=True)
        optimizer = kind([weight], lr=0.1, fused=True)
        weight.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _averages(device: torch.device) -> None:
    torch._foreach_lerp_([torch.ones(4, device=device)], [torch.zeros(4, device=device)], 0.5)


def _views(device: torch.device) -> None:
    image, grid = torch.rand(2, 3, 8, 8, device=device), torch.rand(2, 8, 8, 2, device=device)
    for padding in ("zeros", "border", "reflection"):
        F.grid_sample(image, grid, padding_mode=padding, align_corners=False)
    F.interpolate(image, size=(5, 5), mode="bicubic", antialias=True)
    image.rot90(1, (2, 3)).flip(-1).gather(2, torch.zeros(2, 3, 8, 8, dtype=torch.int64, device=device))


def _random(device: torch.device) -> None:
    generator = torch.Generator(device).manual_seed(0)
    torch.rand(4, generator=generator, device=device)
    torch.randint(9, (4,), generator=generator, device=device)


def _sorting(device: torch.device) -> None:
    values = torch.rand(4, 64, device=device)
    values.sort(dim=1)
    values.topk(32, dim=1)
    values.cumsum(dim=1)


def _indices(device: torch.device) -> None:
    index = torch.tensor([0, 2, 2], device=device)
    ones = torch.ones(3, 4, device=device)
    torch.zeros(3, 4, device=device).index_add_(0, index, ones)
    torch.zeros(3, 4, device=device).scatter_add_(0, index[:, None].expand(3, 4), ones)
    index.bincount(minlength=3)


def _losses(device: torch.device) -> None:
    logits = torch.rand(4, 6, device=device, requires_grad=True)
    target = torch.arange(4, device=device)
    with torch.autocast(device.type, enabled=False):
        loss: Tensor = F.cross_entropy(logits, target) + logits.logsumexp(dim=1).mean()
        loss = loss + torch.einsum("bd,cd->bc", logits, logits).log_softmax(dim=1).mean()
    loss.backward()  # type: ignore[no-untyped-call]


def _attention(device: torch.device) -> None:
    token = torch.rand(1, 2, 4, 8, device=device, requires_grad=True)
    F.scaled_dot_product_attention(token, token, token).sum().backward()  # type: ignore[no-untyped-call]


OPERATIONS: dict[str, Callable[[torch.device], None]] = {
    "convolution and batch norm": _convolution,
    "fused optimisers": _optimizers,
    "averaged weights": _averages,
    "views": _views,
    "random numbers": _random,
    "sorting": _sorting,
    "sums by index": _indices,
    "losses": _losses,
    "attention": _attention,
}
"""Name → a small computation, which raises an error if the device lacks an operation that it needs."""


def probe(device: torch.device) -> Probe:
    """Run each of OPERATIONS on a device; leaves torch's random numbers as they are."""
    missing, on_cpu = [], []
    state = torch.get_rng_state()
    for name, compute in OPERATIONS.items():
        with _every_warning() as found:
            try:
                compute(device)
            except (RuntimeError, TypeError, AssertionError):  # NotImplementedError is a RuntimeError
                missing.append(name)
        if any(FALLBACK in str(each.message) for each in found):
            on_cpu.append(name)
    torch.set_rng_state(state)
    return Probe(tuple(missing), tuple(name for name in on_cpu if name not in missing))


@contextmanager
def _every_warning() -> Iterator[list[warnings.WarningMessage]]:
    """Record all warnings, those too that torch gives once only."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            yield found
    finally:
        torch.set_warn_always(before)
