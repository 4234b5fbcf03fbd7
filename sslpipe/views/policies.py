"""Policies of random views, as settings, and the class that computes the views of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import log
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from sslpipe.data import world
from sslpipe.data.images import central_square
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, CountOrZero, Fraction, NonNegative, Positive, Range
from sslpipe.views import color, geometry
from sslpipe.views.crops import random_crop
from sslpipe.views.draw import Draw
from sslpipe.views.geometry import Padding
from sslpipe.views.operations import OperationName, random_operations
from sslpipe.views.pools import POOLS, PoolName
from sslpipe.views.presets import DETAILS, POLICIES, PolicyName


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """A policy and changes to it: each further key replaces one value of the policy; 0 or [] turns it off.

    The operations are applied in the order of the settings, affine maps, crop and flip as one map with one
    interpolation. A block with the key `policy` starts from that policy; a block without it changes the method's
    default settings.
    """

    PRESET: ClassVar = "policy"
    policy: PolicyName = "standard"
    """Name of the policy; plain is the image itself. The policies with _code are as the public code has them."""
    window: Literal["random", "central"] | None = None
    """Which square of network.side is cut first out of larger images, if crop_scale is off. random: any, as from 256 to
    224 px in SCAN's strong views of ImageNet (public code). central: as for predictions."""
    shift: Fraction | None = None
    """Maximum shift in x and y, as a fraction of the side; by integer pixels. Larger: less attention to places, and
    more of the image is lost at its edge."""
    shift_padding: Padding | None = None
    """Values outside the image for shift: reflection (FixMatch), zeros (RotNet, arXiv:1803.07728) or border."""
    rotate: Annotated[float, Range(low=0, high=180)] | None = None
    """Maximum rotation in both directions, degrees. Larger: orientation counts less for the features."""
    shear: NonNegative | None = None
    """Maximum shear in x and in y, in both directions, pixels per pixel. Larger: shape counts less for the features."""
    translate: Fraction | None = None
    """Maximum translation in x and in y, in both directions, as a fraction of the side. Larger: place counts less for
    the features, and more of the image is lost at its edge."""
    scale: tuple[Positive, ...] | None = None
    """Minimum and maximum enlargement, sampled uniformly on a logarithmic scale. Larger: larger objects, with more of
    the edge lost; a wider interval lets size count less."""
    crop_scale: tuple[Annotated[float, Range(above=0, high=1)], ...] | None = None
    """Minimum and maximum area of the cropped box, as a fraction of the image's area; drawn again, with the ratio, if
    the box exceeds the image. Larger: crops show more of the image, so views of an image differ less."""
    crop_ratio: tuple[Positive, ...] | None = None
    """Minimum and maximum ratio of the box's width to its height. Larger: wider boxes, so objects look narrower; a
    wider interval distorts them more."""
    size: Count | None = None
    """Side of the square view after the crop, pixels, at most network.side; absent: network.side, or the image's size
    if that is null. The local views of SwAV (arXiv:2006.09882) have 96 px. Larger: more detail; time and memory grow
    with its square."""
    flip: Fraction | None = None
    """Probability of a horizontal flip; 0 where left and right matter, as for letters. Larger: more views are
    mirrored."""
    padding: Padding | None = None
    """Values outside the image for rotate, shear, translate and scale: zeros (black), border or reflection."""
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """Interpolation of the affine map and the crop, without antialiasing; absent: bilinear, torchvision's (SCAN,
    SwAV). bicubic: public code of SimCLR, BYOL (arXiv:2006.07733) and DINO (arXiv:2104.14294)."""
    jitter: Fraction | None = None
    """Probability of the next four settings together, in this order (in SimCLR the order is random). Larger: colours
    are changed in more views, so they count less for the features."""
    brightness: NonNegative | None = None
    """Strength x of brightness changes: the factor is uniform in [max(0, 1 - x), 1 + x]. Larger: brightness counts less
    for the features."""
    contrast: NonNegative | None = None
    """Strength x of contrast changes: the factor is uniform in [max(0, 1 - x), 1 + x]. Larger: contrast counts less for
    the features."""
    saturation: NonNegative | None = None
    """Strength x of saturation changes: the factor is uniform in [max(0, 1 - x), 1 + x]. Larger: saturation counts less
    for the features."""
    hue: Annotated[float, Range(low=0, high=0.5)] | None = None
    """Maximum shift of the hue in both directions, as a fraction of the colour circle. Larger: hue counts less for the
    features."""
    gray: Fraction | None = None
    """Probability of a conversion to grey. Larger: colour counts less for the features."""
    blur: Fraction | None = None
    """Probability of a Gaussian blur, truncated at a twentieth of the side (SimCLR: a kernel of a tenth). Larger: more
    blurred views, so fine texture counts less for the features."""
    blur_sigma: tuple[Positive, ...] | None = None
    """Minimum and maximum standard deviation of the blur, pixels. Larger: stronger blur."""
    solarize: Fraction | None = None
    """Probability of inverting the values in the upper half of the range. Larger: more inverted views, so colours and
    brightness count less for the features."""
    operations: CountOrZero | None = None
    """Number of random operations per image. More: stronger views, further from the image, slower."""
    operation_names: tuple[OperationName, ...] | None = None
    """The operations to choose from, by their names in table S4 of SCAN; absent: all of `operation_ranges`."""
    operation_ranges: PoolName | None = None
    """The operations and the intervals of their magnitudes: scan (SCAN, table S4), fixmatch (FixMatch, table 12: shears
    and translations three times as large), ctaugment (ReMixMatch, arXiv:1911.09785: 19 operations), or as in the
    public code: scan_code (nearest pixels, shears about the corner, 4 to 7 bits), fixmatch_code (whole levels of 1 to
    9, each operation with probability 0.5), ctaugment_code (without the translations)."""
    noise: NonNegative | None = None
    """Standard deviation of Gaussian noise, for values in [0, 1]. Larger: fine texture counts less for the features."""
    cutout: Fraction | None = None
    """Maximum side of a square filled with the mean colour (Cutout), as a fraction of the side. Larger: more of the
    image is hidden, so no single part decides."""
    cutout_side: Literal["uniform", "even", "fixed"] | None = None
    """Side of the square: uniform from 1 px to the maximum; the same rounded down to even pixels, so that 1 px cuts
    nothing (SCAN's public code); or always the maximum (FixMatch's public code)."""

    def __post_init__(self) -> None:
        for name in ("scale", "crop_scale", "crop_ratio", "blur_sigma"):
            bounds = getattr(self, name)
            if bounds and (len(bounds) != 2 or bounds[0] > bounds[1]):
                raise UserError(f"{name}: {list(bounds)} found, expected [minimum, maximum], or [] for off")
        if self.size and not (POLICIES[self.policy].get("crop_scale") if self.crop_scale is None else self.crop_scale):
            raise UserError(f"size: {self.size} found without a crop, expected crop_scale beside it")
        ranges: PoolName = self.operation_ranges or POLICIES[self.policy].get("operation_ranges", "scan")
        for operation in self.operation_names or ():
            if operation not in POOLS[ranges].operations:
                known = ", ".join(POOLS[ranges].operations)
                raise UserError(
                    f"operation_names: {operation} is not among the operations of {ranges}, which are {known}"
                )

    def resolved(self) -> "ViewSettings":
        """Return the settings with the values of the policy; a value that is then None, 0 or empty is off."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in own.items() if value is not None}
        values = {**DETAILS, **POLICIES[self.policy], **given}
        values.setdefault("operation_names", tuple(POOLS[values["operation_ranges"]].operations))
        return ViewSettings(**values)


SHARP = 1e-3
"""Standard deviation, in pixels, of a blur that changes no pixel."""
CHUNK = 2**20
"""Pixel values that are processed together on a CPU: 4 MB as floats, which fit into its caches. Own choice: of 2^18 to
2^22, none is faster for sides of 32, 96 and 224 px; a whole batch at once is half as fast."""
CHUNK_OF_OPERATIONS = 2**22
"""The same with random operations, each of which processes only some of the images (own choice, in the same way)."""

Operations = Callable[[Tensor, Draw], Tensor]
"""A function of float views [B, C, H, W] in [0, 1] and a Draw to views of the same shape, such as a `CTAugment`."""


def plain(image: Tensor) -> Tensor:
    """Convert uint8 images to float32 in [0, 1], without augmentation."""
    return image.float() / 255


class Views:
    """A function from the images of a batch to new random views of them."""

    def __init__(
        self,
        settings: ViewSettings,
        mean: Sequence[float],
        *,
        side: int | None = None,
        resize: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Resolve the settings.

        mean: mean of each channel in [0, 1], the colour of Cutout's square. side: the network's, in pixels, which the
        views have too; None: the images'. resize: how the network resizes whole images, float in [0, 1], before it
        sees a square of them; None: not at all. Raises UserError if the views are larger than the side.
        """
        self.settings, self.side, self.resize = settings.resolved(), side, resize
        if side is not None and (settings.size or 0) > side:
            raise UserError(f"size: {settings.size} px found for views, expected at most network.side, {side}")
        self._mean = torch.tensor(mean, dtype=torch.float32)

    @torch.no_grad()
    def __call__(self, image: Tensor, generator: torch.Generator, operations: Operations | None = None) -> Tensor:
        """Return one view of each image, float32 [B, C, H, W] in [0, 1].

        It depends only on the images and the generator's state. image: uint8 [B, C, H, W], this process's rows of the
        batch; the view has the side `size` if it is set, else the network's. generator: on the images' device.
        operations: replaces the random operations of the policy.
        """
        chunk, count = CHUNK_OF_OPERATIONS if self.settings.operations else CHUNK, world.total(len(image))
        few = count
        if operations is None and image.device.type == "cpu" and count * image[0].numel() > chunk:
            few = max(1, chunk // image[0].numel())
        starts = range(0, count, few)
        draws = [Draw(min(few, count - start), generator, world.own_rows(start)) for start in starts]
        parts = torch.split(image, [draw.length for draw in draws])
        views = [self._view(part, draw, operations) for part, draw in zip(parts, draws, strict=True)]
        return views[0] if len(views) == 1 else torch.cat(views)

    def _view(self, image: Tensor, draw: Draw, operations: Operations | None) -> Tensor:
        settings = self.settings
        image = self._window(image, draw)
        if settings.shift:
            far = [min(round(settings.shift * side), side - 1) for side in (image.shape[-1], image.shape[-2])]
            right, down = draw.whole(-far[0], far[0]), draw.whole(-far[1], far[1])
            image = geometry.shift(image, right=right, down=down, padding=settings.shift_padding or "reflection")
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
            pool, names = POOLS[settings.operation_ranges or "scan"], settings.operation_names
            view = random_operations(view, draw, rounds=settings.operations, names=names, pool=pool)
        if settings.noise:
            view = view + settings.noise * draw.normal(*view.shape[1:])
        # Interpolation can also exceed [0, 1] by a rounding error.
        return self._cutout(view.clamp(0, 1), draw)

    def _window(self, image: Tensor, draw: Draw) -> Tensor:
        """Cut a square of the network's side out of larger images, unless a crop with another scale follows."""
        side, (height, width) = self.side, image.shape[-2:]
        if side is None or self.settings.crop_scale or max(height, width) <= side:
            return image
        if self.resize is not None:  # so that training sees objects as large as predictions do
            image = (self.resize(plain(image)) * 255).round().to(torch.uint8)
            height, width = image.shape[-2:]
        if self.settings.window == "central":
            return central_square(image, side)
        return geometry.window(image, left=draw.whole(0, width - side), top=draw.whole(0, height - side), side=side)

    def _move(self, view: Tensor, draw: Draw) -> Tensor:
        """Apply affine map, crop and flip as one map."""
        settings, size = self.settings, (view.shape[-2], view.shape[-1])
        is_affine = settings.rotate or settings.shear or settings.translate or settings.scale
        flipped = draw.bernoulli(settings.flip) if settings.flip else None
        if not (is_affine or settings.crop_scale):
            return view if flipped is None else geometry.horizontal_flip(view, flipped)
        matrix = self._affine(size, draw) if is_affine else None
        if settings.crop_scale:
            crop = random_crop(settings.crop_scale, settings.crop_ratio or (1.0, 1.0), size, draw)
            matrix = crop if matrix is None else geometry.compose(matrix, crop)
        assert matrix is not None
        if flipped is not None:
            matrix = geometry.compose(matrix, geometry.flip_matrix(flipped))
        # A crop reads up to half a pixel outside the image, which must not darken its border.
        padding = (settings.padding or "zeros") if is_affine else "border"
        side, interpolation = settings.size or self.side, settings.interpolation or "bilinear"
        return geometry.warp(view, matrix, padding, size=side, interpolation=interpolation)

    def _affine(self, size: tuple[int, int], draw: Draw) -> Tensor:
        """Return random affine maps, [B, 3, 3]."""
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
        center_x, center_y = draw.whole(0, width - 1), draw.whole(0, height - 1)
        side = draw.whole(longest if self.settings.cutout_side == "fixed" else 1, longest)
        if self.settings.cutout_side == "even":
            side = side // 2 * 2
        return geometry.cutout(view, center_x=center_x, center_y=center_y, side=side, fill=self._mean)
