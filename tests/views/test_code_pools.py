"""Operations as the public code has them, against Pillow's functions, which that code calls."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from sslpipe.views.draw import Draw
from sslpipe.views.operations import OperationName, Pool, random_operations
from sslpipe.views.pools import POOLS
from sslpipe.views.resampling import METHODS

SCAN, FIXMATCH, CTAUGMENT = (POOLS[name] for name in ("scan_code", "fixmatch_code", "ctaugment_code"))
Pillow = Callable[[Image.Image, float], Image.Image]
SIDE = 32
RESIZE = [
    Image.Resampling.LANCZOS,
    Image.Resampling.BICUBIC,
    Image.Resampling.BILINEAR,
    Image.Resampling.BOX,
    Image.Resampling.HAMMING,
    Image.Resampling.NEAREST,
]


def pixels(side: int = SIDE) -> Tensor:
    """uint8 [1, 3, side, side], large patches and noise, in a narrow range."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(1, 3, 6, 6, generator=generator)
    image = torch.nn.functional.interpolate(patches, size=(side, side), mode="bilinear", align_corners=False)
    return (image * 150 + torch.rand(1, 3, side, side, generator=generator) * 60 + 20).round().to(torch.uint8)


def as_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image[0].permute(1, 2, 0).numpy())


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def ours(pool: Pool, name: OperationName, magnitude: float, detail: float = 0.0, side: int = SIDE) -> Tensor:
    return pool.apply(name, pixels(side).float() / 255, torch.tensor([magnitude]), torch.tensor([detail]))


def check(view: Tensor, expected: Image.Image, *, levels: float = 1.5, share: float = 0.0) -> None:
    """A share of the pixels may differ by more than `levels` of 256, where a map rounds to another neighbour."""
    assert float(((view - as_tensor(expected)).abs() > levels / 255).float().mean()) <= share


def affine(*entries: float) -> Pillow:
    return lambda image, _: image.transform(image.size, Image.Transform.AFFINE, entries)


def shear_x(image: Image.Image, by: float) -> Image.Image:
    return affine(1, by, 0, 0, 1, 0)(image, by)


def shear_y(image: Image.Image, by: float) -> Image.Image:
    return affine(1, 0, 0, by, 1, 0)(image, by)


def translate_x(image: Image.Image, by: float) -> Image.Image:
    return affine(1, 0, by, 0, 1, 0)(image, by)


def translate_y(image: Image.Image, by: float) -> Image.Image:
    return affine(1, 0, 0, 0, 1, by)(image, by)


def rotate(image: Image.Image, by: float) -> Image.Image:
    return image.rotate(-by)


def enhance(kind: type[ImageEnhance._Enhance]) -> Pillow:
    return lambda image, factor: kind(image).enhance(factor)


# The maps of SCAN's and CTAugment's code: nearest pixels, black outside, shears about the upper left corner.
MAPS: list[tuple[Pool, OperationName, list[float], Pillow, float]] = [
    (SCAN, "rotate", [-29.0, -7.0, 16.0], rotate, 1),
    (SCAN, "shear_x", [-0.093, 0.041, 0.097], shear_x, 1),
    (SCAN, "shear_y", [-0.093, 0.041, 0.097], shear_y, 1),
    (SCAN, "translate_x", [-0.08, 0.055], translate_x, -SIDE),
    (SCAN, "translate_y", [-0.08, 0.055], translate_y, -SIDE),
    (CTAUGMENT, "rotate", [-44.0, 13.0, 37.0], rotate, 1),
    (CTAUGMENT, "shear_x", [-0.29, 0.13, 0.23], shear_x, 1),
    (CTAUGMENT, "shear_y", [-0.29, 0.13, 0.23], shear_y, 1),
]


@pytest.mark.parametrize(("pool", "name", "magnitudes", "theirs", "unit"), MAPS)
def test_maps_are_pillows(
    pool: Pool, name: OperationName, magnitudes: list[float], theirs: Pillow, unit: float
) -> None:
    for magnitude in magnitudes:
        for side in (SIDE, 33):
            scale = unit * side / SIDE if name.startswith("translate") else unit
            check(
                ours(pool, name, magnitude, side=side), theirs(as_pillow(pixels(side)), scale * magnitude), share=0.01
            )


def test_rotation_is_by_whole_degrees() -> None:
    assert torch.equal(ours(CTAUGMENT, "rotate", 12.6), ours(CTAUGMENT, "rotate", 13.0))


def test_nearest_pixels_keep_sharpness() -> None:
    # A bilinear map makes new values, one of the nearest pixels none but black.
    values = set(pixels().unique().tolist()) | {0}
    for pool in (SCAN, CTAUGMENT):
        for name in ("rotate", "shear_x", "shear_y"):
            found = (ours(pool, name, 0.09 if name != "rotate" else 20.0) * 255).round().unique()
            assert set(found.int().tolist()) <= values
    assert POOLS["scan"].interpolation == "bilinear"


