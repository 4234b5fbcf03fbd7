"""Random operations of strong views: pools of operations, and their application to a batch in slots of fixed size.

The pools are in `scan_operations.py`, `fixmatch_operations.py` and `ctaugment_operations.py`, by name in `pools.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sslpipe.data import world
from sslpipe.views.draw import Draw
from sslpipe.views.geometry import Interpolation, affine_matrix, warp

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
    "blur",
    "smooth",
    "invert",
    "rescale",
    "cutout",
]
"""The first 14 are those of SCAN, table S4, and FixMatch, table 12; CTAugment has all 19."""
IDENTITY: OperationName = "identity"
Parameter = Literal["angle", "shear_x", "shear_y", "translate_x", "translate_y"]
"""Parameters of affine maps: degrees, pixels per pixel, and fractions of the side."""


class Operation(NamedTuple):
    """An operation on images, and the interval of its magnitude."""

    apply: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    """Function of images [G, C, H, W], magnitudes [G] and details [G]; None: an affine map, or the image itself."""
    low: float = 0.0
    """Lower end of the interval; magnitudes are uniform between the two ends."""
    high: float = 0.0
    """Upper end of the interval."""
    moves: Parameter | None = None
    """The parameter of the affine map that the magnitude sets; consecutive affine maps are applied together."""
    rounded: Callable[[Tensor], Tensor] | None = None
    """Function from the magnitudes that are drawn to those that are applied, for example whole levels."""
    bins: int | None = None
    """Bins of the interval whose rates CTAugment learns; None: as many as CTAugment has by default."""
    details: int = 0
    """Bins of a second random number in [0, 1), the detail; 0: there is none."""


def by_magnitude(function: Callable[[Tensor, Tensor], Tensor], low: float, high: float) -> Operation:
    """Return the operation for a function of images and magnitudes."""
    return Operation(lambda image, magnitude, _: function(image, magnitude), low, high)


@dataclass(frozen=True)
class Pool:
    """Operations to choose from, and what they have in common."""

    operations: Mapping[OperationName, Operation]
    interpolation: Interpolation = "bilinear"
    """Interpolation of affine maps."""
    shear_about: Literal["centre", "corner"] = "centre"
    """The point that a shear does not move; corner: the upper left one, as in Pillow's affine transform."""
    outside: float = 0.0
    """Value of the pixels that an affine map reads from outside the image."""
    probability: float = 1.0
    """Probability that a chosen operation is applied; 1 / probability must be a whole number."""

    def apply(self, name: OperationName, image: Tensor, magnitude: Tensor, detail: Tensor | None = None) -> Tensor:
        """Apply one operation to float images [G, C, H, W] in [0, 1], with magnitudes [G] of its interval."""
        operation = self.operations[name]
        if operation.rounded is not None:
            magnitude = operation.rounded(magnitude)
        if operation.moves is not None:
            return self.move(image, {operation.moves: magnitude})
        none = torch.zeros_like(magnitude) if detail is None else detail
        return image if operation.apply is None else operation.apply(image, magnitude, none)

    def move(self, image: Tensor, magnitudes: Mapping[Parameter, Tensor]) -> Tensor:
        """Apply the affine map with these parameters [G], 0 if absent."""
        height, width = image.shape[-2:]
        none, one = image.new_zeros(len(image)), image.new_ones(len(image))
        values = {name: magnitudes.get(name, none) for name in get_args(Parameter)}
        values["translate_x"] = values["translate_x"] * width
        values["translate_y"] = values["translate_y"] * height
        if self.shear_about == "corner":
            values["translate_x"] = values["translate_x"] - values["shear_x"] * (height / 2)
            values["translate_y"] = values["translate_y"] - values["shear_y"] * (width / 2)
        matrix = affine_matrix(scale=one, **values)
        if not self.outside:
            return warp(image, matrix, interpolation=self.interpolation)
        return warp(image - self.outside, matrix, interpolation=self.interpolation) + self.outside

    def with_idle(self, names: Sequence[OperationName]) -> list[OperationName]:
        """Return the names with as many identities as make the probability of each operation, sorted by `arranged`."""
        idle = round(len(names) * (1 / self.probability - 1))
        return self.arranged([*idle * [IDENTITY], *names])

    def arranged(self, names: Sequence[OperationName]) -> list[OperationName]:
        """Return the names sorted so that affine maps are consecutive and can be applied together."""
        return sorted(names, key=lambda name: self.operations[name].moves is not None)


