"""Backbones of timm without their classifiers. timm is imported where it is used, since the import takes a second."""

from typing import Any

from torch import Tensor

from sslpipe.io.errors import UserError, nearest
from sslpipe.nets.layers import Backbone


class TimmBackbone(Backbone):
    """A backbone of timm without its classifier, initialised by timm."""

    def __init__(self, *, architecture: str, channels: int) -> None:
        """Build the backbone; raises UserError for an architecture that timm does not have."""
        import timm

        super().__init__()
        timm_config(architecture)
        self.architecture = architecture
        model: Any = timm.create_model(architecture, num_classes=0, in_chans=channels)
        self.model = model
        if model.pretrained_cfg.get("fixed_input_size"):
            self.side_multiple = None
        # num_features is that of the last feature map; in mobilenets and vggs a layer follows before the classifier.
        self.dimension = int(model.head_hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, channels, H, W] to features [B, dimension]; raises UserError for a wrong size."""
        try:
            features: Tensor = self.model(x)
        except AssertionError as error:  # vits raise it for images of another size
            raise UserError(
                f"network.architecture: '{self.architecture}' found, which does not accept images of {x.shape[-1]} px "
                f"({error}); use another one"
            ) from None
        return features


def timm_config(architecture: str) -> Any:
    """Return timm's `PretrainedCfg` of the architecture's weights, those of its tag or else the default ones.

    Raises UserError for an architecture or a tag that timm does not have.
    """
    import timm

    name = architecture.partition(".")[0]
    if not timm.is_model(name):
        raise _unknown(architecture, timm.list_models())
    try:
        return timm.models.get_pretrained_cfg(architecture)
    except RuntimeError:  # the tag is unknown
        raise _unknown(architecture, timm.list_pretrained(f"{name}.*")) from None


def _unknown(name: str, known: list[str]) -> UserError:
    return UserError(f"network.architecture: '{name}' found, which timm does not have{nearest(name, known)}")
