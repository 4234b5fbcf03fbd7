"""Heads against the layers that they stand for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sslpipe.nets.heads import (
    ClusterSettings,
    InstanceSettings,
    LinearSettings,
    ProjectionSettings,
    PrototypeSettings,
    build_head,
)


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


def prototype_head(dimension=4, **settings):
    torch.manual_seed(0)
    return build_head(PrototypeSettings(**({"prototypes": 5, "hidden": 6, "outputs": 3} | settings)), dimension)


def unit(vector):
    return vector / sum(x * x for x in vector.tolist()) ** 0.5


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_prototype_logits_are_cosines_over_temperature_one_by_one(depth, batch_norm):
    head = prototype_head(depth=depth, batch_norm=batch_norm, temperature=0.07).eval()
    assert set(dict(head.named_children())) == {"projection", "prototypes"}
    assert head.prototypes.bias is None
    features = torch.randn(7, 4)
    projected = head.projection(features)
    logits = head(features)
    assert logits.shape == (7, 5)
    for i in range(7):
        for k in range(5):
            cosine = (unit(projected[i]) * unit(head.prototypes.weight[k])).sum()
            torch.testing.assert_close(logits[i, k], cosine / 0.07, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_layers_end_in_what_is_embedded_and_scored(depth, batch_norm):
    head = prototype_head(depth=depth, batch_norm=batch_norm)
    features = torch.randn(7, 4)
    layers = head.layers(features)  # in train mode: the batch norms' answers do not depend on their running statistics
    assert [tuple(layer.shape) for layer in layers] == [(7, 6)] * (depth - 1) + [(7, 3)]
    embedding = head.embed(features)
    torch.testing.assert_close(nn.functional.normalize(layers[-1], dim=1), embedding)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(7))
    torch.testing.assert_close(head.scores(embedding) / 0.1, head(features))


def test_hidden_layers_are_seen_after_batch_norm_and_relu():
    head = prototype_head(depth=3)
    features = torch.randn(7, 4)
    first, second, last = head.layers(features)
    linear_1, _, _, linear_2, _, _, linear_3 = head.projection
    for found, raw in [(first, linear_1(features)), (second, linear_2(first))]:
        expected = (raw - raw.mean(0)) / (raw.var(0, unbiased=False) + 1e-5).sqrt()
        torch.testing.assert_close(found, expected.clamp(min=0))
    torch.testing.assert_close(last, linear_3(second))


@settings(max_examples=25, deadline=None)
@given(
    temperature=st.floats(0.02, 2),
    scales=st.lists(st.floats(0.01, 100), min_size=5, max_size=5),
    size=st.floats(0.01, 100),
)
def test_prototype_logits_are_bounded_and_blind_to_the_lengths_of_prototypes(temperature, scales, size):
    head = prototype_head(temperature=temperature).eval()
    features = size * torch.randn(6, 4)
    logits = head(features)
    assert (logits.abs() <= (1 + 1e-5) / temperature).all()
    with torch.no_grad():
        head.prototypes.weight.mul_(torch.tensor(scales)[:, None])
    torch.testing.assert_close(head(features), logits, rtol=1e-4, atol=1e-4 / temperature)


def test_the_bound_is_reached_where_a_prototype_points_along_the_embedding():
    head = prototype_head().eval()
    features = torch.randn(1, 4)
    with torch.no_grad():
        head.prototypes.weight[2] = 3 * head.embed(features)[0]
    torch.testing.assert_close(head(features)[0, 2], torch.tensor(10.0))


def test_cosines_stay_in_float32_under_autocast():
    head = prototype_head(hidden=32, outputs=16).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = head.embed(torch.randn(50, 4))
        scores = head.scores(embedding)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, head.scores(embedding))


def test_prototypes_start_as_a_linear_layer():
    found = prototype_head().prototypes.weight
    torch.manual_seed(0)
    build_head(ProjectionSettings(hidden=6, outputs=3, batch_norm=True), 4)
    assert torch.equal(found, nn.Linear(3, 5, bias=False).weight)


@pytest.mark.parametrize("hidden", [None, 6])
def test_instance_head_is_a_classifier_and_a_unit_perceptron_on_the_same_features(hidden):
    torch.manual_seed(0)
    head = build_head(InstanceSettings(classes=5, hidden=hidden, outputs=3), 4)
    features = torch.randn(7, 4)
    classifier = head.classifier
    torch.testing.assert_close(head(features), features @ classifier.weight.T + classifier.bias)
    first, _, last = head.projection
    assert first.weight.shape == (hidden or 4, 4)
    embedding = (features @ first.weight.T + first.bias).clamp(min=0) @ last.weight.T + last.bias
    expected = torch.stack([unit(row) for row in embedding])
    assert expected.shape == (7, 3)
    torch.testing.assert_close(head.embed(features), expected)


def test_class_loss_and_instance_loss_share_no_weight_of_the_head():
    head = build_head(InstanceSettings(classes=5, outputs=3), 4)
    head(torch.randn(2, 4)).sum().backward()
    assert all(p.grad is None for p in head.projection.parameters())
    assert all(p.grad is not None for p in head.classifier.parameters())
