"""How many images a forward gets, in which memory format, and that the outputs are those of any other batch."""

import numpy as np
import pytest
import torch
from torch import nn

from sslpipe.data.images import Images
from sslpipe.methods.pretrain import _monitors
from sslpipe.nets.inference import BATCH, batch_size, in_parts, infer
from sslpipe.nets.tiny_resnet import tiny_resnet

CPU = torch.device("cpu")


class Recorded(nn.Module):
    """A network that notes the sizes and the memory formats of its inputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.sizes, self.formats = network, [], []

    def forward(self, images):
        self.sizes.append(len(images))
        self.formats.append(images.is_contiguous(memory_format=torch.channels_last))
        return self.network(images)


def images_of(count, side, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, channels, side, side)).astype(np.uint8)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Recorded(tiny_resnet(channels=3)).eval()


def test_a_cpu_gets_few_images_at_a_time_in_channels_last_with_the_same_outputs(network):
    array = images_of(150, 12)
    outputs = infer(network, Images(array, CPU))
    assert network.sizes == [64, 64, 22]
    assert all(network.formats)
    with torch.no_grad():
        expected = network.network(torch.from_numpy(array).float() / 255)
    torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-5)


def test_of_large_images_a_cpu_gets_fewer_and_a_gpu_as_many_as_before():
    assert [batch_size((7, 3, side, side), CPU) for side in (1, 32, 96, 128, 224, 1000)] == [64, 64, 64, 36, 11, 8]
    assert batch_size((7, 3, 224, 224), torch.device("cuda")) == BATCH == 1000


def test_views_are_drawn_for_many_images_and_computed_for_few(network):
    drawn = []

    def views(batch, generator):
        drawn.append(len(batch))
        return batch.float() / 255 + torch.rand(len(batch), 1, 1, 1, generator=generator)

    network.features = network.__call__
    first, second = _monitors.two_views(network, Images(images_of(100, 8), CPU), views)
    assert drawn == [100, 100]  # so that the draws do not depend on what a CPU likes
    assert network.sizes == [64, 36, 64, 36]
    assert not torch.equal(first, second)


def test_parts_of_a_batch_are_those_of_the_whole(network):
    batch = torch.from_numpy(images_of(70, 8)).float() / 255
    with torch.no_grad():
        torch.testing.assert_close(in_parts(network, batch), network.network(batch), rtol=1e-5, atol=1e-5)
    assert network.sizes == [64, 6]
