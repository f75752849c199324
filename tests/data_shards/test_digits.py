"""The digit sample: nothing paired, nothing leaked, and blended as MNIST-M is."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_shards.digits import load_digits, load_photographs, patch_generator, random_patch
from data_shards.samples import Sample, read_split

PARTS = [(domain, split) for domain in ("mnist", "mnist-m") for split in ("train", "test")]


@pytest.fixture(scope="module")
def parts(digits: Path) -> dict[tuple[str, str], list[Sample]]:
    return {(domain, split): list(read_split(str(digits), split, domain)) for domain, split in PARTS}


@pytest.fixture(scope="module")
def carried() -> tuple[np.ndarray, np.ndarray]:
    return load_digits()


def test_digits_are_dealt_once_and_evenly(parts: dict[tuple[str, str], list[Sample]]) -> None:
    names = [sample.meta["name"] for part in parts.values() for sample in part]
    assert len(names) == len(set(names)) == 5000
    for (_, split), part in parts.items():
        per_class = 200 if split == "train" else 50
        assert Counter(sample.meta["label"] for sample in part) == dict.fromkeys(range(10), per_class)


def test_pixels_are_what_the_benchmark_defines(
    parts: dict[tuple[str, str], list[Sample]], carried: tuple[np.ndarray, np.ndarray]
) -> None:
    digits, labels = carried
    photos = load_photographs()
    for (domain, _), part in parts.items():
        for sample in part[::25]:
            index = int(sample.meta["name"].removeprefix("digit-"))
            digit = digits[index].astype(float)
            assert sample.meta["label"] == labels[index]
            patch = random_patch(photos, patch_generator(0, index)).astype(float).transpose(2, 0, 1)
            expected = np.sqrt((patch - digit) ** 2) if domain == "mnist-m" else np.stack([digit] * 3)
            np.testing.assert_array_equal(sample.image.numpy(), expected)


def test_digits_keep_two_pixels_of_black(carried: tuple[np.ndarray, np.ndarray]) -> None:
    digits, labels = carried
    assert digits.shape == (5000, 32, 32)
    assert len(labels) == 5000
    border = digits.copy()
    border[:, 2:30, 2:30] = 0
    assert border.max() == 0
    assert digits.max() == 255


def test_patches_vary_in_colour_and_texture() -> None:
    photos = load_photographs()
    patches = np.stack([random_patch(photos, patch_generator(0, index)) for index in range(300)]).astype(
        float
    )
    assert patches.mean(axis=(1, 2)).std(axis=0).min() > 30  # colours of patches, of 255
    texture = patches.std(axis=(1, 2)).mean(axis=1)
    assert np.quantile(texture, 0.1) < 15 < 40 < np.quantile(texture, 0.9)
