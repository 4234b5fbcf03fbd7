import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.objectives.simclr import nt_xent


def nt_xent_by_loops(z1, z2, temperature, anchors):
    """SimCLR, eq. 1 and algorithm 1: views 2k-1 and 2k come from image k; here rows k and B + k.

    anchors "first" is SCAN's public code: only the first view of each image is an anchor, against all 2B - 1 others.
    """
    views = [*z1, *z2]
    count, images = len(views), len(z1)
    similarity = [[float(a @ b / (a.norm() * b.norm())) for b in views] for a in views]
    total, anchor_count = 0.0, count if anchors == "both" else images
    for i in range(anchor_count):
        j = (i + images) % count
        denominator = sum(math.exp(similarity[i][k] / temperature) for k in range(count) if k != i)
        total += -math.log(math.exp(similarity[i][j] / temperature) / denominator)
    return total / anchor_count


@given(
    seed=st.integers(0, 1000),
    batch=st.integers(2, 6),
    temperature=st.floats(0.1, 2.0),
    anchors=st.sampled_from(["both", "first"]),
)
def test_equals_the_paper_by_loops(seed, batch, temperature, anchors):
    z1, z2 = torch.randn(2, batch, 5, generator=torch.Generator().manual_seed(seed))
    expected = nt_xent_by_loops(z1, z2, temperature, anchors)
    assert nt_xent(z1, z2, temperature=temperature, anchors=anchors).item() == pytest.approx(
        expected, rel=1e-4, abs=1e-5
    )


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10.0))
def test_knows_neither_the_order_of_views_nor_lengths_nor_rotations(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = torch.randn(2, 6, 4, generator=generator)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator))
    loss = nt_xent(z1, z2, temperature=0.5)
    for other in ((z2, z1), (z1 * scale, z2), (z1 @ rotation, z2 @ rotation)):
        torch.testing.assert_close(nt_xent(*other, temperature=0.5), loss, rtol=1e-4, atol=1e-5)


def test_is_the_logarithm_of_the_number_of_others_at_chance():
    z = torch.ones(256, 8)
    assert nt_xent(z, z, temperature=0.1).item() == pytest.approx(math.log(511), rel=1e-5)


def test_is_low_when_views_agree_and_images_differ():
    z = torch.eye(16)
    assert nt_xent(z, z, temperature=0.05).item() < 1e-3
    assert nt_xent(z, z.roll(1, 0), temperature=0.05).item() > 10
