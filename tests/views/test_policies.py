"""Policies: settings, shapes, rates, determinism."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sslpipe.io.errors import UserError
from sslpipe.io.settings import parse
from sslpipe.views import geometry
from sslpipe.views.crops import random_crop
from sslpipe.views.draw import Draw
from sslpipe.views.policies import Views, ViewSettings, plain
from sslpipe.views.pools import POOLS
from sslpipe.views.presets import POLICIES, PolicyName

OFF: dict[str, Any] = {
    "crop_scale": [],
    "shift": 0,
    "rotate": 0,
    "shear": 0,
    "translate": 0,
    "scale": [],
    "flip": 0,
    "jitter": 0,
    "gray": 0,
    "blur": 0,
    "solarize": 0,
    "operations": 0,
    "noise": 0,
    "cutout": 0,
}
DIGITS = ViewSettings(policy="plain", rotate=15, translate=0.1, scale=(0.85, 1.15), noise=0.05, cutout=0.5)


def images(count: int = 16, channels: int = 3, size: int = 16) -> Tensor:
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(4))


def view(given: ViewSettings, image: Tensor, seed: int = 0) -> Tensor:
    return Views(given, [0.4] * image.shape[1])(image, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("policy", POLICIES)
def test_off_leaves_images_as_they_are(policy: str) -> None:
    given = parse(ViewSettings, {"policy": policy, **OFF}, where="views")
    assert torch.equal(view(given, images()), plain(images()))


def test_plain_policy_is_the_image() -> None:
    assert torch.equal(view(ViewSettings(policy="plain"), images()), images().float() / 255)


def test_own_values_replace_the_policys() -> None:
    given = parse(ViewSettings, {"policy": "simclr", "flip": 0, "crop_scale": [0.5, 1], "noise": 0.1}, where="views")
    resolved = given.resolved()
    assert (resolved.flip, resolved.crop_scale, resolved.noise, resolved.gray) == (0, (0.5, 1), 0.1, 0.2)
    assert resolved.resolved() == resolved
    assert parse(ViewSettings, {}, where="views").resolved().crop_scale == (0.2, 1.0)
    weak = ViewSettings(policy="weak").resolved()  # FixMatch, section 2.3
    assert (weak.flip, weak.shift, weak.operations) == (0.5, 0.125, None)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policys_values_are_valid(policy: str) -> None:
    assert parse(ViewSettings, {"policy": policy, **POLICIES[policy]}, where="views").policy == policy


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"operation_names": ["rotat"]}, "did you mean 'rotate'"),
        ({"policy": "stron"}, "did you mean 'strong'"),
        ({"flip": 1.5}, "views.flip: 1.5 is out of range"),
        ({"crop_scale": [0, 1]}, r"views.crop_scale\[0\]"),
        ({"crop_scale": [1, 0.2]}, "crop_scale: .* expected \\[minimum, maximum\\]"),
        ({"scale": [1]}, "scale: .* expected \\[minimum, maximum\\]"),
        ({"blurr": 1}, "did you mean 'blur'"),
        ({"operation_ranges": "fixmatc"}, "did you mean 'fixmatch'"),
        (
            {"operation_names": ["rotate", "blur"]},
            "operation_names: blur is not among the operations of scan, .*identity",
        ),
        ({"policy": "randaugment", "operation_names": ["rescale"]}, "rescale is not among the operations of fixmatch"),
        ({"cutout_side": "fixd"}, "did you mean 'fixed'"),
        ({"size": 0}, "views.size: 0 is out of range"),
        ({"policy": "weak", "size": 8}, "views: size: 8 found .* expected crop_scale"),
        ({"policy": "standard", "crop_scale": [], "size": 8}, "views: size: 8 found .* expected crop_scale"),
    ],
)
def test_mistakes_are_named(block: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(ViewSettings, block, where="views")


def pairs(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    value = st.floats(low, high)
    return st.tuples(value, value).map(lambda pair: (min(pair), max(pair)))


chance = st.none() | st.sampled_from([0.0, 0.5, 1.0])
any_settings = st.builds(
    ViewSettings,
    policy=st.sampled_from(list(POLICIES)),
    crop_scale=st.none() | st.just(()) | pairs(0.01, 1),
    crop_ratio=st.none() | pairs(0.2, 5),
    shift=st.none() | st.floats(0, 1),
    rotate=st.none() | st.floats(0, 180),
    shear=st.none() | st.floats(0, 1),
    translate=st.none() | st.floats(0, 1),
    scale=st.none() | st.just(()) | pairs(0.2, 4),
    padding=st.none() | st.sampled_from(["zeros", "border", "reflection"]),
    shift_padding=st.none() | st.sampled_from(["zeros", "border", "reflection"]),
    flip=chance,
    jitter=chance,
    brightness=st.none() | st.floats(0, 2),
    contrast=st.none() | st.floats(0, 2),
    saturation=st.none() | st.floats(0, 2),
    hue=st.none() | st.floats(0, 0.5),
    gray=chance,
    blur=chance,
    blur_sigma=st.none() | pairs(0.01, 10),
    solarize=chance,
    noise=st.none() | st.floats(0, 1),
    operations=st.none() | st.integers(0, 5),
    operation_names=st.none() | st.lists(st.sampled_from(list(POOLS["scan"].operations)), max_size=4).map(tuple),
    operation_ranges=st.none() | st.sampled_from(list(POOLS)),
    cutout=st.none() | st.floats(0, 1),
    cutout_side=st.none() | st.sampled_from(["uniform", "even", "fixed"]),
)


@settings(max_examples=60, deadline=None)
@given(
    given=any_settings,
    channels=st.sampled_from([1, 3]),
    size=st.sampled_from([(2, 2), (8, 8), (9, 12)]),
    small=st.none() | st.integers(1, 16),
    count=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_any_policy_is_an_image_and_a_function_of_the_seed(
    given: ViewSettings, channels: int, size: tuple[int, int], small: int | None, count: int, seed: int
) -> None:
    image = images(count, channels, 16)[..., : size[0], : size[1]]
    before = image.clone()
    shape = image.shape
    if given.resolved().crop_scale and small:
        given, shape = replace(given, size=small), torch.Size((count, channels, small, small))
    result = view(given, image, seed)
    assert result.shape == shape
    assert result.dtype == torch.float32
    assert result.isfinite().all()
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    assert torch.equal(image, before)
    assert torch.equal(result, view(given, image, seed))


@pytest.mark.parametrize("given", [DIGITS, *(ViewSettings(policy=name) for name in ("standard", "simclr", "strong"))])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_and_each_call_draws_its_own(given: ViewSettings, channels: int) -> None:
    same = images(1, channels, 24).expand(32, -1, -1, -1)
    views, generator = Views(given, [0.4] * channels), torch.Generator().manual_seed(0)
    first, second = views(same, generator), views(same, generator)
    assert len(torch.unique(first.flatten(1), dim=0)) >= 31
    assert not torch.equal(first, second)


@pytest.mark.parametrize("policy", POLICIES)
def test_autocast_does_not_round_a_view(policy: Any) -> None:
    given = ViewSettings(policy=policy, rotate=10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = view(given, images())
    assert torch.equal(rounded, view(given, images()))


ALONE: list[dict[str, Any]] = [
    {"crop_scale": (0.3, 0.6)},
    {"shift": 0.25},
    {"rotate": 30},
    {"shear": 0.3},
    {"translate": 0.2},
    {"scale": (0.5, 2.0)},
    {"flip": 0.5},
    {"brightness": 0.4},
    {"contrast": 0.4},
    {"saturation": 0.4},
    {"hue": 0.1},
    {"gray": 0.5},
    {"blur": 0.5},
    {"solarize": 0.5},
    {"operations": 2},
    {"noise": 0.1},
    {"cutout": 0.5},
]


@pytest.mark.parametrize("alone", ALONE, ids=lambda alone: next(iter(alone)))
def test_each_setting_acts_by_itself(alone: dict[str, Any]) -> None:
    changed = (view(ViewSettings(policy="plain", **alone), images(64)) != plain(images(64))).flatten(1).any(1)
    assert changed.float().mean() > (0.3 if 0.5 in alone.values() else 0.8)


@pytest.mark.parametrize("also", [{}, {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}])
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_flip_rate(rate: float, also: dict[str, Any]) -> None:
    image = torch.tensor([0, 255], dtype=torch.uint8).expand(4000, 1, 2, 2)
    flipped = view(ViewSettings(policy="plain", flip=rate, **also), image)[:, 0, 0, 0] > 0.5
    assert abs(float(flipped.float().mean()) - rate) < 0.03


@pytest.mark.parametrize("name", ["gray", "solarize", "jitter", "blur"])
def test_rates_of_the_others(name: str) -> None:
    given = parse(ViewSettings, {"policy": "plain", name: 0.3, "brightness": 0.5}, where="views")
    given = given if name == "jitter" else replace(given, brightness=0)
    image = images(2000, 3, 4)
    changed = (view(given, image) != plain(image)).flatten(1).any(1)
    assert abs(float(changed.float().mean()) - 0.3) < 0.04


def test_cutout_area_and_colour() -> None:
    size, longest = 16, 8
    image = torch.zeros(12000, 3, size, size, dtype=torch.uint8)
    result = Views(ViewSettings(policy="plain", cutout=0.5), [0.2, 0.3, 0.4])(image, torch.Generator().manual_seed(0))
    hole = result[:, 0] > 0
    assert torch.equal(result, hole[:, None] * torch.tensor([0.2, 0.3, 0.4])[:, None, None])
    # How often each pixel is covered: the mean over sides 1..8 and all centres.
    expected = torch.zeros(size, size)
    for side in range(1, longest + 1):
        covered = torch.zeros(size)
        for center in range(size):
            start = center - side // 2
            covered[max(start, 0) : max(start + side, 0)] += 1 / size
        expected += torch.outer(covered, covered) / longest
    assert abs(float(hole.float().mean() / expected.mean()) - 1) < 0.04
    torch.testing.assert_close(hole.float().mean(0), expected, rtol=0, atol=0.012)
    assert hole.flatten(1).sum(1).max() == longest**2


def covered(given: ViewSettings, count: int = 8000) -> Tensor:
    """Pixels of 32 × 32 that Cutout fills in each image."""
    image = torch.zeros(count, 1, 32, 32, dtype=torch.uint8)
    return (view(replace(given, operations=0), image) > 0).flatten(1).sum(1)


def test_fixed_cutout_covers_what_the_public_code_covers() -> None:
    # FixMatch: 16 of 32 px, cut off at the border, 19.1 % of the pixels in the mean; with a random side 7.4 %.
    for policy in ("randaugment_code", "ctaugment", "ctaugment_code"):
        found = covered(ViewSettings(policy=policy))  # type: ignore[arg-type]
        assert float(found.float().mean()) / 1024 == pytest.approx(0.191, abs=0.003)
        assert (int(found.min()), int(found.max())) == (8 * 8, 16 * 16)
    assert float(covered(ViewSettings(policy="randaugment")).float().mean()) / 1024 == pytest.approx(0.074, abs=0.004)


def test_even_cutout_cuts_nothing_of_a_side_of_one() -> None:
    # SCAN's public code: the side is uniform in 1..16, and its half is rounded down.
    whole, even = covered(ViewSettings(policy="strong")), covered(ViewSettings(policy="strong_code"))
    assert int(whole.min()) == 1
    assert abs(float((even == 0).float().mean()) - 1 / 16) < 0.01
    # The side is 16, 1/16, or 2, 4 to 14, 1/8 each, and cut off at the border.
    for side, share in ((16, 1 / 16), (14, 1 / 8), (2, 1 / 8)):
        inside = ((32 - side + 1) / 32) ** 2
        assert abs(float((even == side**2).float().mean()) - share * inside) < 0.015


def test_policies_of_the_public_code() -> None:
    expected: dict[PolicyName, tuple[int, str, str]] = {
        "strong": (4, "scan", "uniform"),
        "strong_code": (4, "scan_code", "even"),
        "randaugment": (2, "fixmatch", "uniform"),
        "randaugment_code": (2, "fixmatch_code", "fixed"),
        "ctaugment": (2, "ctaugment", "fixed"),
        "ctaugment_code": (2, "ctaugment_code", "fixed"),
    }
    for policy, values in expected.items():
        given = ViewSettings(policy=policy).resolved()
        assert (given.operations, given.operation_ranges, given.cutout_side) == values
        assert given.operation_names == tuple(POOLS[given.operation_ranges].operations)  # type: ignore[index]
        assert given.cutout == 0.5
        assert (given.shift == 0.125) == (not policy.startswith("strong"))


@pytest.mark.parametrize("ratio", [(0.75, 4 / 3), (0.2, 5.0), (2.0, 3.0)])
@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_crop_boxes_lie_in_the_image(ratio: tuple[float, float], size: tuple[int, int]) -> None:
    matrix = random_crop((0.2, 1.0), ratio, size, Draw(4000, torch.Generator().manual_seed(0)))
    wide, tall = matrix[:, 0, 0], matrix[:, 1, 1]
    # The centre of the box, in pixels from the image's centre, and half the box do not leave the image.
    assert (matrix[:, 0, 2].abs() + wide * size[1] / 2 <= size[1] / 2 + 1e-4).all()
    assert (matrix[:, 1, 2].abs() + tall * size[0] / 2 <= size[0] / 2 + 1e-4).all()


def test_geometry_in_one_map_is_crop_after_affine() -> None:
    # A white image cropped within its own middle stays white, however the crop and the flip are drawn.
    image = torch.full((64, 1, 16, 16), 255, dtype=torch.uint8)
    given = ViewSettings(policy="plain", crop_scale=(0.2, 1.0), flip=0.5)
    torch.testing.assert_close(view(given, image), torch.ones(64, 1, 16, 16), rtol=0, atol=1e-5)
    # Enlarged by two first, so that nothing outside the image can come in.
    given = replace(given, scale=(2.0, 2.0), rotate=10)
    torch.testing.assert_close(view(given, image), torch.ones(64, 1, 16, 16), rtol=0, atol=1e-5)


def test_shift_goes_both_ways_by_whole_pixels() -> None:
    image = images(500, 1, 8)
    result = view(ViewSettings(policy="plain", shift=0.25), image)
    moves = [(right, down) for right in range(-2, 3) for down in range(-2, 3)]
    ways = torch.stack(
        [
            geometry.shift(image, right=torch.full((500,), right), down=torch.full((500,), down)) / 255
            for right, down in moves
        ]
    )
    which = (ways == result).flatten(2).all(2)
    assert (which.sum(0) == 1).all()
    assert (which.sum(1) > 0).all()


@pytest.mark.parametrize("shape", [(16, 16), (12, 20)])
@pytest.mark.parametrize("size", [1, 5, 8, 40])
def test_small_view_is_the_same_box_read_at_fewer_points(shape: tuple[int, int], size: int) -> None:
    # On a linear ramp bilinear interpolation is exact, so that the view can be computed from the box alone.
    box = random_crop((0.2, 0.6), (3 / 4, 4 / 3), shape, Draw(50, torch.Generator().manual_seed(0)))
    given = ViewSettings(policy="plain", crop_scale=(0.2, 0.6), size=size)
    for axis, side in ((0, shape[1]), (1, shape[0])):
        ramp = (torch.arange(side) * 10).to(torch.uint8).expand(50, 1, shape[axis], side)
        result = view(given, ramp if axis == 0 else ramp.mT)
        places = ((torch.arange(size) + 0.5) / size - 0.5) * side  # from the image's centre, spread over its side
        read = (box[:, axis, axis, None] * places + box[:, axis, 2:] + (side - 1) / 2).clamp(0, side - 1)
        expected = (read * 10 / 255)[:, None, None, :].expand(50, 1, size, size)
        torch.testing.assert_close(result, expected if axis == 0 else expected.mT, rtol=0, atol=1e-5)


def test_small_view_of_the_own_size_is_the_view() -> None:
    given = ViewSettings(policy="simclr", rotate=20, padding="reflection")
    torch.testing.assert_close(view(replace(given, size=16), images()), view(given, images()), rtol=0, atol=1e-5)


def test_what_follows_the_crop_works_on_the_small_view() -> None:
    # Cutout of half the side: 4 of 8 pixels, not 8 of 16.
    image = torch.zeros(3000, 1, 16, 16, dtype=torch.uint8)
    given = ViewSettings(policy="plain", crop_scale=(0.2, 0.5), size=8, cutout=0.5, noise=0)
    assert (view(given, image) > 0).flatten(1).sum(1).max() == 4**2
