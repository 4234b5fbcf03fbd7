"""The random operations of strong views, with the ranges of SCAN (table S4) and of FixMatch (table 12)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sslpipe.views import color
from sslpipe.views.draw import Draw
from sslpipe.views.geometry import affine

OperationName = Literal[
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "translate_x",
    "translate_y",
    "posterize",
    "shear_y",
]
RangesName = Literal["scan", "fixmatch"]


class Operation(NamedTuple):
    """One operation: what it does to images [G, C, H, W] with magnitudes [G], drawn uniformly from low to high."""

    apply: Callable[[Tensor, Tensor], Tensor]
    low: float = 0.0
    high: float = 0.0


# Own choices where the table leaves one: geometry in bilinear interpolation, about the centre, black outside;
# translation in parts of the side, not rounded to pixels; posterize draws one of the five numbers of bits 4 to 8.
OPERATIONS: dict[OperationName, Operation] = {
    "identity": Operation(lambda image, _: image),
    "autocontrast": Operation(lambda image, _: color.autocontrast(image)),
    "equalize": Operation(lambda image, _: color.equalize(image)),
    "rotate": Operation(lambda image, degrees: affine(image, angle=degrees), -30, 30),
    # The table's threshold is a level of 0 to 255; 256 inverts nothing.
    "solarize": Operation(lambda image, level: color.solarize(image, level / 255), 0, 256),
    "color": Operation(color.saturation, 0.05, 0.95),
    "contrast": Operation(color.contrast, 0.05, 0.95),
    "brightness": Operation(color.brightness, 0.05, 0.95),
    "sharpness": Operation(color.sharpness, 0.05, 0.95),
    "shear_x": Operation(lambda image, rate: affine(image, shear_x=rate), -0.1, 0.1),
    "translate_x": Operation(lambda image, part: affine(image, translate_x=part * image.shape[-1]), -0.1, 0.1),
    "translate_y": Operation(lambda image, part: affine(image, translate_y=part * image.shape[-2]), -0.1, 0.1),
    "posterize": Operation(lambda image, bits: color.posterize(image, bits.floor().clamp(max=8)), 4, 9),
    "shear_y": Operation(lambda image, rate: affine(image, shear_y=rate), -0.1, 0.1),
}
_FARTHER: tuple[OperationName, ...] = ("shear_x", "shear_y", "translate_x", "translate_y")
OPERATION_RANGES: Mapping[RangesName, Mapping[OperationName, Operation]] = {
    "scan": OPERATIONS,
    # FixMatch, table 12: the same fourteen, sheared and moved farther. Its threshold of solarize, 0 to 1, is 0 to 256.
    "fixmatch": {**OPERATIONS, **{name: OPERATIONS[name]._replace(low=-0.3, high=0.3) for name in _FARTHER}},
}


def random_operations(
    image: Tensor,
    draw: Draw,
    *,
    rounds: int,
    names: Sequence[OperationName],
    table: Mapping[OperationName, Operation] = OPERATIONS,
) -> Tensor:
    """Do `rounds` operations to each image, drawn from `names` with replacement, image by image.

    image: float [B, C, H, W] in [0, 1]. table: what each name does, and its interval of magnitudes.
    """
    chosen = torch.stack([draw.whole(0, len(names) - 1) for _ in range(rounds)])
    share = torch.stack([draw.uniform(0.0, 1.0) for _ in range(rounds)])
    return apply_operations(image, chosen, share, names=names, table=table)


def apply_operations(
    image: Tensor,
    chosen: Tensor,
    share: Tensor,
    *,
    names: Sequence[OperationName],
    table: Mapping[OperationName, Operation],
) -> Tensor:
    """Do to each image what was drawn for it, round by round.

    image: float [B, C, H, W] in [0, 1]. chosen: int64 [rounds, B], places in `names`. share: float [rounds, B] in
    [0, 1), the magnitudes' places in their intervals, 0 the lower end. table: the operations with their intervals.
    Each operation is computed for the images that drew it and for no other.
    """
    # All rounds' group sizes at once: the one point at which the device is waited for.
    sizes = torch.nn.functional.one_hot(chosen, len(names)).sum(1).tolist()
    for order, groups, unit in zip(chosen.argsort(dim=1, stable=True), sizes, share, strict=True):
        parts = zip(names, torch.split(image[order], groups), torch.split(unit[order], groups), strict=True)
        done = torch.cat([_apply(table[name], part, at) for name, part, at in parts])
        image = torch.empty_like(image).index_copy_(0, order, done)
    return image


def _apply(operation: Operation, image: Tensor, unit: Tensor) -> Tensor:
    """One operation on its group; unit: [G] in [0, 1), the place of the magnitude in its interval."""
    if len(image) == 0:
        return image
    return operation.apply(image, operation.low + (operation.high - operation.low) * unit)
