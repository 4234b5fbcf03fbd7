"""Heads against the layers that they stand for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sslpipe.nets.heads import ClusterSettings, LinearSettings, ProjectionSettings, build_head


@settings(max_examples=25, deadline=None)
@given(heads=st.integers(1, 5), clusters=st.integers(1, 12), batch=st.integers(1, 6), dimension=st.integers(1, 9))
def test_cluster_heads_are_separate_linear_layers(heads, clusters, batch, dimension):
    torch.manual_seed(0)
    together = build_head(ClusterSettings(clusters=clusters, heads=heads), dimension)
    separate = [nn.Linear(dimension, clusters) for _ in range(heads)]
    with torch.no_grad():
        together.linear.weight.copy_(torch.cat([layer.weight for layer in separate]))
        together.linear.bias.copy_(torch.cat([layer.bias for layer in separate]))
    features = torch.randn(batch, dimension)
    expected = torch.stack([layer(features) for layer in separate])
    assert expected.shape == (heads, batch, clusters)
    torch.testing.assert_close(together(features), expected)


@pytest.mark.parametrize("head", [0, 1, 2])
def test_a_single_head_is_the_slice_and_no_view_of_it(head):
    heads = build_head(ClusterSettings(clusters=4, heads=3), 8)
    features = torch.randn(5, 8)
    expected = heads(features)[head].detach().clone()
    one = heads.single(head)
    nn.init.zeros_(heads.linear.weight)
    torch.testing.assert_close(one(features), expected)
    assert one.settings == LinearSettings(outputs=4)
    assert all(p.requires_grad for p in one.parameters())


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_projection_is_linear_layers_with_relu_between(depth, batch_norm):
    torch.manual_seed(0)
    head = build_head(ProjectionSettings(hidden=6, outputs=3, depth=depth, batch_norm=batch_norm), 4)
    kinds = [type(layer) for layer in head]
    hidden = [nn.Linear, nn.BatchNorm1d, nn.ReLU] if batch_norm else [nn.Linear, nn.ReLU]
    assert kinds == hidden * (depth - 1) + [nn.Linear]

    features = torch.randn(7, 4)
    x = features
    for layer in head:
        if isinstance(layer, nn.Linear):
            x = x @ layer.weight.T + (layer.bias if layer.bias is not None else 0)
        elif isinstance(layer, nn.BatchNorm1d):
            x = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
        else:
            x = x.clamp(min=0)
    torch.testing.assert_close(head(features), x)
    assert x.shape == (7, 3)


def test_linear_head_and_no_head():
    features = torch.randn(2, 4)
    linear = build_head(LinearSettings(outputs=3), 4)
    torch.testing.assert_close(linear(features), features @ linear.weight.T + linear.bias)
    assert build_head(None, 4)(features) is features
