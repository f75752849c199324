"""A sample data set whose attribute modes are known: coloured shapes, 64 x 64 pixels, two domains.

    python -m data_shards sample modes OUT                  # four well separated modes in each domain
    python -m data_shards sample modes OUT --spread wide    # the same, overlapping
    python -m data_shards sample modes OUT --size 32        # for two cores: a step costs half

Content, drawn alike in both domains: which shape, where, how large, turned how far. Attribute: the colours of
shape and background, from a mixture of four Gaussians per domain, and in the domain ``striped`` the strength of
the stripes. Metadata: ``label`` is the shape, ``mode`` the component, ``attribute`` the drawn values.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from data_shards.sources import SourceImage

SIDE = 64
OVERSAMPLING = 4
COUNTS = {"train": 2000, "test": 500}  # per domain
STRIPES = 9  # pixels from one stripe to the next

Array = npt.NDArray[np.float64]
Spread = Literal["easy", "wide"]

# Deviation of every colour channel within a mode, of [0, 1]. Knowing the palettes and nothing else, the nearest one
# is the right one for all images (easy) and for 99.7 % (wide: normalised mutual information 0.987).
DEVIATION: dict[Spread, float] = {"easy": 0.04, "wide": 0.15}

# Mean colours of the modes, RGB in [0, 1]: of the shape, then of the background.
PALETTES: dict[str, Array] = {
    "plain": np.array(
        [
            [0.85, 0.20, 0.20, 0.90, 0.85, 0.70],
            [0.20, 0.65, 0.30, 0.25, 0.20, 0.45],
            [0.25, 0.35, 0.85, 0.75, 0.45, 0.20],
            [0.90, 0.80, 0.25, 0.20, 0.55, 0.60],
        ]
    ),
    "striped": np.array(
        [
            [0.80, 0.35, 0.75, 0.30, 0.35, 0.20],
            [0.25, 0.75, 0.80, 0.85, 0.60, 0.75],
            [0.90, 0.55, 0.20, 0.25, 0.30, 0.75],
            [0.35, 0.25, 0.25, 0.60, 0.85, 0.45],
        ]
    ),
}

UNIT_SHAPES: dict[str, Array] = {
    "triangle": np.exp(2j * np.pi * (np.arange(3) / 3 - 0.25)),
    "square": np.exp(2j * np.pi * (np.arange(4) / 4 + 0.125)),
    "star": np.exp(2j * np.pi * np.arange(10) / 10) * np.tile([1.0, 0.55], 5),
    "disc": np.exp(2j * np.pi * np.arange(64) / 64),
    "cross": np.array(
        [complex(x, y) for x, y in [(-0.4, -1), (0.4, -1), (0.4, -0.4), (1, -0.4), (1, 0.4), (0.4, 0.4)]]
        + [complex(x, y) for x, y in [(0.4, 1), (-0.4, 1), (-0.4, 0.4), (-1, 0.4), (-1, -0.4), (-0.4, -0.4)]]
    ),
}  # outlines in the complex plane, about the origin, of radius 1 or so


class Content(NamedTuple):
    """What the domains share."""

    shape: int
    """Place in ``UNIT_SHAPES``."""
    centre: complex
    """Pixels."""
    radius: float
    """Pixels."""
    turn: float
    """Radians."""


def mode_images(seed: int, spread: Spread, size: int = SIDE) -> Iterator[SourceImage]:
    """2,000 train and 500 test images of each domain, of `size` x `size` pixels: rendered at 64, then reduced."""
    for d, domain in enumerate(PALETTES):
        for s, (split, count) in enumerate(COUNTS.items()):
            for index in range(count):
                random = np.random.default_rng([seed, d, s, index])
                content, mode = random_content(random), int(random.integers(4))
                attribute = PALETTES[domain][mode] + DEVIATION[spread] * random.standard_normal(6)
                attribute = attribute.clip(0, 1)
                stripes = float(random.uniform(0.25, 0.45)) if domain == "striped" else 0.0
                meta = {
                    "label": content.shape,
                    "mode": mode,
                    "attribute": [round(float(value), 4) for value in (*attribute, stripes)],
                }
                picture = render(content, attribute, stripes).resize((size, size), Image.Resampling.BOX)
                yield SourceImage(domain, split, f"{split}-{index:05d}", picture, meta)


def random_content(random: np.random.Generator) -> Content:
    """A shape that lies wholly within the image."""
    radius = float(random.uniform(17, 25))
    x, y = random.uniform(radius + 2, SIDE - radius - 2, 2)
    return Content(
        int(random.integers(len(UNIT_SHAPES))), complex(x, y), radius, float(random.uniform(0, 2 * np.pi))
    )


def render(content: Content, colours: Array, stripes: float) -> Image.Image:
    """The shape with a dark outline, so that it shows on a background of its own colour as well."""
    outline = list(UNIT_SHAPES.values())[content.shape] * np.exp(1j * content.turn) * content.radius
    points = [
        (point.real * OVERSAMPLING, point.imag * OVERSAMPLING)
        for point in (outline + content.centre).tolist()
    ]
    size = (SIDE * OVERSAMPLING, SIDE * OVERSAMPLING)
    inside, edge = Image.new("L", size), Image.new("L", size)
    ImageDraw.Draw(inside).polygon(points, fill=255)
    ImageDraw.Draw(edge).line([*points, *points[:2]], fill=255, width=OVERSAMPLING, joint="curve")
    inside_HW, edge_HW = (
        np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64) / 255
        for mask in (inside, edge)
    )
    image_HWC = colours[3:] + inside_HW[..., None] * (colours[:3] - colours[3:])
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    wave_HW = np.sin(2 * np.pi * (x + y) / STRIPES)
    image_HWC = image_HWC * (1 + stripes * wave_HW[..., None])
    image_HWC = image_HWC * (1 - 0.85 * edge_HW[..., None])
    return Image.fromarray((image_HWC.clip(0, 1) * 255).round().astype(np.uint8))
