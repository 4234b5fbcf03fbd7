"""Resizing and cropping against torchvision's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as V

from sslpipe.data.images import central_square
from sslpipe.io.errors import UserError
from sslpipe.nets.preprocessing import InputSettings, resize_and_crop


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), [(15, 10), (15, 12), (40, 40), (37, 32)])
@pytest.mark.parametrize("shape", [(20, 20), (20, 31), (33, 17)])
def test_resizing_and_cropping_are_torchvisions(interpolation, resize, crop, shape):
    images = torch.rand(2, 3, *shape)
    expected = V.resize(images, [resize], InterpolationMode(interpolation), antialias=True)
    expected = V.center_crop(expected, [crop, crop])
    settings = InputSettings(resize=resize, crop=crop, interpolation=interpolation)
    torch.testing.assert_close(resize_and_crop(images, settings), expected.clamp(0, 1))


@given(height=st.integers(1, 20), width=st.integers(1, 20), data=st.data())
def test_the_central_square_is_torchvisions(height, width, data):
    side = data.draw(st.integers(1, min(height, width)))
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    expected = V.center_crop(images, [side, side])
    assert torch.equal(central_square(images, side), expected)
    assert np.array_equal(central_square(images.numpy(), side), expected.numpy())


def test_the_central_square_by_hand():
    image = torch.arange(36).view(1, 1, 6, 6)
    assert torch.equal(central_square(image, 4), image[..., 1:5, 1:5])
    for side in (6, 7, 8):
        assert torch.equal(central_square(image, side), image)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_images_of_the_size_asked_for_are_cropped_alone(interpolation):
    images = torch.rand(2, 3, 16, 16)
    settings = InputSettings(resize=16, crop=14, interpolation=interpolation)
    assert torch.equal(resize_and_crop(images, settings), images[..., 1:15, 1:15])


def test_a_crop_of_more_than_the_image_is_refused():
    with pytest.raises(UserError, match="crop: 225 px found, expected at most resize, 224 px"):
        InputSettings(resize=224, crop=225, interpolation="bilinear")
