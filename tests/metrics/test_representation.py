import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.metrics.representation import alignment, uniformity


def unit(row):
    length = sum(x * x for x in row) ** 0.5
    return [x / length for x in row]


def squared_distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(unit(a), unit(b), strict=True))


@given(seed=st.integers(0, 1000), images=st.integers(2, 6))
def test_equal_the_paper_by_loops(seed, images):
    """Wang & Isola 2020, eq. 1 with α = 2 and eq. 2 with t = 2."""
    first, second = torch.randn(2, images, 4, generator=torch.Generator().manual_seed(seed))
    x, y = first.tolist(), second.tolist()
    expected = sum(squared_distance(a, b) for a, b in zip(x, y, strict=True)) / images
    assert alignment(first, second).item() == pytest.approx(expected, rel=1e-4)
    pairs = [math.exp(-2 * squared_distance(x[i], x[j])) for i in range(images) for j in range(i)]
    assert uniformity(first).item() == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-3, abs=1e-5)


def test_known_values():
    axes = torch.eye(6)
    assert alignment(axes, 3 * axes).item() == pytest.approx(0, abs=1e-6)
    assert alignment(axes, -axes).item() == pytest.approx(4)
    assert uniformity(axes).item() == pytest.approx(-4)  # all at a squared distance of 2
    assert uniformity(torch.ones(5, 6)).item() == pytest.approx(0, abs=1e-6)  # collapse
