"""A published network as it is, with its own preprocessing: nothing is learned."""

from dataclasses import dataclass

from torch import nn

from sslpipe.methods.pretext.monitors import look
from sslpipe.methods.pretext.task import Task
from sslpipe.nets.network import Network
from sslpipe.nets.published import published_network
from sslpipe.objectives.frozen import alignment, uniformity
from sslpipe.views.policies import Views, ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which weights; the architecture is that of `network`, such as {name: torchvision, architecture: resnet50}."""

    weights: str = "DEFAULT"
    """A file (.safetensors, .pth), or the name of the weights there: torchvision's DEFAULT, IMAGENET1K_V1, …"""
    download: bool = False
    """Whether weights that are not on this machine may be fetched."""
    views: ViewSettings = ViewSettings(policy="simclr")
    """Two of each held-out image, for the figures alone."""
    fit: None = None
    """There is nothing to fit."""


class Pretext(nn.Module):
    """Somebody else's pretext task, and how its features take to these images."""

    def __init__(self, settings: Settings, task: Task) -> None:
        super().__init__()
        self.network = published_network(
            task.backbone, settings.weights, channels=task.info.channels, download=settings.download
        )
        self.views = Views(settings.views, self.network.image_mean)
        self.watch = task.watch

    def selected(self) -> Network:
        """The network to keep."""
        return self.network

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """The figures of all pretext tasks, and what contrastive learning would minimise."""
        further = {"held_out/alignment": alignment, "held_out/uniformity": lambda first, second: uniformity(first)}
        return look(self.network, self.watch, self.views, further)
