"""Random crops against torchvision's rule, by distribution and box by box."""

from math import exp, log, sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import RandomResizedCrop

from sslpipe.views.crops import TRIES, random_boxes
from sslpipe.views.draw import Draw

RATIO = (3 / 4, 4 / 3)


def draws(count: int, seed: int = 0) -> Draw:
    return Draw(count, torch.Generator().manual_seed(seed))


def torchvisions(scale: tuple[float, float], ratio: tuple[float, float], size: tuple[int, int], count: int) -> Tensor:
    """[4, count]: left, top, width and height."""
    crop, image = RandomResizedCrop(8, scale=scale, ratio=ratio), torch.zeros(1, *size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        boxes = [crop.make_params([image]) for _ in range(count)]
    return torch.tensor([[box[name] for box in boxes] for name in ("left", "top", "width", "height")]).float()


@pytest.mark.parametrize(
    ("scale", "ratio", "size"),
    [
        ((0.2, 1.0), RATIO, (32, 32)),
        ((0.08, 1.0), RATIO, (32, 32)),
        ((0.14, 1.0), RATIO, (96, 96)),
        ((0.2, 1.0), RATIO, (24, 60)),  # the image's own ratio is outside the interval
        ((0.9, 1.0), (2.0, 3.0), (40, 40)),  # nothing fits
    ],
)
def test_boxes_are_distributed_as_torchvisions(scale, ratio, size) -> None:
    expected, count = torchvisions(scale, ratio, size, 6000), 60000
    found = torch.stack(random_boxes(scale, ratio, size, draws(count)))
    share = torch.arange(1, 20) / 20
    for ours, theirs, side in zip(found, expected, (size[1], size[0], size[1], size[0]), strict=True):
        assert abs(float(ours.mean() - theirs.mean())) < 0.012 * side
        spread = (ours.quantile(share) - theirs.quantile(share)).abs()
        assert float(spread.max()) <= max(0.04 * side, 1)  # boxes are whole pixels
    area, other = found[2] * found[3], expected[2] * expected[3]
    assert abs(float(area.mean() / other.mean()) - 1) < 0.02
    assert abs(float((found[2] / found[3]).log().mean() - (expected[2] / expected[3]).log().mean())) < 0.015


def test_large_boxes_are_rarer_than_small_ones() -> None:
    # One draw of the area among those that fit would have a mean of 0.601 and a quantile of 0.96.
    _, _, width, height = random_boxes((0.2, 1.0), RATIO, (32, 32), draws(100000))
    area = width * height / 32**2
    assert float(area.mean()) == pytest.approx(0.550, abs=0.003)
    assert float(area.quantile(0.95)) == pytest.approx(0.88, abs=0.006)


bounds = st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 1.0)).map(sorted)
ratios = st.tuples(st.floats(0.3, 3.0), st.floats(0.3, 3.0)).map(sorted)


@given(scale=bounds, ratio=ratios, height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 1000))
def test_the_first_try_that_fits_is_taken(scale, ratio, height, width, seed) -> None:
    boxes = torch.stack(random_boxes(scale, ratio, (height, width), draws(8, seed)))
    draw = draws(8, seed)
    areas = draw.uniforms(TRIES, *scale) * (height * width)
    logs = draw.uniforms(TRIES, log(ratio[0]), log(ratio[1]))
    for image, (left, top, box_width, box_height) in enumerate(boxes.T.tolist()):
        fitting, near_tie = [], False
        for area, logarithm in zip(areas[image].tolist(), logs[image].tolist(), strict=True):
            exact = sqrt(area * exp(logarithm)), sqrt(area / exp(logarithm))
            near_tie |= any(abs(side % 1 - 0.5) < 1e-3 for side in exact)
            sides = tuple(map(round, exact))
            if 0 < sides[0] <= width and 0 < sides[1] <= height:
                fitting.append(sides)
        assert 0 <= left <= width - box_width
        assert 0 <= top <= height - box_height
        assert min(box_width, box_height) >= 1
        if near_tie:
            continue
        if fitting:
            assert (box_width, box_height) == fitting[0]
        else:
            assert box_width == width or box_height == height
            assert (left, top) == ((width - box_width) // 2, (height - box_height) // 2)


def test_boxes_are_anywhere_in_the_image_equally_often() -> None:
    left, top, width, height = random_boxes((0.25, 0.25), (1.0, 1.0), (8, 8), draws(25000))
    assert width.unique().tolist() == height.unique().tolist() == [4]
    cells = torch.bincount((left * 5 + top).long(), minlength=25)
    assert cells.shape == (25,)
    assert (cells - 1000).abs().max() < 150
