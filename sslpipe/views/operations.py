"""The random operations of strong views, with the ranges of SCAN (table S4) and of FixMatch (table 12)."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import groupby
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


Parameter = Literal["angle", "shear_x", "shear_y", "translate_x", "translate_y"]


class Operation(NamedTuple):
    """One operation: what it does to images [G, C, H, W] with magnitudes [G], drawn uniformly from low to high."""

    apply: Callable[[Tensor, Tensor], Tensor]
    low: float = 0.0
    high: float = 0.0
    moves: Parameter | None = None
    """Of an affine map, the parameter that the magnitude is; groups of such that lie side by side are one map."""


def _moved(image: Tensor, magnitudes: Mapping[Parameter, Tensor]) -> Tensor:
    """Under the affine map of these parameters [G]; translations are given in parts of the side."""
    sides = {"translate_x": image.shape[-1], "translate_y": image.shape[-2]}
    given = {name: value * sides.get(name, 1) for name, value in magnitudes.items()}
    return affine(
        image,
        angle=given.get("angle"),
        shear_x=given.get("shear_x"),
        shear_y=given.get("shear_y"),
        translate_x=given.get("translate_x"),
        translate_y=given.get("translate_y"),
    )


def _map(parameter: Parameter, low: float, high: float) -> Operation:
    return Operation(lambda image, magnitude: _moved(image, {parameter: magnitude}), low, high, parameter)


# Own choices where the table leaves one: geometry in bilinear interpolation, about the centre, black outside;
# translation in parts of the side, not rounded to pixels; posterize draws one of the five numbers of bits 4 to 8.
OPERATIONS: dict[OperationName, Operation] = {
    "identity": Operation(lambda image, _: image),
    "autocontrast": Operation(lambda image, _: color.autocontrast(image)),
    "equalize": Operation(lambda image, _: color.equalize(image)),
    "rotate": _map("angle", -30, 30),
    # The table's threshold is a level of 0 to 255; 256 inverts nothing.
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
    # FixMatch, table 12: the same fourteen, sheared and moved farther. Its threshold of solarize, 0 to 1, is 0 to 256.
    "fixmatch": {**OPERATIONS, **{name: OPERATIONS[name]._replace(low=-0.3, high=0.3) for name in _FARTHER}},
}


def arranged(names: Sequence[OperationName]) -> list[OperationName]:
    """The same with the affine maps side by side, so that they become one."""
    return sorted(names, key=lambda name: OPERATIONS[name].moves is not None)


def draw_seats(draw: Draw, rounds: int, operations: int) -> Tensor:
    """int64 [rounds, B]: which of the operations each image gets, and its place among those that get it.

    In every round an operation has ⌈B / operations⌉ seats, those of the first one first; each image takes one, drawn
    without replacement. So its operation is drawn evenly, as the papers have it, and the sizes of the groups are known
    beforehand: nobody waits for the device to count them, and hardly an operation is computed in vain.
    """
    seats = operations * _room(draw.count, operations)
    return torch.stack([draw.order(seats)[: draw.count] for _ in range(rounds)])


def operation_of(seats: Tensor, operations: int) -> Tensor:
    """int64 [rounds, B], the operation that each of the seats belongs to."""
    return seats // _room(seats.shape[1], operations)


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
    seats = draw_seats(draw, rounds, len(names))
    share = torch.stack([draw.uniform(0.0, 1.0) for _ in range(rounds)])
    return apply_operations(image, seats, share, names=arranged(names), table=table)


def apply_operations(
    image: Tensor,
    seats: Tensor,
    share: Tensor,
    *,
    names: Sequence[OperationName],
    table: Mapping[OperationName, Operation],
) -> Tensor:
    """Do to each image what was drawn for it, round by round; each operation is computed for its own group alone.

    image: float [B, C, H, W] in [0, 1]. seats: int64 [rounds, B], of `draw_seats`, the groups in the order of `names`.
    share: float [rounds, B] in [0, 1), the magnitudes' places in their intervals, 0 the lower end. table: the
    operations with their intervals.
    """
    operations, room = [table[name] for name in names], _room(len(image), len(names))
    low, high = _intervals(tuple(operations), image.device)
    chosen = operation_of(seats, len(names))
    magnitude = low[chosen] + (high - low)[chosen] * share
    everyone = torch.arange(len(image), device=image.device)
    row = everyone  # where each image lies in `image`
    for seat, value in zip(seats, magnitude, strict=True):
        # On a seat that stays empty sits a copy of image 0, which nobody looks at again.
        sitting = torch.zeros(len(names) * room, dtype=torch.int64, device=image.device).scatter_(0, seat, everyone)
        image, row = image.index_select(0, row[sitting]), seat
        _apply_to_groups(operations, image, value[sitting], room)
    return image.index_select(0, row)


def _apply_to_groups(operations: Sequence[Operation], image: Tensor, magnitude: Tensor, room: int) -> None:
    """Each operation to its `room` rows, in place; magnitude: [operations · room]."""
    for are_maps, places in groupby(range(len(operations)), lambda place: operations[place].moves is not None):
        run = list(places)
        all_rows = slice(run[0] * room, (run[-1] + 1) * room)
        parameters: dict[Parameter, Tensor] = {}
        for place in run:
            operation, rows = operations[place], slice(place * room, (place + 1) * room)
            if operation.moves is not None:
                values = parameters.setdefault(operation.moves, torch.zeros_like(magnitude))
                values[rows] = magnitude[rows]
            else:
                image[rows] = operation.apply(image[rows], magnitude[rows])
        if are_maps:
            image[all_rows] = _moved(image[all_rows], {name: value[all_rows] for name, value in parameters.items()})


@cache
def _intervals(operations: tuple[Operation, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The lower and the upper ends [operations] of the magnitudes; kept, since a copy to the device takes its time."""
    low, high = ([getattr(operation, end) for operation in operations] for end in ("low", "high"))
    return torch.tensor(low, device=device), torch.tensor(high, device=device)


def _room(images: int, operations: int) -> int:
    """Seats of each operation."""
    return -(-images // operations)
