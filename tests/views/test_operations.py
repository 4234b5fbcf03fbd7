"""The random operations of table S4."""

from collections.abc import Callable
from dataclasses import replace
from math import atan, degrees
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from sslpipe.views.draw import Draw
from sslpipe.views.operations import (
    Operation,
    OperationName,
    Pool,
    apply_operations,
    draw_operations,
    random_operations,
)
from sslpipe.views.policies import Views, ViewSettings, plain
from sslpipe.views.pools import POOLS, PoolName

SCAN = POOLS["scan"]
OPERATIONS = SCAN.operations


def draws(count: int, seed: int = 0) -> Draw:
    return Draw(count, torch.Generator().manual_seed(seed))


def images(count: int, channels: int = 3) -> Tensor:
    # More than 255 pixels below the greatest value, so that equalize acts; a narrow range, so that autocontrast does.
    levels = torch.randint(40, 200, (count, channels, 20, 20), generator=torch.Generator().manual_seed(3))
    return levels / 255


def test_names_are_the_tables() -> None:
    # Table S4, in its order.
    table = "identity autocontrast equalize rotate solarize color contrast brightness sharpness "
    table += "shear_x translate_x translate_y posterize shear_y"
    assert list(get_args(OperationName))[:14] == list(OPERATIONS) == table.split()


def shifted(image: Tensor, right: float = 0, down: float = 0, shear: tuple[float, float] = (0, 0)) -> Tensor:
    """Torchvision's affine map, which moves by whole pixels; shear in pixels per pixel."""
    moved: Tensor = F.affine(
        image,
        angle=0,
        translate=[round(right), round(down)],
        scale=1,
        shear=[degrees(atan(part)) for part in shear],
        interpolation=InterpolationMode.BILINEAR,
    )
    return moved


