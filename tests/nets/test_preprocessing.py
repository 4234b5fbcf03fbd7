"""Resizing and cropping against torchvision's."""

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as V

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


def test_a_crop_of_more_than_the_image_is_refused():
    with pytest.raises(UserError, match="crop: 225 px found, expected at most resize, 224 px"):
        InputSettings(resize=224, crop=225, interpolation="bilinear")
