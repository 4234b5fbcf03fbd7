import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sslpipe.objectives.feature_decoupling import agreement, rotation, rotation_weights
from sslpipe.objectives.nce import instance_softmax


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 1000), images=st.integers(1, 4), gamma=st.floats(0.5, 3.0))
def test_rotation_equals_the_paper_by_loops(seed, images, gamma):
    logits, upright = draw(seed, 4, images, 4), draw(seed + 1, 3, images).sigmoid()
    expected = 0.0
    for turns in range(4):
        for image in range(images):
            row = [math.exp(z) for z in logits[turns, image].tolist()]
            weight = 1 - float(upright[turns - 1, image]) ** gamma if turns else 1.0
            expected -= weight * math.log(row[turns] / sum(row)) / (4 * images)
    assert rotation(logits, rotation_weights(upright, gamma=gamma)).item() == pytest.approx(expected, rel=1e-4)


@given(seed=st.integers(0, 1000), images=st.integers(1, 4))
def test_agreement_equals_the_paper_by_loops(seed, images):
    invariant = draw(seed, 4, images, 3)
    expected = 0.0
    for image in range(images):
        for element in range(3):
            values = invariant[:, image, element].tolist()
            expected += sum((value - sum(values) / 4) ** 2 for value in values) / (4 * images * 3)
    assert agreement(invariant).item() == pytest.approx(expected, rel=1e-3, abs=1e-6)


@given(seed=st.integers(0, 1000), batch=st.integers(1, 4), temperature=st.floats(0.1, 1.0))
def test_instances_equal_the_softmax_by_loops(seed, batch, temperature):
    memory = F.normalize(draw(seed, 6, 5), dim=1)
    embedding, index = F.normalize(draw(seed + 1, batch, 5), dim=1), torch.arange(batch)
    noise = torch.tensor([5, 2, 5])
    for rows in (None, noise):
        expected = 0.0
        for row, own in zip(embedding, index.tolist(), strict=True):
            scores = [math.exp(float(row @ other) / temperature) for other in memory]
            others = [j for j in range(6) if j != own] if rows is None else rows.tolist()
            expected -= math.log(scores[own] / (scores[own] + sum(scores[j] for j in others))) / batch
        result = instance_softmax(embedding, index, memory, rows, temperature=temperature)
        assert result.item() == pytest.approx(expected, rel=1e-3, abs=1e-5)


@given(seed=st.integers(0, 1000), shift=st.floats(-3, 3))
def test_agreement_knows_no_common_shift_and_no_order_of_rotations(seed, shift):
    invariant = draw(seed, 4, 3, 5)
    torch.testing.assert_close(agreement(invariant + shift), agreement(invariant), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(agreement(invariant.flip(0)), agreement(invariant))


def test_known_values():
    ones, alike = torch.ones(4, 3), torch.ones(3, 5).expand(4, 3, 5)
    assert rotation(torch.zeros(4, 3, 4), ones).item() == pytest.approx(math.log(4))
    assert agreement(alike).item() == 0
    memory, index = F.normalize(torch.ones(9, 5), dim=1), torch.arange(3)
    assert instance_softmax(memory[:3], index, memory, None, temperature=0.07).item() == pytest.approx(math.log(9))
    noise = torch.arange(4)
    assert instance_softmax(memory[:3], index, memory, noise, temperature=0.07).item() == pytest.approx(math.log(5))


def test_turned_images_that_pass_for_upright_ones_do_not_count():
    weight = rotation_weights(torch.tensor([[1.0], [0.0], [0.5]]), gamma=2.0)
    assert weight.flatten().tolist() == [1, 0, 1, 0.75]
