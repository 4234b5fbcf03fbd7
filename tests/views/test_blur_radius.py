"""The policies' blur against torchvision's, whose kernel has 2 · radius + 1 pixels: a tenth of the side."""

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from sslpipe.views.policies import Views, ViewSettings

RADIUS = {
    (2, 2): 1,
    (8, 8): 1,
    (29, 29): 1,
    (32, 32): 2,
    (40, 90): 2,
    (64, 64): 3,
    (96, 60): 3,
    (96, 96): 5,
    (224, 224): 11,
}
"""Height and width of an image to a twentieth of the shorter side, rounded, at least 1."""


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", RADIUS)
def test_blur_is_torchvisions_with_a_kernel_of_a_tenth(size, channels):
    sigma, radius, generator = 5.0, RADIUS[size], torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, channels, *size), generator=generator).to(torch.uint8)
    given = ViewSettings(policy="plain", blur=1.0, blur_sigma=(sigma, sigma))
    views = Views(given, [0.5] * channels)(image, generator)

    def expected(each, radius):
        return F.gaussian_blur(each.float() / 255, [2 * radius + 1] * 2, [sigma, sigma])

    for view, each in zip(views, image, strict=True):
        torch.testing.assert_close(view, expected(each, radius), rtol=0, atol=1e-5)
        for other in (radius - 1, radius + 1):
            if other < min(size):
                assert (view - expected(each, other)).abs().max() > 1e-3
