"""The backbone of models that compare raw pixels, as the plain baselines of clustering do."""

from torch import Tensor

from sslpipe.io.errors import UserError
from sslpipe.nets.layers import Backbone


class Pixels(Backbone):
    """The pixels of an image as its features, [B, C·H·W]; there is nothing to train."""

    side_multiple = None

    def __init__(self, *, channels: int, side: int | None = None) -> None:
        """side: of the images, pixels, which the network's `input` resizes to. Raises UserError without it."""
        super().__init__()
        if side is None:
            raise UserError("network.name: 'pixels' found, which only the stage cluster uses; choose another backbone")
        self.dimension = channels * side**2

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] to features [B, C·H·W]."""
        return images.flatten(1)
