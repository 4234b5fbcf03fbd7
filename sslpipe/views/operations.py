"""Random operations of strong views, with the ranges of SCAN (arXiv:2005.12320) and FixMatch (arXiv:2001.07685)."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from sslpipe.views import color
from sslpipe.views.draw import Draw
from sslpipe.views.geometry import affine_matrix, warp

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
"""SCAN, table S4; FixMatch, table 12."""
Parameter = Literal["angle", "shear_x", "shear_y", "translate_x", "translate_y"]
"""Parameters of affine maps."""


class Operation(NamedTuple):
    """An operation on images, and the interval of its magnitude."""

    apply: Callable[[Tensor, Tensor], Tensor]
    """Function of images [G, C, H, W] and magnitudes [G]."""
    low: float = 0.0
    """Lower end of the interval; magnitudes are uniform between the two ends."""
    high: float = 0.0
    """Upper end of the interval."""
    moves: Parameter | None = None
    """The parameter of the affine map that the magnitude sets; consecutive affine maps are applied together."""


def _moved(image: Tensor, magnitudes: Mapping[Parameter, Tensor]) -> Tensor:
    """Apply the affine map with these parameters [G], 0 if absent; translations are fractions of the side."""
    sides = {"translate_x": image.shape[-1], "translate_y": image.shape[-2]}
    none, one = image.new_zeros(len(image)), image.new_ones(len(image))
    values = {name: magnitudes.get(name, none) * sides.get(name, 1) for name in get_args(Parameter)}
    return warp(image, affine_matrix(scale=one, **values))


def _map(parameter: Parameter, low: float, high: float) -> Operation:
    return Operation(lambda image, magnitude: _moved(image, {parameter: magnitude}), low, high, parameter)


# Own choices, where the table has no value: bilinear interpolation, maps about the centre, black outside the image;
# translation in fractions of the side, not rounded to pixels; posterize keeps 4 to 8 bits, each equally likely.
OPERATIONS: dict[OperationName, Operation] = {
    "identity": Operation(lambda image, _: image),
    "autocontrast": Operation(lambda image, _: color.autocontrast(image)),
    "equalize": Operation(lambda image, _: color.equalize(image)),
    "rotate": _map("angle", -30, 30),
    # The threshold in the table is a level of 0 to 255; 256 inverts nothing.
    "solarize": Operation(lambda image, level: color.solarize(image, level / 255), 0, 256),
    "color": Operation(color.saturation, 0.05, 0.95),
    "contrast": Operation(color.contrast, 0.05, 0.95),
    "brightness": Operation(color.brightness, 0.05, 0.95),
    "sharpness": Operation(color.sharpness, 0.05, 0.95),
    "shear_x": _map("shear_x", -0.1, 0.1),
    "translate_x": _map("translate_x", -0.1, 0.1),
    "translate_y": _map("translate_y", -0.1, 0.1),
    "posterize": Operation(lambda image, bits: color.posterize(image, bits.floor().clamp(max=8)), 4, 9),
    "shear_y": _map("shear_y", -0.1, 0.1),
}
_FARTHER: tuple[OperationName, ...] = ("shear_x", "shear_y", "translate_x", "translate_y")
OPERATION_RANGES: Mapping[RangesName, Mapping[OperationName, Operation]] = {
    "scan": OPERATIONS,
    # FixMatch, table 12: the same operations, with larger shears and translations. Its solarize threshold is 0 to 1.
    "fixmatch": {**OPERATIONS, **{name: OPERATIONS[name]._replace(low=-0.3, high=0.3) for name in _FARTHER}},
}


def arranged(names: Sequence[OperationName]) -> list[OperationName]:
    """Return the names sorted so that affine maps are consecutive and can be applied together."""
    return sorted(names, key=lambda name: OPERATIONS[name].moves is not None)


def draw_slots(draw: Draw, rounds: int, operations: int) -> Tensor:
    """Assign a random slot to each image in each round, int64 [rounds, B].

    Each operation has a fixed capacity of ceil(B / operations) slots, so sizes are static and the device is never
    waited for. The slots of the first operation come first. Each image receives a random slot, without replacement, so
    that its operation is uniformly distributed, as in the papers.
    """
    slots = operations * _capacity(draw.count, operations)
    return torch.stack([draw.order(slots)[: draw.count] for _ in range(rounds)])


def operation_of(slots: Tensor, operations: int) -> Tensor:
    """Return the operation that each slot belongs to, int64 [rounds, B]."""
    return slots // _capacity(slots.shape[1], operations)


def random_operations(
    image: Tensor,
    draw: Draw,
    *,
    rounds: int,
    names: Sequence[OperationName],
    table: Mapping[OperationName, Operation] = OPERATIONS,
) -> Tensor:
    """Apply `rounds` random operations to each image, sampled from `names` with replacement.

    image: float [B, C, H, W] in [0, 1]. table: the operation of each name.
    """
    slots = draw_slots(draw, rounds, len(names))
    share = torch.stack([draw.uniform(0.0, 1.0) for _ in range(rounds)])
    return apply_operations(image, slots, share, names=arranged(names), table=table)


def apply_operations(
    image: Tensor,
    slots: Tensor,
    share: Tensor,
    *,
    names: Sequence[OperationName],
    table: Mapping[OperationName, Operation],
) -> Tensor:
    """Apply the operations of the given slots to the images, in rounds; an operation is computed only for its slots.

    image: float [B, C, H, W] in [0, 1]. slots: int64 [rounds, B] from `draw_slots`, operations in the order of `names`.
    share: float [rounds, B] in [0, 1), the positions of the magnitudes in their intervals, 0 for the lower end.
    table: the operation of each name.
    """
    operations, capacity = [table[name] for name in names], _capacity(len(image), len(names))
    low, high = _intervals(tuple(operations), image.device)
    chosen = operation_of(slots, len(names))
    magnitude = low[chosen] + (high - low)[chosen] * share
    arange = torch.arange(len(image), device=image.device)
    row = arange  # index of each image in `image`
    for slot, value in zip(slots, magnitude, strict=True):
        # Empty slots receive a copy of image 0, which is not used again.
        gather_index = torch.zeros(len(names) * capacity, dtype=torch.int64, device=image.device).scatter_(
            0, slot, arange
        )
        image, row = image.index_select(0, row[gather_index]), slot
        _apply_to_groups(operations, image, value[gather_index], capacity)
    return image.index_select(0, row)


def _apply_to_groups(operations: Sequence[Operation], image: Tensor, magnitude: Tensor, capacity: int) -> None:
    """Apply each operation to its `capacity` rows of `image`, in place; magnitude: [operations · capacity]."""
    for are_maps, places in groupby(range(len(operations)), lambda place: operations[place].moves is not None):
        run = list(places)
        all_rows = slice(run[0] * capacity, (run[-1] + 1) * capacity)
        parameters: dict[Parameter, Tensor] = {}
        for place in run:
            operation, rows = operations[place], slice(place * capacity, (place + 1) * capacity)
            if operation.moves is not None:
                values = parameters.setdefault(operation.moves, torch.zeros_like(magnitude))
                values[rows] = magnitude[rows]
            else:
                image[rows] = operation.apply(image[rows], magnitude[rows])
        if are_maps:
            image[all_rows] = _moved(image[all_rows], {name: value[all_rows] for name, value in parameters.items()})


@cache
def _intervals(operations: tuple[Operation, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the lower and upper ends [operations] of the intervals; cached, since a copy to the device takes time."""
    low, high = ([getattr(operation, end) for operation in operations] for end in ("low", "high"))
    return torch.tensor(low, device=device), torch.tensor(high, device=device)


def _capacity(images: int, operations: int) -> int:
    """Return the capacity of each operation: ceil(images / operations) slots."""
    return -(-images // operations)