# Table S4: both ends of each interval and a magnitude within it. Images are 20 x 20, so 0.1 of the side is 2 pixels.
TABLE: dict[OperationName, tuple[list[float], Callable[[Tensor, float], Tensor]]] = {
    "identity": ([0], lambda image, _: image),
    "autocontrast": ([0], lambda image, _: F.autocontrast(image)),
    "equalize": ([0], lambda image, _: F.equalize(image)),
    "rotate": ([-30, 12, 30], lambda image, at: F.rotate(image, -at, InterpolationMode.BILINEAR)),
    "solarize": ([0, 100.5, 256], lambda image, at: torch.where((image * 255).round() >= at, F.invert(image), image)),
    "color": ([0.05, 0.5, 0.95], F.adjust_saturation),
    "contrast": ([0.05, 0.5, 0.95], F.adjust_contrast),
    "brightness": ([0.05, 0.5, 0.95], F.adjust_brightness),
    "sharpness": ([0.05, 0.5, 0.95], F.adjust_sharpness),
    "shear_x": ([-0.1, 0.04, 0.1], lambda image, at: shifted(image, shear=(at, 0))),
    "translate_x": ([-0.1, 0.05, 0.1], lambda image, at: shifted(image, right=20 * at)),
    "translate_y": ([-0.1, 0.05, 0.1], lambda image, at: shifted(image, down=20 * at)),
    "posterize": ([4, 6, 8], lambda image, at: F.posterize((image * 255).round().byte(), int(at)) / 255),
    "shear_y": ([-0.1, 0.04, 0.1], lambda image, at: shifted(image, shear=(0, at))),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_is_torchvisions_over_the_tables_interval(name: OperationName, channels: int) -> None:
    magnitudes, theirs = TABLE[name]
    operation, image = OPERATIONS[name], images(len(magnitudes), channels)
    view = SCAN.apply(name, image, torch.tensor(magnitudes, dtype=torch.float32))
    for one, start, magnitude in zip(view, image, magnitudes, strict=True):
        torch.testing.assert_close(one, theirs(start, magnitude), rtol=0, atol=2e-4)
    # Posterize draws from [4, 9) and rounds down.
    assert operation.low == magnitudes[0]
    assert operation.high == magnitudes[-1] + (name == "posterize")


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_image_is_done_as_if_alone(name: OperationName) -> None:
    # Paper-literal: a loop over images, each with the operation and the magnitude that it drew.
    image = images(12)
    names: tuple[OperationName, ...] = ("identity", name, "contrast")
    view = random_operations(image, draws(12), rounds=2, names=names, pool=SCAN)
    draw = draws(12)
    chosen = draw_operations(draw, 2, 3)
    unit = [draw.uniform(0, 1) for _ in range(2)]
    for i in range(12):
        one = image[i : i + 1]
        for t in range(2):
            operation = OPERATIONS[drawn := SCAN.arranged(names)[int(chosen[t][i])]]
            one = SCAN.apply(drawn, one, operation.low + (operation.high - operation.low) * unit[t][i : i + 1])
        torch.testing.assert_close(view[i : i + 1], one, rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_changes_what_it_should(name: OperationName, channels: int) -> None:
    image = images(64, channels)
    changed = (random_operations(image, draws(64), rounds=1, names=[name], pool=SCAN) != image).flatten(1).any(1)
    if name == "identity" or (name == "color" and channels == 1):
        assert not changed.any()
    else:
        # Solarize above the brightest value and posterize to 8 bits change nothing.
        assert changed.float().mean() > 0.6


def test_operations_are_drawn_evenly() -> None:
    # Brightness scales by 0.05 to 0.95 and identity by 1, so a white image tells which it drew.
    image = torch.ones(8000, 1, 1, 1)
    names: tuple[OperationName, ...] = ("identity", "brightness", "identity", "identity")
    view = random_operations(image, draws(8000), rounds=1, names=names, pool=SCAN).flatten()
    dimmed = view < 1
    assert abs(float(dimmed.float().mean()) - 1 / 4) < 0.02
    assert abs(float(view[dimmed].mean()) - 0.5) < 0.02
    assert float(view.min()) >= 0.05
    assert float(view[dimmed].max()) <= 0.95


def test_posterize_draws_each_number_of_bits_evenly() -> None:
    image = torch.full((5000, 1, 1, 1), 1.0)
    left = (random_operations(image, draws(5000), rounds=1, names=["posterize"], pool=SCAN) * 255).round().flatten()
    values, counts = torch.unique(left, return_counts=True)
    assert values.tolist() == [240, 248, 252, 254, 255]
    assert (counts / 5000 - 1 / 5).abs().max() < 0.03


def test_rounds_are_drawn_with_replacement() -> None:
    # With two names, neither round draws brightness in a quarter of the images; without replacement it always would.
    image = torch.ones(4000, 1, 1, 1)
    view = random_operations(image, draws(4000), rounds=2, names=["identity", "brightness"], pool=SCAN).flatten()
    assert abs(float((view == 1).float().mean()) - 1 / 4) < 0.03


def test_fixmatchs_ranges_are_its_tables() -> None:
    # FixMatch, table 12, in the order of SCAN's; solarize's threshold, there 0 to 1, in levels. Posterize draws from
    # [4, 9) and rounds down.
    geometry = dict.fromkeys(("shear_x", "shear_y", "translate_x", "translate_y"), (-0.3, 0.3))
    blends = dict.fromkeys(("color", "contrast", "brightness", "sharpness"), (0.05, 0.95))
    none = dict.fromkeys(("identity", "autocontrast", "equalize"), (0, 0))
    expected = {**geometry, **blends, **none, "rotate": (-30, 30), "solarize": (0, 256), "posterize": (4, 9)}
    table = POOLS["fixmatch"].operations
    assert list(table) == list(OPERATIONS)
    assert {name: (operation.low, operation.high) for name, operation in table.items()} == expected
    assert set(POOLS) == set(get_args(PoolName))


def test_what_is_applied_is_what_was_drawn() -> None:
    image, pool = images(20), POOLS["fixmatch"]
    draw = draws(20, seed=5)
    chosen = draw_operations(draw, 3, 14)
    share = torch.stack([draw.uniform(0, 1) for _ in range(3)])
    names = pool.arranged(list(OPERATIONS))
    expected = random_operations(image, draws(20, seed=5), rounds=3, names=names, pool=pool)
    assert torch.equal(apply_operations(image, chosen, share, share, names=names, pool=pool), expected)
    assert not torch.equal(apply_operations(image, chosen, share, share, names=names, pool=SCAN), expected)


@given(count=st.integers(1, 40), operations=st.integers(1, 14), seed=st.integers(0, 1000))
def test_no_operation_has_too_many_images(count: int, operations: int, seed: int) -> None:
    rounds = draw_operations(draws(count, seed), 3, operations)
    assert rounds.shape == (3, count)
    for chosen in rounds:
        assert 0 <= int(chosen.min()) <= int(chosen.max()) < operations
        assert int(chosen.bincount().max()) <= -(-count // operations)


@pytest.mark.parametrize("count", [1, 3, 5, 14, 17])
def test_every_image_gets_every_operation_equally_often(count: int) -> None:
    # Of few images, too, where some operations get none: places in the batch are drawn.
    chosen = torch.cat([draw_operations(draws(count, seed), 4, 5) for seed in range(1500)])
    for image in chosen.T:
        assert (image.bincount(minlength=5) / len(chosen) - 1 / 5).abs().max() < 0.025


def test_maps_side_by_side_are_as_maps_apart() -> None:
    # The same choices, once with the maps together and once between the others.
    apart: list[OperationName] = ["rotate", "identity", "shear_x", "color", "translate_y"]
    image, share = images(20), draws(20).uniform(0, 1)[None]
    chosen = draw_operations(draws(20), 1, 5)
    together = SCAN.arranged(apart)
    assert [OPERATIONS[name].moves is not None for name in together] == [False, False, True, True, True]
    moved = torch.tensor([together.index(name) for name in apart])[chosen]
    torch.testing.assert_close(
        apply_operations(image, chosen, share, share, names=apart, pool=SCAN),
        apply_operations(image, moved, share, share, names=together, pool=SCAN),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize(("share", "factor"), [(0.0, 0.05), (0.5, 0.5), (1.0, 0.95)])
def test_share_is_the_place_in_the_interval(share: float, factor: float) -> None:
    image, shares = torch.ones(1, 1, 1, 1), torch.tensor([[share]])
    view = apply_operations(image, torch.zeros(1, 1).long(), shares, shares, names=["brightness"], pool=SCAN)
    assert float(view) == pytest.approx(factor)


def test_each_operation_is_applied_with_the_pools_probability() -> None:
    pool = Pool(
        {"identity": Operation(), **{name: OPERATIONS[name] for name in ("brightness", "color")}}, probability=0.5
    )
    image = torch.ones(6000, 1, 1, 1)
    view = random_operations(image, draws(6000), rounds=1, names=["brightness"], pool=pool).flatten()
    assert abs(float((view == 1).float().mean()) - 1 / 2) < 0.02
    # In each of two rounds, brightness is chosen in a half of the images and applied in a half of these.
    view = random_operations(image, draws(6000), rounds=2, names=["brightness", "color"], pool=pool).flatten()
    assert abs(float((view == 1).float().mean()) - (3 / 4) ** 2) < 0.02


def pixels() -> Tensor:
    return (images(64) * 255).to(torch.uint8)


def view(given: ViewSettings) -> Tensor:
    return Views(given, [0.4] * 3)(pixels(), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("ranges", POOLS)
def test_policy_takes_the_chosen_pool(ranges: PoolName) -> None:
    pool = POOLS[ranges]
    expected = random_operations(plain(pixels()), draws(64), rounds=2, names=list(pool.operations), pool=pool)
    assert torch.equal(view(ViewSettings(policy="plain", operations=2, operation_ranges=ranges)), expected.clamp(0, 1))
    assert (ViewSettings(policy="randaugment").resolved().operation_ranges == ranges) == (ranges == "fixmatch")


@pytest.mark.parametrize("given", [ViewSettings(policy="strong"), ViewSettings(policy="weak")])
def test_given_operations_take_the_place_of_the_policys(given: ViewSettings) -> None:
    # Given what the policy would do, it is the policy; the rest (flip, shift, Cutout) is done all the same.
    generator = torch.Generator().manual_seed(0)

    def four(image: Tensor, draw: Draw) -> Tensor:
        assert draw.generator is generator
        return random_operations(image, draw, rounds=4, names=list(OPERATIONS), pool=SCAN)

    result = Views(given, [0.4] * 3)(pixels(), generator, four)
    assert torch.equal(result, view(replace(given, operations=4)))
    assert not torch.equal(result, view(replace(given, operations=0)))
