"""The votes of labelled images in all four rotations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sslpipe.data.images import Images
from sslpipe.nets.inference import rotated_votes

CLASSES = np.array([0, 2, 1, 0, 2, 2, 1])


class Corners(nn.Module):
    """Three logits: the pixels in three of the corners, so that a rotated image has other ones."""

    def forward(self, image):
        return 6 * torch.stack([image[:, 0, 0, 0], image[:, 0, 0, -1], image[:, 0, -1, 0]], dim=1)


def random_images(seed):
    return np.random.default_rng(seed).integers(0, 256, (len(CLASSES), 1, 5, 5)).astype(np.uint8)


def votes_of(array):
    return rotated_votes(Corners(), Images(array, torch.device("cpu")), CLASSES, 3)


def votes_by_loops(array, quarters):
    """[outputs, classes]: mean softmax over the images of a class and some of their rotations."""
    votes = np.zeros((3, 3))
    for image, own in zip(array[:, 0] / 255, CLASSES, strict=True):
        for quarter in quarters:
            rotated = np.rot90(image, quarter)
            weights = np.exp(6 * np.array([rotated[0, 0], rotated[0, -1], rotated[-1, 0]]))
            votes[:, own] += weights / weights.sum() / len(quarters) / (own == CLASSES).sum()
    return votes


@pytest.mark.parametrize("seed", range(3))
def test_votes_are_the_mean_over_all_four_rotations(seed):
    array = random_images(seed)
    assert votes_of(array) == pytest.approx(votes_by_loops(array, range(4)), abs=1e-6)
    assert np.abs(votes_of(array) - votes_by_loops(array, [0])).max() > 0.05


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), quarters=st.lists(st.integers(0, 3), min_size=7, max_size=7))
def test_votes_do_not_depend_on_how_the_images_are_rotated(seed, quarters):
    array = random_images(seed)
    rotated = np.stack([np.rot90(image, turns, (1, 2)) for image, turns in zip(array, quarters, strict=True)])
    assert votes_of(rotated) == pytest.approx(votes_of(array), abs=1e-6)
    assert votes_of(array).sum(axis=0) == pytest.approx(1, abs=1e-6)