def drawn_bits(pool: Pool, count: int = 8000) -> dict[int, float]:
    """How often posterize leaves a number of bits."""
    image = torch.ones(count, 1, 1, 1)
    pool = replace(pool, probability=1.0)
    draw = Draw(count, torch.Generator().manual_seed(0))
    left = (random_operations(image, draw, rounds=1, names=["posterize"], pool=pool) * 255).round().flatten()
    bits, counts = torch.unique(8 - (256 - left).log2(), return_counts=True)
    return dict(zip(bits.int().tolist(), (counts / count).tolist(), strict=True))


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("scan_code", {4: 1 / 4, 5: 1 / 4, 6: 1 / 4, 7: 1 / 4}),
        ("fixmatch_code", {4: 2 / 9, 3: 2 / 9, 2: 3 / 9, 1: 2 / 9}),  # 4 - int(0.4 · level), levels 1 to 9
        ("ctaugment_code", dict.fromkeys(range(1, 9), 1 / 8)),
    ],
)
def test_bits_of_posterize(name: str, shares: dict[int, float]) -> None:
    found = drawn_bits(POOLS[name])  # type: ignore[index]
    assert found == pytest.approx(shares, abs=0.02)


LEVELS = range(1, 10)
# FixMatch's RandAugment for CIFAR: what a level of 1 to 9 does.
BY_LEVEL: dict[OperationName, Pillow] = {
    "color": lambda image, level: ImageEnhance.Color(image).enhance(0.1 + 0.18 * level),
    "contrast": lambda image, level: ImageEnhance.Contrast(image).enhance(0.1 + 0.18 * level),
    "brightness": lambda image, level: ImageEnhance.Brightness(image).enhance(0.1 + 0.18 * level),
    "sharpness": lambda image, level: ImageEnhance.Sharpness(image).enhance(0.1 + 0.18 * level),
    "solarize": lambda image, level: ImageOps.solarize(image, 256 - int(25.6 * level)),
    "posterize": lambda image, level: ImageOps.posterize(image, 4 - int(0.4 * level)),
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "identity": lambda image, _: image,
    "rotate": lambda image, level: image.rotate(-3 * level),
    "shear_x": lambda image, level: shear_x(image, 0.03 * level),
    "shear_y": lambda image, level: shear_y(image, 0.03 * level),
    "translate_x": lambda image, level: translate_x(image, -level),
    "translate_y": lambda image, level: translate_y(image, -level),
}


@pytest.mark.parametrize("name", BY_LEVEL)
def test_levels_of_fixmatchs_code(name: OperationName) -> None:
    operation = FIXMATCH.operations[name]
    if operation.high == operation.low:
        check(ours(FIXMATCH, name, 0.0), BY_LEVEL[name](as_pillow(pixels()), 0))
        return
    signs = (1, -1) if operation.low < 0 else (1,)
    assert (operation.low, operation.high) == (-9 if operation.low < 0 else 0, 9)
    for level in LEVELS:
        for sign in signs:
            # Grey outside the image: Pillow's map of the image and of a white one says where that is.
            expected = BY_LEVEL[name](as_pillow(pixels()), sign * level)
            if operation.moves:
                white = Image.new("L", (SIDE, SIDE), 255)
                inside = BY_LEVEL[name](white, sign * level)
                expected = Image.composite(expected, Image.new("RGB", (SIDE, SIDE), (127, 127, 127)), inside)
            view = ours(FIXMATCH, name, sign * (level - 0.5))
            check(view, expected, levels=2.1, share=0.015 if operation.moves else 0.0)
            assert torch.equal(view, ours(FIXMATCH, name, sign * (level - 0.99)))


def test_fixmatchs_code_applies_half_of_its_operations() -> None:
    # White pixels: brightness alone changes them, in 1/2 of the images.
    draw = Draw(6000, torch.Generator().manual_seed(0))
    view = random_operations(torch.ones(6000, 1, 1, 1), draw, rounds=1, names=["brightness"], pool=FIXMATCH).flatten()
    # Factors above 1, levels 5 to 9, leave white as it is: 4 of 9 levels in half of the images.
    assert abs(float((view < 1).float().mean()) - 4 / 9 / 2) < 0.015
    factors = view[view < 1].unique()
    torch.testing.assert_close(factors, torch.tensor([0.28, 0.46, 0.64, 0.82]))


