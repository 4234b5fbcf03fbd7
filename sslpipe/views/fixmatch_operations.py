"""Operations of FixMatch's RandAugment (arXiv:2001.07685), as in its table 12 and as in its public code.

The code draws a whole level of 1 to 9 for each operation, and applies it with probability 0.5. It lets the pixels from
outside the image be grey. A translation by a level is one by as many pixels there; here it is one by as many parts of
32 of the side, which is the same at 32 px.
"""

from collections.abc import Callable

from torch import Tensor

from sslpipe.views import color
from sslpipe.views.operations import Operation, Parameter, Pool, by_magnitude
from sslpipe.views.scan_operations import TABLE_S4, affine

# Table 12: those of SCAN, with larger shears and translations. Its solarize threshold is 0 to 1.
FIXMATCH = Pool(
    {
        **TABLE_S4,
        "shear_x": affine("shear_x", 0.3),
        "shear_y": affine("shear_y", 0.3),
        "translate_x": affine("translate_x", 0.3),
        "translate_y": affine("translate_y", 0.3),
    }
)
LEVELS = 9
"""Greatest level; the lowest is 1."""


def _level(drawn: Tensor) -> Tensor:
    """Return whole levels of 1 to 9 for numbers in 0..9, and of -9 to -1 for those in -9..0, each equally likely."""
    return (drawn.abs().floor() + 1).clamp(max=LEVELS).copysign(drawn)


def _affine(parameter: Parameter, step: float) -> Operation:
    """Return the affine map by a step for each level, in either direction."""
    return Operation(None, -LEVELS, LEVELS, moves=parameter, rounded=lambda drawn: step * _level(drawn))


def _by_level(function: Callable[[Tensor, Tensor], Tensor]) -> Operation:
    """Return the operation for a function of images and levels."""
    return by_magnitude(function, 0, LEVELS)._replace(rounded=_level)


def _enhance(function: Callable[[Tensor, Tensor], Tensor]) -> Operation:
    return _by_level(lambda image, level: function(image, 0.1 + 0.18 * level))


FIXMATCH_CODE = Pool(
    {
        **TABLE_S4,
        "rotate": _affine("angle", 3.0),
        "solarize": _by_level(lambda image, level: color.solarize(image, (256 - (25.6 * level).floor()) / 255)),
        "color": _enhance(color.saturation),
        "contrast": _enhance(color.contrast),
        "brightness": _enhance(color.brightness),
        "sharpness": _enhance(color.sharpness),
        "shear_x": _affine("shear_x", 0.03),
        "translate_x": _affine("translate_x", 1 / 32),
        "translate_y": _affine("translate_y", 1 / 32),
        "posterize": _by_level(lambda image, level: color.posterize(image, 4 - (0.4 * level).floor())),
        "shear_y": _affine("shear_y", 0.03),
    },
    interpolation="nearest",
    shear_about="corner",
    outside=0.5,
    probability=0.5,
)
