"""The planted modes are what the metadata says, and the same for the same seed."""

from itertools import islice

import numpy as np
import pytest
from PIL import Image

from data_shards.modes import COUNTS, PALETTES, SIDE, UNIT_SHAPES, Content, Spread, mode_images, render
from data_shards.sources import SourceImage


def some(spread: Spread, seed: int = 0, count: int = 400) -> list[SourceImage]:
    return list(islice(mode_images(seed, spread), count))


def pixels(source: SourceImage) -> np.ndarray:
    assert isinstance(source.image, Image.Image)
    return np.asarray(source.image)


def test_counts_and_determinism() -> None:
    images = [(image.domain, image.split) for image in mode_images(0, "easy")]
    for domain in PALETTES:
        for split, count in COUNTS.items():
            assert images.count((domain, split)) == count
    one, again, other = some("easy", 0, 20), some("easy", 0, 20), some("easy", 1, 20)
    assert all(
        np.array_equal(pixels(a), pixels(b)) and a.meta == b.meta for a, b in zip(one, again, strict=True)
    )
    assert not any(np.array_equal(pixels(a), pixels(b)) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("spread", "least"), [("easy", 1.0), ("wide", 0.98)])
def test_the_mode_can_be_told_from_the_colours(spread: Spread, least: float) -> None:
    images = some(spread)
    attribute = np.array([image.meta["attribute"][:6] for image in images])
    nearest = ((attribute[:, None] - PALETTES["plain"]) ** 2).sum(-1).argmin(1)
    modes = np.array([image.meta["mode"] for image in images])
    assert (nearest == modes).mean() >= least
    assert np.bincount(modes).min() > 70


def test_the_background_has_the_drawn_colour_and_all_shapes_occur() -> None:
    images = some("wide")
    for image in images:
        np.testing.assert_allclose(pixels(image)[0, 0] / 255, image.meta["attribute"][3:6], atol=0.003)
    assert {image.meta["label"] for image in images} == set(range(len(UNIT_SHAPES)))


def test_content_is_independent_of_mode() -> None:
    images = some("easy", count=2000)
    counts = np.zeros((len(UNIT_SHAPES), 4))
    for image in images:
        counts[image.meta["label"], image.meta["mode"]] += 1
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 32.9  # chi-squared, 12 degrees of freedom, p = 0.001


@pytest.mark.parametrize("shape", range(len(UNIT_SHAPES)))
def test_a_shape_shows_on_a_background_of_its_own_colour(shape: int) -> None:
    grey = np.full(6, 0.5)
    image = np.asarray(render(Content(shape, complex(32, 32), 15, 0.3), grey, 0.0))
    assert image.shape == (SIDE, SIDE, 3)
    assert image.min() < 60
    assert (image[32, 32] == 128).all()
    assert (np.abs(image.astype(int) - 128).max(-1) > 5).mean() < 0.25


def test_smaller_images_are_the_same_ones_reduced() -> None:
    whole, half = (next(iter(mode_images(0, "easy", size))) for size in (SIDE, SIDE // 2))
    assert pixels(half).shape == (SIDE // 2, SIDE // 2, 3)
    four = pixels(whole).reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean((1, 3))
    assert np.abs(four - pixels(half)).max() <= 1  # Pillow rounds between its two passes