def test_ctaugment_has_19_operations_and_these_intervals() -> None:
    # ReMixMatch's operations as in FixMatch's public code; levels of solarize in 0 to 255.
    expected: dict[OperationName, tuple[float, float]] = {
        **dict.fromkeys(("autocontrast", "equalize", "invert", "blur", "smooth", "rescale", "cutout"), (0, 1)),
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0.1, 2.0)),
        **dict.fromkeys(("shear_x", "shear_y", "translate_x", "translate_y"), (-0.3, 0.3)),
        "identity": (0, 0),
        "rotate": (-45, 45),
        "posterize": (1, 9),
        "solarize": (0, 256),
    }
    operations = POOLS["ctaugment"].operations
    assert {name: (operation.low, operation.high) for name, operation in operations.items()} == expected
    assert set(operations) == set(CTAUGMENT.operations) == set(get_args(OperationName))
    for name in operations:
        assert (operations[name] == CTAUGMENT.operations[name]) == (not name.startswith("translate")), name


def blended(function: Callable[[Image.Image], Image.Image]) -> Pillow:
    return lambda image, level: Image.blend(image, function(image), level)


BLENDED: dict[OperationName, Pillow] = {
    "autocontrast": blended(ImageOps.autocontrast),
    "equalize": blended(ImageOps.equalize),
    "invert": blended(ImageOps.invert),
    "blur": blended(lambda image: image.filter(ImageFilter.BLUR)),
    "smooth": blended(lambda image: image.filter(ImageFilter.SMOOTH)),
    "brightness": enhance(ImageEnhance.Brightness),
    "color": enhance(ImageEnhance.Color),
    "contrast": enhance(ImageEnhance.Contrast),
    "sharpness": enhance(ImageEnhance.Sharpness),
    "solarize": lambda image, level: ImageOps.solarize(image, int(level)),
    "posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
}


@pytest.mark.parametrize("name", BLENDED)
def test_operations_of_ctaugment_are_pillows(name: OperationName) -> None:
    operation = CTAUGMENT.operations[name]
    for share in (0.0, 0.07, 0.5, 0.93, 0.999):
        magnitude = operation.low + (operation.high - operation.low) * share
        check(ours(CTAUGMENT, name, magnitude), BLENDED[name](as_pillow(pixels()), magnitude), levels=2.1)


@pytest.mark.parametrize("method", range(6))
@pytest.mark.parametrize("side", [SIDE, 33])
def test_rescale_is_pillows_crop_and_resize(method: int, side: int) -> None:
    assert len(METHODS) == len(RESIZE)
    image = as_pillow(pixels(side))
    for level in (0.0, 0.1, 0.5, 0.9):
        near, far = 0.25 * level * side, side * (1 - 0.25 * level)
        expected = image.crop((near, near, far, far)).resize(image.size, RESIZE[method])
        check(ours(CTAUGMENT, "rescale", level, (method + 0.5) / 6, side), expected)


def test_rescale_of_an_oblong_image() -> None:
    image = pixels()[..., :20]
    view = CTAUGMENT.apply("rescale", image.float() / 255, torch.tensor([0.8]), torch.tensor([0.4]))
    expected = as_pillow(image).crop((4, 6.4, 16, 25.6)).resize((20, 32), Image.Resampling.BILINEAR)
    check(view, expected)


@pytest.mark.parametrize(("level", "side"), [(0.0, 0), (0.06, 0), (0.07, 2), (0.5, 8), (0.999, 16)])
def test_cutout_of_ctaugment_has_an_even_side_of_up_to_half_the_images(level: float, side: int) -> None:
    # Public code: 1 + int(level · 32 · 0.499), of which a half, rounded down, is cut on either side of the centre.
    white = torch.ones(1024, 3, SIDE, SIDE)
    place = (torch.arange(1024) + 0.5) / 1024
    view = CTAUGMENT.apply("cutout", white, torch.full((1024,), level), place)
    hole = view[:, 0] < 1
    assert torch.equal(view, torch.where(hole[:, None], torch.tensor(127 / 255), white))
    expected = torch.zeros(1024, SIDE, SIDE, dtype=torch.bool)
    for center in range(1024):
        y, x = divmod(center, SIDE)
        expected[center, max(y - side // 2, 0) : y + side // 2, max(x - side // 2, 0) : x + side // 2] = True
    assert torch.equal(hole, expected)


def test_translations_of_ctaugments_code_move_nothing() -> None:
    # By 0.3 of a pixel, of which the nearest pixel is the pixel itself.
    for name, theirs in (("translate_x", translate_x), ("translate_y", translate_y)):
        for by in (-0.3, 0.1, 0.3):
            assert torch.equal(ours(CTAUGMENT, name, by), as_tensor(theirs(as_pillow(pixels()), by)))  # type: ignore[arg-type]
            moved = partial(translate_x if name == "translate_x" else translate_y, as_pillow(pixels()))
            check(ours(POOLS["ctaugment"], name, by), moved(-by * SIDE), share=0.01)  # type: ignore[arg-type]
