"""A published network with its own preprocessing, used without training."""

from dataclasses import dataclass

from torch import nn

from sslpipe.methods.pretrain._base import Problem
from sslpipe.methods.pretrain._monitors import feature_diagnostics
from sslpipe.metrics.representation import alignment, uniformity
from sslpipe.nets.network import Network
from sslpipe.nets.published import published_network
from sslpipe.views.policies import Views, ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which weights to load; `network` names the architecture, such as {name: timm, architecture: resnet50.tv_in1k}."""

    weights: str | None = None
    """A file of weights (.safetensors, .pth) with timm's names; null for those that timm offers, which the tag in
    `network.architecture` names. Images for a file without a tag are resized to 256 for crops of 224 px."""
    download: bool = False
    """Whether weights that are not on this machine may be downloaded."""
    views: ViewSettings = ViewSettings(policy="simclr")
    """Views of the held-out images; they are used for the diagnostics only."""
    fit: None = None
    """There is nothing to train."""


class Method(nn.Module):
    """A published network, used without training."""

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__()
        self.network = published_network(
            problem.backbone, settings.weights, channels=problem.info.channels, download=settings.download
        )
        self.views = Views(settings.views, self.network.image_mean, side=self.network.side)
        self.held_out = problem.held_out

    def selected(self) -> Network:
        """The network to keep."""
        return self.network

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """The diagnostics of all pretext tasks, alignment and uniformity (Wang & Isola 2020)."""
        further = {"held_out/alignment": alignment, "held_out/uniformity": lambda first, second: uniformity(first)}
        return feature_diagnostics(self.network, self.held_out, self.views, further)
