"""Mixup and CutMix: the mixture, its parts, what is drawn."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from sslpipe.io.errors import UserError
from sslpipe.io.settings import parse
from sslpipe.views.mixing import Mix, MixSettings, draw_mix


def drawn(given: MixSettings, count: int, size: tuple[int, int] = (8, 8), seed: int = 0) -> Mix:
    return draw_mix(given, count, size, torch.Generator().manual_seed(seed))


def noise(count: int, *shape: int, seed: int = 3) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


alpha = st.sampled_from([0.0, 0.1, 0.75, 1.0, 16.0])
any_settings = st.builds(
    MixSettings,
    mixup=alpha,
    cutmix=alpha,
    switch=st.sampled_from([0.0, 0.3, 1.0]),
    dominant=st.booleans(),
    drawn_per=st.sampled_from(["image", "batch"]),
)


@settings(max_examples=60, deadline=None)
@given(
    given=any_settings,
    count=st.integers(1, 9),
    size=st.sampled_from([(1, 1), (4, 4), (5, 7), (8, 3)]),
    seed=st.integers(0, 1000),
)
def test_mixture_is_the_papers_pixel_by_pixel(given: MixSettings, count: int, size: tuple[int, int], seed: int) -> None:
    mix = drawn(given, count, size, seed)
    assert mix.partner.sort().values.tolist() == list(range(count))
    assert mix.weight.min() >= (0.5 if given.dominant else 0)
    assert mix.weight.max() <= 1
    image, target = noise(count, 2, *size), noise(count, 3).softmax(1)
    mixed, label = mix.images(image), mix.targets(target)
    mask = mix.mask.expand(count, 1, *size)
    for i in range(count):
        j, weight = int(mix.partner[i]), float(mix.weight[i])
        torch.testing.assert_close(label[i], weight * target[i] + (1 - weight) * target[j], rtol=0, atol=1e-6)
        assert float(mask[i].mean()) == pytest.approx(weight, abs=1e-5)
        for y in range(size[0]):
            for x in range(size[1]):
                own = float(mask[i, 0, y, x])
                assert own in (0, 1) or own == pytest.approx(weight)
                expected = own * image[i, :, y, x] + (1 - own) * image[j, :, y, x]
                torch.testing.assert_close(mixed[i, :, y, x], expected, rtol=0, atol=1e-6)
    again = drawn(given, count, size, seed)
    assert torch.equal(mix.mask, again.mask)
    assert torch.equal(mix.partner, again.partner)


@pytest.mark.parametrize("given", [MixSettings(mixup=0), MixSettings(cutmix=0), MixSettings()])
def test_partners_may_come_from_another_batch(given: MixSettings) -> None:
    mix = drawn(given, 6)
    image, other = noise(6, 3, 8, 8), noise(6, 3, 8, 8, seed=4)
    mixed = mix.images(image, other)
    torch.testing.assert_close(mixed, mix.mask * image + (1 - mix.mask) * other[mix.partner], rtol=0, atol=1e-6)
    own, theirs = noise(6, 5), noise(6, 5, seed=4)
    expected = mix.weight[:, None] * own + (1 - mix.weight[:, None]) * theirs[mix.partner]
    torch.testing.assert_close(mix.targets(own, theirs), expected, rtol=0, atol=1e-6)
    assert torch.equal(mix.images(image, image), mix.images(image))


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.75, 1.0, 2.0, 16.0, 100.0])
def test_mixups_weight_is_beta(alpha: float) -> None:
    weight = drawn(MixSettings(mixup=alpha, cutmix=0), 40000).weight.double()
    beta = stats.beta(alpha, alpha)
    # Kolmogorov's distance, which one sample of 40,000 in a thousand has above 0.0098.
    for point in torch.linspace(0.001, 0.999, 101).tolist():
        assert float((weight <= point).double().mean()) == pytest.approx(beta.cdf(point), abs=0.0098)
    assert float(weight.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(weight.var()) == pytest.approx(float(beta.var()), rel=0.03)


def test_dominant_folds_the_weight() -> None:
    mix = drawn(MixSettings(mixup=0.75, cutmix=0), 1000)
    folded = drawn(MixSettings(mixup=0.75, cutmix=0, dominant=True), 1000)
    assert torch.equal(folded.weight, torch.maximum(mix.weight, 1 - mix.weight))


def test_boxes_are_cutmixs() -> None:
    # Each box is a rectangle of the image's shape, at most 1 - λ of it, and every pixel may be its centre.
    size = (20, 40)
    mix = drawn(MixSettings(mixup=0), 4000, size)
    cut = 1 - mix.mask[:, 0]
    rows, columns = cut.amax(2), cut.amax(1)
    assert torch.equal(cut, rows[:, :, None] * columns[:, None, :])
    torch.testing.assert_close(mix.weight, mix.mask.mean((1, 2, 3)), rtol=0, atol=1e-6)
    for line in (rows, columns):
        assert (line.diff(dim=1).abs().sum(1) <= 2).all()  # in one piece
    inner = (rows[:, 0] + rows[:, -1] + columns[:, 0] + columns[:, -1]) == 0
    tall, wide = rows[inner].sum(1), columns[inner].sum(1)
    assert (wide - 2 * tall).abs().max() <= 1  # both rounded down
    # Cut at a border, the mean box is smaller than 1 - λ: sides s = √(1 - λ) keep the part 1 - s / 4 of themselves, so
    # with λ even in [0, 1] the mean of s²(1 - s/4)² is 1/2 - (1/2)(2/5) + (1/16)(1/3) = 0.321; rounding takes some off.
    assert 0.25 < float(1 - mix.weight.mean()) < 0.321
    # Boxes fall on all sides alike.
    middle = cut.mean(0)
    assert float((middle - middle.flip(0)).abs().max()) < 0.05
    assert float((middle - middle.flip(1)).abs().max()) < 0.05
    assert float(middle[10, 20]) > float(middle[0, 0]) + 0.1


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        (MixSettings(), 0.5),
        (MixSettings(switch=0.2), 0.2),
        (MixSettings(mixup=0, switch=0.2), 1),
        (MixSettings(cutmix=0, switch=0.8), 0),
    ],
)
def test_each_image_draws_its_kind(given: MixSettings, rate: float) -> None:
    mask = drawn(given, 4000).mask.expand(4000, 1, 8, 8)
    cut = ((mask == 0) | (mask == 1)).flatten(1).all(1)
    assert abs(float(cut.float().mean()) - rate) < (0.03 if 0 < rate < 1 else 1e-9)


@pytest.mark.parametrize("count", [1, 5, 6])
@pytest.mark.parametrize("seed", range(6))
def test_a_batch_draws_once_and_is_mixed_with_itself_reversed(count: int, seed: int) -> None:
    """Public code of Suave: one λ, one box and one choice of Mixup or CutMix; an image's partner is counted from the
    other end."""
    mix = drawn(MixSettings(drawn_per="batch"), count, (5, 7), seed)
    image, target = noise(count, 3, 5, 7), noise(count, 4)
    mixed, label = mix.images(image), mix.targets(target)
    weight = float(mix.weight[0])
    for i in range(count):
        partner = count - 1 - i
        torch.testing.assert_close(label[i], weight * target[i] + (1 - weight) * target[partner])
        for y in range(5):
            for x in range(7):
                own = float(mix.mask[0, 0, y, x])
                assert own in (0, 1) or own == pytest.approx(weight)
                torch.testing.assert_close(
                    mixed[i, :, y, x], own * image[i, :, y, x] + (1 - own) * image[partner, :, y, x]
                )


def test_batches_draw_from_the_same_distribution_as_images() -> None:
    generator = torch.Generator().manual_seed(0)
    given = MixSettings(drawn_per="batch")
    mixes = [draw_mix(given, 4, (8, 8), generator) for _ in range(1500)]
    cut = torch.tensor([float(((mix.mask == 0) | (mix.mask == 1)).all()) for mix in mixes])
    assert float(cut.mean()) == pytest.approx(0.5, abs=0.04)
    weight = torch.stack([mix.weight[0] for mix, is_cut in zip(mixes, cut, strict=True) if not is_cut]).double()
    for point in (0.1, 0.3, 0.5, 0.7, 0.9):  # Beta(1, 1) is uniform
        assert float((weight <= point).double().mean()) == pytest.approx(point, abs=0.06)


def test_nothing_on_leaves_images_as_they_are() -> None:
    mix = drawn(MixSettings(mixup=0, cutmix=0), 5)
    image, target = noise(5, 3, 8, 8), noise(5, 4)
    assert torch.equal(mix.images(image), image)
    assert torch.equal(mix.targets(target), target)


def test_partners_are_drawn_evenly() -> None:
    generator = torch.Generator().manual_seed(0)
    partners = torch.stack([draw_mix(MixSettings(), 3, (2, 2), generator).partner for _ in range(600)])
    counts = torch.bincount(partners[:, 0] * 3 + partners[:, 1], minlength=9)
    assert counts[[0, 4, 8]].sum() == 0
    assert (counts[[1, 2, 3, 5, 6, 7]] - 100).abs().max() < 40


@pytest.mark.parametrize(
    ("block", "message"),
    [({"mixup": -1}, "mix.mixup: -1"), ({"switch": 2}, "mix.switch: 2"), ({"cutmixx": 1}, "did you mean 'cutmix'")],
)
def test_mistakes_are_named(block: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(MixSettings, block, where="mix")
