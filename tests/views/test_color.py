"""Colour operations held against torchvision's functions, image by image."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from sslpipe.views import color


def images(channels: int, size: int = 16) -> Tensor:
    """uint8; noise, a narrow range, few levels, a constant, black, white."""
    generator = torch.Generator().manual_seed(2)
    shape = (channels, size, size)
    noise = torch.randint(0, 256, shape, generator=generator)
    narrow = torch.randint(90, 140, shape, generator=generator)
    few = torch.randint(0, 3, shape, generator=generator) * 100
    constant, black, white = torch.full(shape, 77), torch.zeros(shape).long(), torch.full(shape, 255)
    return torch.stack([noise, narrow, few, constant, black, white]).to(torch.uint8)


FACTORS = torch.tensor([0.0, 0.05, 0.95, 1.0, 1.6, 3.0])
# Grey weighs red by 0.299, in torchvision by 0.2989: at most 1e-4 of difference times |1 - factor|.
PARAMETRIC = {
    "brightness": (color.brightness, F.adjust_brightness, FACTORS, 1e-6),
    "contrast": (color.contrast, F.adjust_contrast, FACTORS, 3e-4),
    "saturation": (color.saturation, F.adjust_saturation, FACTORS, 3e-4),
    "sharpness": (color.sharpness, F.adjust_sharpness, FACTORS, 1e-5),
    "hue": (color.hue, F.adjust_hue, torch.tensor([-0.5, -0.1, 0.0, 0.1, 0.3, 0.5]), 1e-5),
    "solarize": (color.solarize, F.solarize, torch.tensor([0.0, 0.2, 0.5001, 0.75, 0.9, 1.0]), 0.0),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PARAMETRIC)
@pytest.mark.parametrize("turn", range(6))
def test_operation_is_torchvisions_image_by_image(name: str, channels: int, turn: int) -> None:
    ours, theirs, values, tolerance = PARAMETRIC[name]
    image, value = images(channels).float() / 255, values.roll(turn)
    view = ours(image, value)
    for i in range(len(image)):
        torch.testing.assert_close(view[i], theirs(image[i], float(value[i])), rtol=0, atol=tolerance)


@pytest.mark.parametrize("operation", [color.brightness, color.contrast, color.saturation, color.sharpness])
def test_factor_one_changes_nothing(operation: Callable[[Tensor, Tensor], Tensor]) -> None:
    image = images(3).float() / 255
    assert torch.equal(operation(image, torch.ones(6)), image)


def test_solarize_above_white_inverts_nothing() -> None:
    image = images(3).float() / 255
    assert torch.equal(color.solarize(image, torch.full((6,), 256 / 255)), image)


@pytest.mark.parametrize("operation", [color.saturation, color.hue])
def test_grey_images_have_no_colour_to_change(operation: Callable[[Tensor, Tensor], Tensor]) -> None:
    image = images(1).float() / 255
    assert torch.equal(operation(image, torch.full((6,), 0.3)), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_grayscale(channels: int) -> None:
    image = images(channels).float() / 255
    expected = F.rgb_to_grayscale(image, num_output_channels=channels)
    torch.testing.assert_close(color.grayscale(image), expected, rtol=0, atol=1.1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("radius", [1, 3])
def test_blur(channels: int, radius: int) -> None:
    image, sigma = images(channels).float() / 255, torch.tensor([0.1, 0.5, 1.0, 2.0, 5.0, 0.3])
    view = color.gaussian_blur(image, sigma, radius=radius)
    for i in range(len(image)):
        expected = F.gaussian_blur(image[i], [2 * radius + 1] * 2, [float(sigma[i])])
        torch.testing.assert_close(view[i], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("turn", range(3))
def test_posterize_on_256_levels(channels: int, turn: int) -> None:
    image, bits = images(channels), torch.tensor([0, 1, 4, 5, 7, 8]).roll(2 * turn)
    view = color.posterize(image.float() / 255, bits)
    expected = torch.stack([F.posterize(one, int(number)) for one, number in zip(image, bits, strict=True)])
    assert torch.equal(view, expected.float() / 255)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 16, 17, 32])
def test_equalize_on_256_levels(channels: int, size: int) -> None:
    image = images(channels, size)
    view = color.equalize(image.float() / 255)
    assert torch.equal(view, torch.stack([F.equalize(one) for one in image]).float() / 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast(channels: int) -> None:
    image = images(channels)
    view = color.autocontrast(image.float() / 255)
    for i in range(len(image)):
        torch.testing.assert_close(view[i], F.autocontrast(image[i].float() / 255), rtol=0, atol=1e-6)
        # On integers torchvision cuts the fraction off.
        torch.testing.assert_close(view[i], F.autocontrast(image[i]).float() / 255, rtol=0, atol=1.01 / 255)


@given(
    st.lists(st.integers(0, 255), min_size=3, max_size=3),
    st.floats(-0.5, 0.5, width=32),
)
def test_hue_of_any_colour(rgb: list[int], turn: float) -> None:
    pixel = torch.tensor(rgb).view(1, 3, 1, 1) / 255
    view = color.hue(pixel, torch.tensor([turn]))
    torch.testing.assert_close(view[0], F.adjust_hue(pixel[0], turn), rtol=0, atol=1e-5)
    back = color.hue(view, torch.tensor([-turn]))
    torch.testing.assert_close(back, pixel, rtol=0, atol=1e-5)
