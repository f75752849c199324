"""What networks see in pictures: the spaces in which translations are compared with real images.

Legend: n images, F features, C channels, H, W image size.

Every network gets its pictures in one way, that of clean-fid (Parmar et al. 2022, arXiv:2104.11222): rounded to
8 bits, as a saved picture would be, then resized by antialiased bicubic interpolation in floating point, and clipped.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from gmvae_drit.classifier import Classifier
from gmvae_drit.images import to_bytes, to_unit

BATCH = 32
"""Images that go through a feature network at once: larger batches fall out of a CPU's cache."""


class Features(Protocol):
    """A space to compare pictures in."""

    name: str
    """Which network at which size, for the keys of figures: figures of different features cannot be compared."""
    size: int
    """F."""

    def __call__(self, image: Tensor) -> Tensor:
        """(n, 3, H, W) in [-1, 1] to (n, F): what FID, KID, bins and neighbours are measured on."""


class LayeredFeatures(Features, Protocol):
    """A network that also shows its inside, for distances of two pictures."""

    def layers(self, image: Tensor) -> list[Tensor]:
        """(n, 3, H, W) in [-1, 1] to the activations of several depths, each (n, C, H', W')."""


def clean_resize(image: Tensor, side: int) -> Tensor:
    """(n, 3, H, W) in [-1, 1] to (n, 3, side, side) in [-1, 1], as the module says; not resized if it fits."""
    rounded = to_unit(to_bytes(image))
    if rounded.shape[2:] == (side, side):
        return rounded
    return F.interpolate(rounded, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)


class PixelFeatures:
    """`pixels@side`: the pixels of the resized picture. No network, so the space of last resort; that of NDB."""

    def __init__(self, side: int = 32) -> None:
        self.name = f"pixels@{side}"
        self.size = 3 * side**2
        self._side = side

    def __call__(self, image: Tensor) -> Tensor:
        """See `Features`."""
        return clean_resize(image, self._side).flatten(1)


class ClassifierFeatures:
    """A classifier of this project as a feature network, for tiny images that it was trained on; not resized.

    F is small, so that FID is defined from a few hundred images on.
    """

    def __init__(self, name: str, classifier: Classifier) -> None:
        self.name = name
        self._classifier = classifier
        self.size = classifier.channels[-1]

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """The last stage averaged over space: see `Features`."""
        return self._classifier.activations(to_unit(to_bytes(image)))[-1].mean((2, 3))

    @torch.inference_mode()
    def layers(self, image: Tensor) -> list[Tensor]:
        """Every stage: see `LayeredFeatures`."""
        return self._classifier.activations(to_unit(to_bytes(image)))


class FeatureBank:
    """The features of a set of images, gathered batch by batch; the images themselves are let go."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self._rows: list[Tensor] = []

    @torch.inference_mode()
    def update(self, image: Tensor) -> None:
        """Add images (n, 3, H, W) in [-1, 1], on the device of the feature network."""
        self._rows += [self.features(part).cpu() for part in image.split(BATCH)]

    def compute(self) -> Tensor:
        """All features so far, (n, F) on the CPU, in the order of the images."""
        return torch.cat(self._rows) if self._rows else torch.empty(0, self.features.size)
