"""Collections of images for measurements, made from nothing: `python -m benchmarks.collections KIND FOLDER`.

KIND is letters (ten letters in the typefaces of `--fonts FOLDER`, grey, 32 px) or drawings (ten shapes drawn by an
unsteady hand, grey, 64 px). Writes one folder a class. Options: `--images 2200 --seed 0`. Equal options, equal images.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LETTERS = "ABCDEFGHIJ"
DRAWN = 4
"""Sides of the canvas in multiples of the image's, so that lines are smooth."""
Point = tuple[float, float]
Stroke = Sequence[Point]


def letter(name: str, font: Path, rng: np.random.Generator) -> Image.Image:
    """Return a letter, dark on light or light on dark, turned by up to 10° and of some 60 to 90 % of the side."""
    side = 32 * DRAWN
    image = Image.new("L", (side, side), 0)
    face = ImageFont.truetype(str(font), int(side * rng.uniform(0.6, 0.95)))
    left, top, right, bottom = face.getbbox(name)
    place = ((side - right - left) / 2, (side - bottom - top) / 2)
    shift = rng.uniform(-0.06, 0.06, 2) * side
    ImageDraw.Draw(image).text((place[0] + shift[0], place[1] + shift[1]), name, 255, font=face)
    return image.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR).resize((32, 32), Image.Resampling.BOX)


def polygon(corners: int, inner: float = 1.0) -> list[Stroke]:
    """Return a regular polygon, or with `inner` below 1 a star, within the unit circle."""
    count = corners * (2 if inner < 1 else 1)
    radius = [inner if inner < 1 and i % 2 else 1.0 for i in range(count)]
    turn = [2 * math.pi * i / count - math.pi / 2 for i in range(count)]
    points = [(r * math.cos(t), r * math.sin(t)) for r, t in zip(radius, turn, strict=True)]
    return [[*points, points[0]]]


def arc(x: float, y: float, radius: float, start: float = 0.0, end: float = 360.0) -> Stroke:
    """Return an arc as a line of points; angles in degrees, clockwise from the right."""
    turns = np.radians(np.linspace(start, end, 25))
    return [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]


SHAPES: dict[str, Callable[[], list[Stroke]]] = {
    "circle": lambda: [arc(0, 0, 0.9)],
    "triangle": lambda: polygon(3),
    "square": lambda: [[(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8), (-0.8, -0.8)]],
    "star": lambda: polygon(5, 0.4),
    "cross": lambda: [[(-0.9, 0), (0.9, 0)], [(0, -0.9), (0, 0.9)]],
    "house": lambda: [[(-0.7, 0.9), (-0.7, -0.1), (0, -0.9), (0.7, -0.1), (0.7, 0.9), (-0.7, 0.9)]],
    "face": lambda: [arc(0, 0, 0.9), arc(-0.3, -0.25, 0.1), arc(0.3, -0.25, 0.1), arc(0, 0.1, 0.45, 20, 160)],
    "arrow": lambda: [[(-0.9, 0), (0.9, 0)], [(0.4, -0.5), (0.9, 0), (0.4, 0.5)]],
    "tree": lambda: [arc(0, -0.3, 0.6), [(0, 0.3), (0, 0.95)]],
    "fish": lambda: [arc(-0.2, 0, 0.6), [(0.35, -0.1), (0.95, -0.5), (0.95, 0.5), (0.35, 0.1)]],
}


def drawing(name: str, rng: np.random.Generator) -> Image.Image:
    """Return a shape of unsteady lines, turned by up to 20°, stretched and of another width each time."""
    side = 64 * DRAWN
    turn, size = math.radians(rng.uniform(-20, 20)), rng.uniform(0.25, 0.45, 2) * side
    middle = side / 2 + rng.uniform(-0.08, 0.08, 2) * side
    image = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(image)
    width = int(rng.uniform(1.0, 3.5) * DRAWN)
    for stroke in SHAPES[name]():
        points = np.array(stroke)
        fine = np.concatenate([np.linspace(a, b, 9)[:-1] for a, b in pairwise(points)])
        fine = np.concatenate([fine, points[-1:]])
        wobble = np.cumsum(rng.normal(0, 0.02, fine.shape), axis=0)
        wobble -= np.linspace(0, 1, len(fine))[:, None] * wobble[-1] * 0.8
        x, y = (fine + wobble).T
        place = np.stack([x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)], axis=1)
        pen.line([tuple(point) for point in place * size + middle], fill=int(rng.uniform(0, 90)), width=width)
    return image.resize((64, 64), Image.Resampling.BOX)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["letters", "drawings"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fonts", type=Path)
    parser.add_argument("--images", type=int, default=2200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    names = list(LETTERS if given.kind == "letters" else SHAPES)
    fonts = sorted(given.fonts.iterdir()) if given.kind == "letters" else []
    for label, name in enumerate(names):
        (given.folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(given.images // len(names)):
            rng = np.random.default_rng([given.seed, label, i])
            image = letter(name, fonts[rng.integers(len(fonts))], rng) if fonts else drawing(name, rng)
            image.save(given.folder / name / f"{i:04}.png")


if __name__ == "__main__":
    main()