def draw_operations(draw: Draw, rounds: int, operations: int) -> Tensor:
    """Choose a random operation for each image in each round, int64 [rounds, B] below `operations`.

    Each operation has ceil(B / operations) places in the batch, of which each image receives a random one, without
    replacement, so that its operation is uniformly distributed, as in the papers.
    """
    capacity = _capacity(draw.count, operations)
    places = [draw.order(operations * capacity)[: draw.count][draw.rows] for _ in range(rounds)]
    return torch.stack(places) // capacity


def random_operations(image: Tensor, draw: Draw, *, rounds: int, names: Sequence[OperationName], pool: Pool) -> Tensor:
    """Apply `rounds` random operations of a pool to each image, sampled from `names` with replacement.

    image: float [B, C, H, W] in [0, 1].
    """
    names = pool.with_idle(names)
    chosen = draw_operations(draw, rounds, len(names))
    share = torch.stack([draw.uniform(0.0, 1.0) for _ in range(rounds)])
    detail = share
    if any(pool.operations[name].details for name in names):
        detail = torch.stack([draw.uniform(0.0, 1.0) for _ in range(rounds)])
    return apply_operations(image, chosen, share, detail, names=names, pool=pool)


def apply_operations(
    image: Tensor, chosen: Tensor, share: Tensor, detail: Tensor, *, names: Sequence[OperationName], pool: Pool
) -> Tensor:
    """Apply the chosen operations to the images, in rounds; an operation is computed only for its images.

    image: float [B, C, H, W] in [0, 1]. chosen: int64 [rounds, B] from `draw_operations`, in the order of `names`.
    share: float [rounds, B] in [0, 1), the positions of the magnitudes in their intervals, 0 for the lower end.
    detail: float [rounds, B] in [0, 1), of which only operations with details read their part.
    """
    low, high = _intervals(tuple(pool.operations[name] for name in names), image.device)
    slots, capacity = _slots(chosen, len(names))
    magnitude = low[chosen] + (high - low)[chosen] * share
    arange = torch.arange(len(image), device=image.device)
    row = arange  # index of each image in `image`
    for slot, values, details in zip(slots, magnitude, detail, strict=True):
        # Empty slots receive a copy of image 0, which is not used again.
        gather_index = torch.zeros(len(names) * capacity, dtype=torch.int64, device=image.device).scatter_(
            0, slot, arange
        )
        image, row = image.index_select(0, row[gather_index]), slot
        _apply_to_groups(pool, names, image, values[gather_index], details[gather_index])
    return image.index_select(0, row)


def _apply_to_groups(
    pool: Pool, names: Sequence[OperationName], image: Tensor, magnitude: Tensor, detail: Tensor
) -> None:
    """Apply each operation to its rows of `image`, in place; all tensors have operations · capacity rows."""
    capacity = len(image) // len(names)
    for are_maps, places in groupby(range(len(names)), lambda place: pool.operations[names[place]].moves is not None):
        run = list(places)
        parameters: dict[Parameter, Tensor] = {}
        for place in run:
            operation, rows = pool.operations[names[place]], slice(place * capacity, (place + 1) * capacity)
            if operation.moves is not None:
                values = parameters.setdefault(operation.moves, torch.zeros_like(magnitude))
                values[rows] = magnitude[rows] if operation.rounded is None else operation.rounded(magnitude[rows])
            elif operation.apply is not None:
                image[rows] = pool.apply(names[place], image[rows], magnitude[rows], detail[rows])
        if are_maps:
            rows = slice(run[0] * capacity, (run[-1] + 1) * capacity)
            image[rows] = pool.move(image[rows], {name: value[rows] for name, value in parameters.items()})


@cache
def _intervals(operations: tuple[Operation, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the lower and upper ends [operations] of the intervals; cached, since a copy to the device takes time."""
    low, high = ([getattr(operation, end) for operation in operations] for end in ("low", "high"))
    return torch.tensor(low, device=device), torch.tensor(high, device=device)


def _slots(chosen: Tensor, operations: int) -> tuple[Tensor, int]:
    """Give each image in each round a slot of its operation, int64 [rounds, B], and return the slots of an operation.

    The slots of the first operation come first. There are as many as `draw_operations` uses, so that the device need
    not be waited for. A process that has only some of the images may need as many for them; on a CPU it counts them.
    """
    at = one_hot(chosen, operations)
    place = at.cumsum(1).gather(2, chosen[..., None])[..., 0] - 1
    images = chosen.shape[1]
    capacity = min(_capacity(world.total(images), operations), images)
    if world.is_shared() and chosen.device.type == "cpu":
        capacity = int(at.sum(1).max())
    return chosen * capacity + place, capacity


def _capacity(images: int, operations: int) -> int:
    """Return the capacity of each operation: ceil(images / operations) slots."""
    return -(-images // operations)
