"""A residual network for images of about 32 px, as large as a few thousand of them can train on a CPU."""

from sslpipe.nets.resnet import BasicBlock, ResNet


def small_resnet(*, channels: int) -> ResNet:
    """Return a ResNet of four groups of one basic block, of widths 32, 64, 128 and 256, after a 3×3 stem of stride 1.

    Every group halves the image, so that one of 32 px has feature maps of side 16, 8, 4 and 2. Its features have
    dimension 256. The architecture is our own choice.
    """
    return ResNet(
        BasicBlock, blocks=(1, 1, 1, 1), widths=(32, 64, 128, 256), stem="cifar", channels=channels, first_stride=2
    )
