"""A residual network for images of 16 × 16 px, small enough for the demonstration on two CPU cores."""

from sslpipe.nets.resnet import BasicBlock, ResNet


def tiny_resnet(*, channels: int) -> ResNet:
    """Return a ResNet of three groups of one basic block, of widths 16, 32 and 64, after a 3×3 stem of stride 1.

    Its features have dimension 64. The architecture is our own choice.
    """
    return ResNet(BasicBlock, blocks=(1, 1, 1), widths=(16, 32, 64), stem="cifar", channels=channels)
