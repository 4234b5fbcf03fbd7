"""Policies: which random view of an image a method sees, as settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import log
from typing import Annotated, Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, CountOrZero, Fraction, NonNegative, Positive, Range
from sslpipe.views import color, geometry
from sslpipe.views.draw import Draw
from sslpipe.views.geometry import Padding
from sslpipe.views.operations import OPERATION_RANGES, OperationName, RangesName, random_operations

# The SCAN paper says "random flips, random crops and jitter" without values: those of the SCAN code's pretext on
# CIFAR (simclr_cifar10.yml; recipes.md, 1.1). SimCLR's own crop is 0.08 to 1.
_CROP_FLIP_JITTER: dict[str, Any] = {
    "crop_scale": (0.2, 1.0),
    "flip": 0.5,
    "jitter": 0.8,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
}
_FLIP_SHIFT: dict[str, Any] = {"flip": 0.5, "shift": 0.125}
POLICIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "standard": _CROP_FLIP_JITTER,
    # SimCLR for CIFAR: as above with grey, and no blur at 32 pixels (recipes.md, 1.1 and 6.2).
    "simclr": {**_CROP_FLIP_JITTER, "gray": 0.2},
    # SCAN, section C.2: four operations of table S4, then Cutout. Flip and the largest hole from the code, which takes
    # 16 of 32 pixels on CIFAR, 32 of 96 on STL-10, 75 of 224 on ImageNet (recipes.md, 1.3).
    "strong": {"flip": 0.5, "operations": 4, "cutout": 0.5},
    # FixMatch, section 2.3: flip, and shifts of up to 12.5 % of the side (4 of 32 pixels).
    "weak": _FLIP_SHIFT,
    # FixMatch, sections 2.3 and D: two operations of table 12 at random magnitudes, on the weak view, then Cutout. The
    # code does each operation with probability 0.5 and cuts half the side always; both are drawn here as for "strong".
    "randaugment": {**_FLIP_SHIFT, "operations": 2, "operation_ranges": "fixmatch", "cutout": 0.5},
}
"""The values of each policy; what it leaves out is off."""

_DETAILS: dict[str, Any] = {
    "crop_ratio": (3 / 4, 4 / 3),  # SimCLR's code, torchvision's default
    "jitter": 1.0,
    "blur_sigma": (0.1, 2.0),  # SimCLR, appendix A; MoCo v2
    "padding": "zeros",
    "operation_names": get_args(OperationName),
    "operation_ranges": "scan",
}
"""Values under all policies that turn nothing on by themselves."""


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """A policy by name; each further key replaces one of its values, 0 or [] turns it off.

    They are applied in this order (the geometry as one map, with one interpolation). A block that names a policy begins
    with that policy alone; one that does not is laid over the method's default.
    """

    PRESET: ClassVar = "policy"
    policy: Literal["plain", "standard", "simclr", "strong", "weak", "randaugment"] = "standard"
    """plain: the image as it is."""
    shift: Fraction | None = None
    """Greatest move in x and y, part of the side, whole pixels; what comes in is the image reflected."""
    rotate: Annotated[float, Range(low=0, high=180)] | None = None
    """Greatest angle, degrees, either way."""
    shear: NonNegative | None = None
    """Greatest shear in x and in y, pixels per pixel, either way."""
    translate: Fraction | None = None
    """Greatest move in x and in y, part of the side, either way."""
    scale: tuple[Positive, ...] | None = None
    """Least and greatest enlargement, drawn evenly on a logarithmic scale."""
    crop_scale: tuple[Annotated[float, Range(above=0, high=1)], ...] | None = None
    """Least and greatest area of the box that is cut out and enlarged, part of the image's area."""
    crop_ratio: tuple[Positive, ...] | None = None
    """Least and greatest width over height of that box."""
    size: Count | None = None
    """Side of the square view that comes out of the crop, pixels; left out: the image's own. SwAV's small crops: 96."""
    flip: Fraction | None = None
    """Probability of swapping left and right."""
    padding: Padding | None = None
    """What rotate, shear, translate and scale bring in: zeros (black), border or reflection."""
    jitter: Fraction | None = None
    """Probability of the four that follow together, in this order (SimCLR draws the order)."""
    brightness: NonNegative | None = None
    """Factor drawn from 1 - x (at least 0) to 1 + x; so contrast and saturation."""
    contrast: NonNegative | None = None
    saturation: NonNegative | None = None
    hue: Annotated[float, Range(low=0, high=0.5)] | None = None
    """Greatest turn of the hue, part of the circle, either way."""
    gray: Fraction | None = None
    """Probability of grey."""
    blur: Fraction | None = None
    """Probability of a Gaussian blur, cut off at a twentieth of the side (SimCLR: a kernel of a tenth)."""
    blur_sigma: tuple[Positive, ...] | None = None
    """Least and greatest standard deviation, pixels."""
    solarize: Fraction | None = None
    """Probability of inverting the upper half of the values."""
    operations: CountOrZero | None = None
    """Number of random operations per image."""
    operation_names: tuple[OperationName, ...] | None = None
    """Those that are drawn from, by their names in table S4 of SCAN."""
    operation_ranges: RangesName | None = None
    """Whose intervals of magnitudes: scan (table S4) or fixmatch (table 12: shears and moves three times as far)."""
    noise: NonNegative | None = None
    """Standard deviation of Gaussian noise, on values in [0, 1]."""
    cutout: Fraction | None = None
    """Greatest side of a square filled with the mean colour, part of the side; drawn in pixels from 1."""

    def __post_init__(self) -> None:
        for name in ("scale", "crop_scale", "crop_ratio", "blur_sigma"):
            bounds = getattr(self, name)
            if bounds and (len(bounds) != 2 or bounds[0] > bounds[1]):
                raise UserError(f"{name}: {list(bounds)} found, expected [least, greatest], or [] for off")
        if self.size and not (POLICIES[self.policy].get("crop_scale") if self.crop_scale is None else self.crop_scale):
            raise UserError(f"size: {self.size} found without a crop, expected crop_scale beside it")

    def resolved(self) -> "ViewSettings":
        """The settings with the policy's values filled in; what is None (or 0, or empty) then is off."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in own.items() if value is not None}
        return ViewSettings(**{**_DETAILS, **POLICIES[self.policy], **given})


SHARP = 1e-3
"""A standard deviation in pixels at which a blur leaves every pixel exactly as it is."""
CHUNK = 2**20
"""On a CPU, pixel values that are worked on at once: 4 MB as floats, which its caches hold (own choice: of 2^18 to 2^22
and all at once, as fast as 2^19 or faster on sides of 32, 96 and 224; all at once is half as fast)."""
CHUNK_OF_OPERATIONS = 2**22
"""Likewise with random operations, each of which works on a few images of them (own choice, in the same way)."""

Operations = Callable[[Tensor, Draw], Tensor]
"""(view float [B, C, H, W] in [0, 1], draw) → view of the same shape; for example a `CTAugment`."""


def plain(image: Tensor) -> Tensor:
    """The image as it is: uint8 → float32 in [0, 1], same shape."""
    return image.float() / 255


class Views:
    """Draws a new random view of each image of a batch."""

    def __init__(self, settings: ViewSettings, mean: Sequence[float]) -> None:
        """mean: per channel, in [0, 1]; fills what Cutout covers."""
        self.settings = settings.resolved()
        self._mean = torch.tensor(mean, dtype=torch.float32)

    @torch.no_grad()
    def __call__(self, image: Tensor, generator: torch.Generator, operations: Operations | None = None) -> Tensor:
        """image: uint8 [B, C, H, W] → float32 [B, C, H, W] in [0, 1], a function of it and the generator's state.

        H and W are the setting `size` where it is given. generator: on the image's device. operations: done in the
        place of the policy's own random operations, whether it has any or not.
        """
        chunk = CHUNK_OF_OPERATIONS if self.settings.operations else CHUNK
        if operations is None and image.device.type == "cpu" and image.numel() > chunk:
            few = max(1, chunk // image[0].numel())
            return torch.cat([self._draw(part, generator) for part in torch.split(image, few)])
        return self._draw(image, generator, operations)

    def _draw(self, image: Tensor, generator: torch.Generator, operations: Operations | None = None) -> Tensor:
        settings, draw = self.settings, Draw(len(image), generator)
        if settings.shift:
            far = [min(round(settings.shift * side), side - 1) for side in (image.shape[-1], image.shape[-2])]
            image = geometry.shift(image, right=draw.whole(-far[0], far[0]), down=draw.whole(-far[1], far[1]))
        view = self._jitter(self._move(plain(image), draw), draw)
        if settings.gray:
            view = torch.where(draw.bernoulli(settings.gray)[:, None, None, None], color.grayscale(view), view)
        if settings.blur and settings.blur_sigma:
            shorter = min(view.shape[-2:])
            radius = min(max(round(shorter / 20), 1), shorter - 1)
            sigma = draw.uniform(*settings.blur_sigma)
            view = color.gaussian_blur(view, torch.where(draw.bernoulli(settings.blur), sigma, SHARP), radius=radius)
        if settings.solarize:
            view = color.solarize(view, torch.where(draw.bernoulli(settings.solarize), 0.5, 2.0))
        if operations is not None:
            view = operations(view, draw)
        elif settings.operations and settings.operation_names:
            table = OPERATION_RANGES[settings.operation_ranges or "scan"]
            names = settings.operation_names
            view = random_operations(view, draw, rounds=settings.operations, names=names, table=table)
        if settings.noise:
            view = view + settings.noise * draw.normal(*view.shape[1:])
        # Interpolation, too, may leave [0, 1] by a rounding error.
        return self._cutout(view.clamp(0, 1), draw)

    def _move(self, view: Tensor, draw: Draw) -> Tensor:
        """Affine map, crop and flip at once."""
        settings, size = self.settings, (view.shape[-2], view.shape[-1])
        is_affine = settings.rotate or settings.shear or settings.translate or settings.scale
        flipped = draw.bernoulli(settings.flip) if settings.flip else None
        if not (is_affine or settings.crop_scale):
            return view if flipped is None else geometry.horizontal_flip(view, flipped)
        matrix = self._affine(size, draw) if is_affine else None
        if settings.crop_scale:
            crop = _crop(settings.crop_scale, settings.crop_ratio or (1.0, 1.0), size, draw)
            matrix = crop if matrix is None else geometry.compose(matrix, crop)
        assert matrix is not None
        if flipped is not None:
            matrix = geometry.compose(matrix, geometry.flip_matrix(flipped))
        # A crop reads up to half a pixel beyond the image's rim, which must not darken it.
        padding = (settings.padding or "zeros") if is_affine else "border"
        return geometry.warp(view, matrix, padding, size=settings.size)

    def _affine(self, size: tuple[int, int], draw: Draw) -> Tensor:
        """[B, 3, 3]."""
        settings, (height, width) = self.settings, size
        rotate, shear, translate = settings.rotate or 0.0, settings.shear or 0.0, settings.translate or 0.0
        least, greatest = settings.scale or (1.0, 1.0)
        return geometry.affine_matrix(
            angle=draw.uniform(-rotate, rotate),
            shear_x=draw.uniform(-shear, shear),
            shear_y=draw.uniform(-shear, shear),
            scale=draw.uniform(log(least), log(greatest)).exp(),
            translate_x=draw.uniform(-translate, translate) * width,
            translate_y=draw.uniform(-translate, translate) * height,
        )

    def _jitter(self, view: Tensor, draw: Draw) -> Tensor:
        settings = self.settings
        strengths = (settings.brightness, settings.contrast, settings.saturation, settings.hue)
        if not settings.jitter or not any(strengths):
            return view
        on = draw.bernoulli(settings.jitter)
        for operation, strength in zip((color.brightness, color.contrast, color.saturation), strengths, strict=False):
            if strength:
                view = operation(view, torch.where(on, draw.uniform(max(0.0, 1 - strength), 1 + strength), 1.0))
        if settings.hue:
            view = color.hue(view, torch.where(on, draw.uniform(-settings.hue, settings.hue), 0.0))
        return view

    def _cutout(self, view: Tensor, draw: Draw) -> Tensor:
        height, width = view.shape[-2:]
        longest = int((self.settings.cutout or 0.0) * min(height, width))
        if longest == 0:
            return view
        self._mean = self._mean.to(view.device)
        center_x, center_y, side = draw.whole(0, width - 1), draw.whole(0, height - 1), draw.whole(1, longest)
        return geometry.cutout(view, center_x=center_x, center_y=center_y, side=side, fill=self._mean)


def _crop(scale: Sequence[float], ratio: Sequence[float], size: tuple[int, int], draw: Draw) -> Tensor:
    """The map of a random box; [B, 3, 3].

    The area is uniform and the ratio uniform in its logarithm among those whose box lies in the image, where
    torchvision draws both anew when the box does not, and so has smaller boxes than asked for.
    """
    height, width = size
    area = draw.uniform(scale[0], scale[1])
    # Ratio of the box to the image's own: box width and height, as parts of the image's, are √(area·r) and √(area/r).
    to_own = height / width
    least = torch.maximum(area.log(), torch.full_like(area, log(ratio[0] * to_own)))
    greatest = torch.minimum(-area.log(), torch.full_like(area, log(ratio[1] * to_own)))
    relative = (least + (greatest - least) * draw.uniform(0.0, 1.0)).exp()
    box_width = (area * relative).sqrt().clamp(max=1) * width
    box_height = (area / relative).sqrt().clamp(max=1) * height
    left = (width - box_width) * draw.uniform(0.0, 1.0)
    top = (height - box_height) * draw.uniform(0.0, 1.0)
    return geometry.crop_matrix(left=left, top=top, width=box_width, height=box_height, size=size)
