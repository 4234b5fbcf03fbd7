"""Operations of SCAN's strong views (arXiv:2005.12320, table S4), as in the table and as in its public code.

Pillow rounds to 256 levels after each operation; here all operations compute with floats.
"""

from collections.abc import Callable

from torch import Tensor

from sslpipe.views import color
from sslpipe.views.operations import Operation, OperationName, Parameter, Pool, by_magnitude


def whole(greatest: int) -> Callable[[Tensor], Tensor]:
    """Return the function that rounds numbers down, to `greatest` at most (a float may reach the interval's end)."""
    return lambda drawn: drawn.floor().clamp(max=greatest)


def affine(parameter: Parameter, far: float) -> Operation:
    """Return the affine map whose parameter is uniform in -far..far."""
    return Operation(None, -far, far, moves=parameter)


# Own choices, where the table has no value: bilinear interpolation, maps about the centre, black outside the image;
# translation in fractions of the side, not rounded to pixels; posterize keeps 4 to 8 bits, each equally likely.
TABLE_S4: dict[OperationName, Operation] = {
    "identity": Operation(),
    "autocontrast": Operation(lambda image, *_: color.autocontrast(image)),
    "equalize": Operation(lambda image, *_: color.equalize(image)),
    "rotate": affine("angle", 30),
    # The threshold in the table is a level of 0 to 255; 256 inverts nothing.
    "solarize": by_magnitude(lambda image, level: color.solarize(image, level / 255), 0, 256),
    "color": by_magnitude(color.saturation, 0.05, 0.95),
    "contrast": by_magnitude(color.contrast, 0.05, 0.95),
    "brightness": by_magnitude(color.brightness, 0.05, 0.95),
    "sharpness": by_magnitude(color.sharpness, 0.05, 0.95),
    "shear_x": affine("shear_x", 0.1),
    "translate_x": affine("translate_x", 0.1),
    "translate_y": affine("translate_y", 0.1),
    "posterize": by_magnitude(color.posterize, 4, 9)._replace(rounded=whole(8)),
    "shear_y": affine("shear_y", 0.1),
}
SCAN = Pool(TABLE_S4)
# The bits are uniform in 4..8, rounded down: 4 to 7.
SCAN_CODE = Pool(
    {**TABLE_S4, "posterize": by_magnitude(color.posterize, 4, 8)._replace(rounded=whole(7))},
    interpolation="nearest",
    shear_about="corner",
)
