"""A residual network for tiny images (16 × 16), cheap enough for the demonstration on two CPU cores."""

from sslpipe.nets.resnet import BasicBlock, ResNet


def tiny_resnet(*, channels: int) -> ResNet:
    """Three groups of one basic block, of widths 16, 32 and 64, after a 3×3 stem of stride 1; dimension 64.

    Own choice.
    """
    return ResNet(BasicBlock, blocks=(1, 1, 1), widths=(16, 32, 64), stem="cifar", channels=channels)
