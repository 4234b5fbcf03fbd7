import pytest
import torch
from torch import nn

from sslpipe.data.images import Images
from sslpipe.nets import statistics
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.statistics import recompute_statistics


@pytest.fixture
def images():
    array = torch.randint(0, 256, (23, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return Images(array.numpy(), torch.device("cpu"))


def build(name):
    torch.manual_seed(0)
    return Network(BackboneSettings(name=name), mean=[0.4], std=[0.2])


def norms(network):
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def test_the_first_layer_has_the_mean_and_variance_of_all_images(images):
    network = build("tiny_resnet").eval()
    inputs = []
    first = norms(network)[0]
    first.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    recompute_statistics(network, images)
    torch.testing.assert_close(first.running_mean, inputs[0].mean(dim=(0, 2, 3)))
    torch.testing.assert_close(first.running_var, inputs[0].var(dim=(0, 2, 3)))


def test_batches_are_averaged_and_hold_every_image_once(images, monkeypatch):
    monkeypatch.setattr(statistics, "BATCH", 10)
    network = build("tiny_resnet").eval()
    inputs, seen = [], []
    norms(network)[0].register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    network.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    recompute_statistics(network, images)
    assert sorted(map(len, seen)) == [7, 8, 8]
    expected = torch.stack([each.mean(dim=(0, 2, 3)) for each in inputs]).mean(dim=0)
    torch.testing.assert_close(norms(network)[0].running_mean, expected)
    plain = (images[torch.arange(23)].float() / 255 - 0.4) / 0.2
    torch.testing.assert_close(torch.cat(seen).flatten(1).sum(1).sort().values, plain.flatten(1).sum(1).sort().values)


def test_nothing_else_changes(images):
    network = build("tiny_resnet").eval()
    before = {name: value.clone() for name, value in network.named_parameters()}
    momenta = [layer.momentum for layer in norms(network)]
    recompute_statistics(network, images)
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert [layer.momentum for layer in norms(network)] == momenta
    assert not network.training
    once = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    recompute_statistics(network, images)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in once.items())


def test_a_network_without_batch_norms_is_left_as_it_is(images):
    network = build("vit_mini_4").eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recompute_statistics(network, images)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
