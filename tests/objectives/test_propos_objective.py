from math import exp, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.objectives.propos import scattering

TEMPERATURE = 0.5


def drawn(seed, batch, clusters, dimension=5):
    """Projections, targets and clusters of a batch, in double."""
    generator = torch.Generator().manual_seed(seed)
    projection, target = torch.randn(2, batch, dimension, generator=generator, dtype=torch.float64)
    return projection, target, torch.randint(clusters, (batch,), generator=generator)


def unit(vector):
    length = sum(x * x for x in vector) ** 0.5
    return [x / length for x in vector]


def dot(first, second):
    return sum(a * b for a, b in zip(first, second, strict=True))


def prototypes_of(rows, cluster):
    """Cluster → the direction of the sum of its unit rows, of those clusters that have rows."""
    found = {}
    for row, own in zip(rows.tolist(), cluster.tolist(), strict=True):
        found.setdefault(own, []).append(unit(row))
    return {own: unit([sum(values) for values in zip(*members, strict=True)]) for own, members in found.items()}


def by_loops(projection, target, cluster, temperature):
    prototype, other = prototypes_of(projection, cluster), prototypes_of(target, cluster)
    total = 0.0
    for own in prototype:
        positive = exp(dot(prototype[own], other[own]) / temperature)
        negatives = sum(exp(dot(prototype[own], prototype[each]) / temperature) for each in prototype if each != own)
        total -= log(positive / (positive + negatives))
    return total / len(prototype)


@given(seed=st.integers(0, 1000), batch=st.integers(1, 12), clusters=st.integers(2, 6), temperature=st.floats(0.1, 2.0))
def test_equals_the_definition_by_loops(seed, batch, clusters, temperature):
    """With few images some clusters have none."""
    projection, target, cluster = drawn(seed, batch, clusters)
    loss = scattering(projection, target, cluster, clusters=clusters, temperature=temperature)
    assert loss.item() == pytest.approx(by_loops(projection, target, cluster, temperature), rel=1e-9, abs=1e-12)


@given(seed=st.integers(0, 1000))
def test_names_of_clusters_order_of_images_and_lengths_do_not_count(seed):
    projection, target, cluster = drawn(seed, 12, 4)
    given = {"clusters": 6, "temperature": TEMPERATURE}
    loss = scattering(projection, target, cluster, **given)
    generator = torch.Generator().manual_seed(seed)
    names, order = torch.randperm(6, generator=generator), torch.randperm(12, generator=generator)
    length = torch.rand(12, 1, generator=generator, dtype=torch.float64) + 0.1
    torch.testing.assert_close(scattering(projection, target, names[cluster], **given), loss)
    torch.testing.assert_close(scattering(projection[order], target[order], cluster[order], **given), loss)
    torch.testing.assert_close(scattering(length * projection, target / length, cluster, **given), loss)


@given(clusters=st.integers(2, 6))
def test_known_values(clusters):
    """Equal, orthogonal and farthest prototypes, those of a simplex, each equal to their targets."""
    cluster = torch.arange(clusters).repeat(3)
    axes = torch.eye(clusters, dtype=torch.float64)
    simplex = axes - 1 / clusters
    equal = torch.ones_like(axes)
    found = [
        scattering(rows.repeat(3, 1), rows.repeat(3, 1), cluster, clusters=clusters, temperature=TEMPERATURE).item()
        for rows in (equal, axes, simplex)
    ]
    nearest = [1.0, 0.0, -1 / (clusters - 1)]
    expected = [log(1 + (clusters - 1) * exp((cosine - 1) / TEMPERATURE)) for cosine in nearest]
    assert found == pytest.approx(expected)
    assert found[0] == pytest.approx(log(clusters))
    assert found == sorted(found, reverse=True)


@given(seed=st.integers(0, 1000), clusters=st.integers(2, 5))
def test_no_prototypes_have_less_than_those_of_a_simplex(seed, clusters):
    projection, target, _ = drawn(seed, clusters, clusters)
    cluster, temperature = torch.arange(clusters), TEMPERATURE
    loss = scattering(projection, target, cluster, clusters=clusters, temperature=temperature).item()
    assert loss >= log(1 + (clusters - 1) * exp((-1 / (clusters - 1) - 1) / temperature)) - 1e-9


def test_one_cluster_has_nothing_to_scatter():
    projection, target, _ = drawn(0, 6, 3)
    one = torch.full((6,), 2)
    loss = scattering(projection.requires_grad_(), target, one, clusters=3, temperature=TEMPERATURE)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    loss.backward()
    assert projection.grad.abs().max() < 1e-12


def test_only_the_projections_learn_and_absent_clusters_add_nothing():
    projection, target, cluster = drawn(3, 8, 3)
    projection.requires_grad_()
    target.requires_grad_()
    loss = scattering(projection, target, cluster, clusters=3, temperature=TEMPERATURE)
    more = scattering(projection, target, cluster, clusters=50, temperature=TEMPERATURE)
    torch.testing.assert_close(more, loss)
    more.backward()
    assert projection.grad.isfinite().all()
    assert projection.grad.abs().sum() > 0
    assert target.grad is None
