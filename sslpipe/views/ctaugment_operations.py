"""The 19 operations of CTAugment (ReMixMatch, arXiv:1911.09785), with the intervals of FixMatch's public code.

Each has a level in [0, 1]; rescale and cutout have a second random number, the detail. The learned bins of an interval
are 17, except for posterize (8) and for rescale's method (6).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sslpipe.views import color, geometry
from sslpipe.views.operations import Operation, OperationName, Pool, by_magnitude
from sslpipe.views.resampling import METHODS, rescale
from sslpipe.views.scan_operations import affine, whole


def _blended(function: Callable[[Tensor], Tensor]) -> Operation:
    """Return the operation that interpolates by the level between the image and a function of it."""
    return by_magnitude(lambda image, level: torch.lerp(image, function(image), level[:, None, None, None]), 0, 1)


def _cutout(image: Tensor, level: Tensor, detail: Tensor) -> Tensor:
    """Fill a square at a random place with grey; its side is half the image's at level 1, rounded down to even."""
    height, width = image.shape[-2:]
    half = (1 + (level * min(height, width) * 0.499).long()) // 2
    place = (detail * (height * width)).long().clamp(max=height * width - 1)
    grey = image.new_full((image.shape[1],), 127 / 255)
    return geometry.cutout(image, center_x=place % width, center_y=place // width, side=2 * half, fill=grey)


_OPERATIONS: dict[OperationName, Operation] = {
    "identity": Operation(bins=1),
    "autocontrast": _blended(color.autocontrast),
    "equalize": _blended(color.equalize),
    "rotate": affine("angle", 45)._replace(rounded=torch.round),
    "solarize": by_magnitude(lambda image, level: color.solarize(image, level / 255), 0, 256)._replace(
        rounded=whole(255)
    ),
    "color": by_magnitude(color.saturation, 0.1, 2.0),
    "contrast": by_magnitude(color.contrast, 0.1, 2.0),
    "brightness": by_magnitude(color.brightness, 0.1, 2.0),
    "sharpness": by_magnitude(color.sharpness, 0.1, 2.0),
    "shear_x": affine("shear_x", 0.3),
    "translate_x": affine("translate_x", 0.3),
    "translate_y": affine("translate_y", 0.3),
    "posterize": by_magnitude(color.posterize, 1, 9)._replace(rounded=whole(8), bins=8),
    "shear_y": affine("shear_y", 0.3),
    "blur": _blended(color.ring_blur),
    "smooth": by_magnitude(lambda image, level: color.sharpness(image, 1 - level), 0, 1),
    "invert": _blended(lambda image: 1 - image),
    "rescale": Operation(rescale, 0, 1, details=len(METHODS)),
    "cutout": Operation(_cutout, 0, 1, details=1),
}
CTAUGMENT = Pool(_OPERATIONS, interpolation="nearest", shear_about="corner")
# The public code translates by up to 0.3 of a pixel, which moves nothing without interpolation.
CTAUGMENT_CODE = Pool(
    {**_OPERATIONS, "translate_x": Operation(), "translate_y": Operation()},
    interpolation="nearest",
    shear_about="corner",
)
