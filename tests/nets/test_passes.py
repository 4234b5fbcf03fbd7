"""Groups of images that share a forward pass, or do not, and what batch norms make of it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.passes import forward_groups
from sslpipe.nets.preprocessing import InputSettings


def groups(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(*shape, generator=generator) for shape in shapes]


def test_joint_groups_of_one_shape_share_a_pass_and_separate_ones_have_one_each():
    given_groups = groups((2, 3), (4, 5), (3, 3), (1, 5))
    for statistics, expected in (("joint", [5, 5]), ("separate", [2, 4, 3, 1])):
        calls = []

        def double(batch, calls=calls):
            calls.append(len(batch))
            return 2 * batch

        outputs = forward_groups(double, given_groups, statistics)
        assert calls == expected
        for output, group in zip(outputs, given_groups, strict=True):
            assert torch.equal(output, 2 * group)


def test_batch_norms_see_what_shares_a_pass():
    """Counted: means 1 and 3 of two groups of two; joint 0.1 · 2, separate 0.9 · 0.1 · 1 + 0.1 · 3."""
    pair = [torch.tensor([[0.0], [2.0]]), torch.tensor([[2.0], [4.0]])]
    running, outputs = {}, {}
    for statistics in ("joint", "separate"):
        norm = nn.BatchNorm1d(1)
        outputs[statistics] = torch.cat(forward_groups(norm, pair, statistics)).flatten().tolist()
        running[statistics] = norm.running_mean.item()
    assert running == {"joint": pytest.approx(0.2), "separate": pytest.approx(0.39)}
    assert outputs["separate"] == pytest.approx([-1, 1, -1, 1], abs=1e-4)
    assert outputs["joint"] == pytest.approx([-(2**0.5), 0, 0, 2**0.5], abs=1e-4)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.sampled_from([4, 8])), min_size=1, max_size=5), dim=st.integers(0, 1)
)
def test_without_batch_norms_both_are_the_same(sizes, dim):
    given_groups = groups(*((count, side, side) for count, side in sizes))

    def heads(batch):  # [B, …] to [B, 2], or as several heads, to [2, B]
        means = torch.stack([batch.mean(dim=(1, 2)), batch.amax(dim=(1, 2))], dim=1)
        return means.T if dim else means

    joint, separate = (forward_groups(heads, given_groups, way, dim=dim) for way in ("joint", "separate"))
    for one, other, group in zip(joint, separate, given_groups, strict=True):
        assert one.shape[dim] == len(group)
        torch.testing.assert_close(one, other)


def test_the_features_of_views_are_those_of_one_pass_or_of_several():
    torch.manual_seed(0)
    network = Network(BackboneSettings(name="tiny_resnet"), mean=[0.5], std=[0.5])
    views = groups((6, 1, 16, 16), (6, 1, 8, 8), (6, 1, 16, 16))
    first, small, second = network.features_of(views)
    joint = network.features(torch.cat([views[0], views[2]]))
    torch.testing.assert_close(torch.cat([first, second]), joint)
    torch.testing.assert_close(small, network.features(views[1]))
    for features, view in zip(network.features_of(views, "separate"), views, strict=True):
        torch.testing.assert_close(features, network.features(view))
    assert not torch.allclose(first, network.features(views[0]), atol=1e-3)


@pytest.mark.parametrize(
    ("backbone", "given_input", "multiple"),
    [
        (BackboneSettings(name="tiny_resnet"), None, 1),
        (BackboneSettings(name="vit_mini_4"), None, 4),
        (BackboneSettings(name="timm", architecture="resnet18"), None, 1),
        (BackboneSettings(name="timm", architecture="vit_tiny_patch16_224"), None, None),
        (BackboneSettings(name="tiny_resnet"), InputSettings(resize=32, crop=32, interpolation="bilinear"), None),
    ],
)
def test_a_network_says_which_sides_of_views_it_takes(backbone, given_input, multiple):
    network = Network(backbone, mean=[0.5] * 3, std=[0.5] * 3, input=given_input)
    assert network.side_multiple == multiple
