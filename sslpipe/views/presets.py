"""The values of the policies of random views, and their sources."""

from typing import Any, Literal

# SCAN (arXiv:2005.12320) names "random flips, random crops and jitter" without values; these are the values of its
# public code for CIFAR (simclr_cifar10.yml). The crop scale of SimCLR (arXiv:2002.05709) is 0.08 to 1.
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
_TWO_AND_HALF: dict[str, Any] = {"operations": 2, "cutout": 0.5, "cutout_side": "fixed"}
PolicyName = Literal[
    "plain",
    "standard",
    "simclr",
    "strong",
    "strong_code",
    "weak",
    "randaugment",
    "randaugment_code",
    "ctaugment",
    "ctaugment_code",
]
POLICIES: dict[PolicyName, dict[str, Any]] = {
    "plain": {"window": "central"},
    "standard": _CROP_FLIP_JITTER,
    # SimCLR for CIFAR: as "standard" with grey, without blur at 32 px (public code of SCAN and SimCLR).
    "simclr": {**_CROP_FLIP_JITTER, "gray": 0.2},
    # SCAN, section C.2: four operations of table S4, then Cutout. The flip and the largest square are from the public
    # code, which uses 16 of 32 px on CIFAR, 32 of 96 on STL-10 and 75 of 224 on ImageNet.
    "strong": {"flip": 0.5, "operations": 4, "cutout": 0.5},
    # SCAN's public code: nearest pixels, shears about the corner, 4 to 7 bits, and half Cutout's side rounded down.
    "strong_code": {
        "flip": 0.5,
        "operations": 4,
        "operation_ranges": "scan_code",
        "cutout": 0.5,
        "cutout_side": "even",
    },
    # FixMatch (arXiv:2001.07685), section 2.3: flip, and shifts of up to 12.5 % of the side (4 of 32 px).
    "weak": _FLIP_SHIFT,
    # FixMatch, sections 2.3 and D: two operations of table 12 with random magnitudes on the weak view, then Cutout,
    # here as in "strong".
    "randaugment": {**_FLIP_SHIFT, "operations": 2, "operation_ranges": "fixmatch", "cutout": 0.5},
    # FixMatch's public code: whole levels, each operation with probability 0.5, and Cutout of half the side.
    "randaugment_code": {**_FLIP_SHIFT, **_TWO_AND_HALF, "operation_ranges": "fixmatch_code"},
    # FixMatch, sections 2.3 and D: the operations of CTAugment, and Cutout of half the side.
    "ctaugment": {**_FLIP_SHIFT, **_TWO_AND_HALF, "operation_ranges": "ctaugment"},
    # FixMatch's public code, whose translations are by less than a pixel.
    "ctaugment_code": {**_FLIP_SHIFT, **_TWO_AND_HALF, "operation_ranges": "ctaugment_code"},
}
"""The values of each policy; other operations are off."""

DETAILS: dict[str, Any] = {
    "crop_ratio": (3 / 4, 4 / 3),  # SimCLR's public code, torchvision's default
    "jitter": 1.0,
    "blur_sigma": (0.1, 2.0),  # SimCLR, appendix A; MoCo v2
    "padding": "zeros",
    "window": "random",
    "shift_padding": "reflection",  # FixMatch, as all with few labels; RotNet pads zeros
    "operation_ranges": "scan",
    "cutout_side": "uniform",
}
"""Values of all policies that have no effect unless another setting is on."""
