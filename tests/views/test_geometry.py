"""Geometry held against torchvision's functions, image by image."""

from math import atan, degrees

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from sslpipe.views import geometry


def images(channels: int, height: int = 16, width: int = 16, count: int = 6) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(16, 16), (9, 14)])
def test_affine_is_torchvisions_image_by_image(channels: int, shape: tuple[int, int]) -> None:
    image = images(channels, *shape)
    angle = torch.tensor([0.0, 30, -30, 180, -90, 7])
    shear_x = torch.tensor([0.0, 0.1, -0.1, 0.5, 0, 0.3])
    shear_y = torch.tensor([0.0, -0.1, 0.2, 0, 0.1, 0.4])
    scale = torch.tensor([1.0, 0.5, 2, 1, 0.85, 1.15])
    right, down = torch.tensor([0.0, 2, -3, 0, 16, 5]), torch.tensor([0.0, -1, 3, 4, 0, -2])
    matrix = geometry.affine_matrix(
        angle=angle, shear_x=shear_x, shear_y=shear_y, scale=scale, translate_x=right, translate_y=down
    )
    view = geometry.warp(image, matrix)
    for i in range(len(image)):
        expected = F.affine(
            image[i],
            angle=float(angle[i]),
            translate=[int(right[i]), int(down[i])],
            scale=float(scale[i]),
            shear=[degrees(atan(shear_x[i])), degrees(atan(shear_y[i]))],
            interpolation=InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(view[i], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("padding", "outside"), [("zeros", 0.0), ("border", 0.5)])
def test_padding_is_what_comes_in(padding: geometry.Padding, outside: float) -> None:
    # Four pixels to the right.
    matrix = torch.tensor([[[1.0, 0, -4], [0, 1, 0], [0, 0, 1]]])
    view = geometry.warp(torch.full((1, 1, 8, 8), 0.5), matrix, padding)
    assert torch.allclose(view[..., :4], torch.tensor(outside), atol=1e-5)
    assert torch.allclose(view[..., 4:], torch.tensor(0.5), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_map_of_a_crop_is_torchvisions_within_the_box(channels: int) -> None:
    image = images(channels, 20, 16, count=4)
    left, top = torch.tensor([0.0, 3, 8, 15]), torch.tensor([0.0, 5, 10, 19])
    width, height = torch.tensor([16.0, 8, 8, 1]), torch.tensor([20.0, 4, 10, 1])
    crop = geometry.crop_matrix(left=left, top=top, width=width, height=height, size=(20, 16))
    view = geometry.warp(image, crop, "border")
    for i in range(len(image)):
        box = [int(top[i]), int(left[i]), int(height[i]), int(width[i])]
        expected = F.resized_crop(image[i], *box, size=[20, 16], antialias=True)
        # Rows and columns that are read at least half a pixel within the box: there the rim plays no part.
        y = (torch.arange(20) + 0.5) * box[2] / 20
        x = (torch.arange(16) + 0.5) * box[3] / 16
        at_y, at_x = (y >= 0.5) & (y <= box[2] - 0.5), (x >= 0.5) & (x <= box[3] - 0.5)
        torch.testing.assert_close(view[i][:, at_y][:, :, at_x], expected[:, at_y][:, :, at_x], rtol=0, atol=1e-5)
    torch.testing.assert_close(view[0], image[0], rtol=0, atol=1e-5)


def test_composed_maps_equal_one_after_the_other() -> None:
    # By whole pixels, so that the second interpolation changes nothing; black around, so that nothing leaves the image.
    image = torch.nn.functional.pad(images(3, 6, 6, count=2), (5, 5, 5, 5))
    none, one = torch.zeros(2), torch.ones(2)
    quarter = geometry.affine_matrix(
        angle=torch.tensor([90.0, 180]),
        shear_x=none,
        shear_y=none,
        scale=one,
        translate_x=torch.tensor([3.0, 0]),
        translate_y=torch.tensor([0.0, -2]),
    )
    crop = geometry.crop_matrix(left=2 * one, top=-one, width=16 * one, height=16 * one, size=(16, 16))
    flip = geometry.flip_matrix(torch.tensor([True, False]))
    at_once = geometry.warp(image, geometry.compose(geometry.compose(quarter, crop), flip))
    stepwise = geometry.warp(geometry.warp(geometry.warp(image, quarter), crop), flip)
    torch.testing.assert_close(at_once, stepwise, rtol=0, atol=1e-4)


def test_flip_and_its_map() -> None:
    image, flipped = images(3, 9, 14, count=2), torch.tensor([True, False])
    view = geometry.horizontal_flip(image, flipped)
    assert torch.equal(view[0], F.horizontal_flip(image[0]))
    assert torch.equal(view[1], image[1])
    torch.testing.assert_close(geometry.warp(image, geometry.flip_matrix(flipped)), view, rtol=0, atol=1e-5)


PADDINGS: dict[geometry.Padding, str] = {"reflection": "reflect", "zeros": "constant", "border": "edge"}


@given(right=st.integers(-6, 6), down=st.integers(-4, 4), padding=st.sampled_from([*PADDINGS]))
def test_shift_is_padding_and_crop(right: int, down: int, padding: geometry.Padding) -> None:
    image = (images(3, 5, 7, count=2) * 255).to(torch.uint8)
    view = geometry.shift(image, right=torch.tensor([right, 0]), down=torch.tensor([down, 0]), padding=padding)
    padded = F.pad(image[0], [6, 4, 6, 4], padding_mode=PADDINGS[padding])
    assert view.dtype == torch.uint8
    assert torch.equal(view[0], padded[:, 4 - down : 9 - down, 6 - right : 13 - right])
    assert torch.equal(view[1], image[1])


@given(x=st.integers(0, 6), y=st.integers(0, 4), side=st.integers(0, 9))
def test_cutout_is_torchvisions_erase(x: int, y: int, side: int) -> None:
    image, fill = images(3, 5, 7, count=2), torch.tensor([0.1, 0.2, 0.3])
    view = geometry.cutout(
        image,
        center_x=torch.tensor([x, 0]),
        center_y=torch.tensor([y, 0]),
        side=torch.tensor([side, 0]),
        fill=fill,
    )
    left, top = x - side // 2, y - side // 2
    clipped = (max(top, 0), max(left, 0), min(top + side, 5) - max(top, 0), min(left + side, 7) - max(left, 0))
    assert torch.equal(view[0], F.erase(image[0], *clipped, v=fill[:, None, None]))
    assert torch.equal(view[1], image[1])
