"""The interface of all backbones, a convolution without bias, and the initialisation of convolutions."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

ConvolutionInit = Literal["he", "torch"]


class Backbone(nn.Module):
    """A module from normalised images [B, C, H, W] to features [B, dimension]."""

    dimension: int
    """Number of features of an image."""
    side_multiple: int | None = 1
    """The sides of images must be multiples of this; None: the backbone takes images of one side alone."""
    whole_side: int | None = None
    """Side of the whole images that the backbone is trained on, pixels, whose crops have smaller ones; None: unknown.
    Vision transformers place the patches of a crop in the whole image's grid."""
    recompute: bool = False
    """Whether training recomputes the activations of each block in the backward pass, see nets/recompute.py."""

    @property
    def parts(self) -> tuple[int, ...]:
        """Dimensions of the joined networks' features, in their order; (dimension,) for a single network."""
        return (self.dimension,)

    def block_modules(self) -> Sequence[nn.Module]:
        """Return the blocks, in the order of the forward pass; none for a network without any."""
        return ()

    @property
    def block_count(self) -> int:
        """Number of blocks; of joined networks that of the one with the fewest."""
        return max(self.distances().values(), default=1) - 1

    def distances(self) -> dict[str, int]:
        """Return the distance of each weight from the head, in blocks, by its name.

        It is 1 in the last block and in what follows it, and one more than the number of blocks in what is before them.
        """
        blocks = self.block_modules()
        numbers = {weight: number for number, block in enumerate(blocks, 1) for weight in block.parameters()}
        found, number = {}, 0
        for name, weight in self.named_parameters():
            number = numbers.get(weight, number)
            found[name] = len(blocks) + 1 - number
        return found

    def set_recompute(self, recompute: bool) -> None:
        """Set `recompute`; raises UserError for a network that cannot recompute its activations."""
        self.recompute = recompute


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution that keeps the image's size at stride 1; it has no bias, since a batch norm follows it."""
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


def initialise(module: nn.Module) -> None:
    """Initialise the convolutions of a module, in the order of the modules, from torch's global generator.

    Weights are normal with variance 2 / (outputs × kernel area) (He et al. 2015, eq. 14; public code of
    FixMatch, arXiv:2001.07685). Batch norms keep scale 1 and shift 0.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
