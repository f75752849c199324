"""How different two pictures look. Legend: n images, C channels, H, W image size, E size of an embedding."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from gmvae_drit.metrics.features import LayeredFeatures


class PictureDistance(Protocol):
    """A distance of pictures that is computed from an embedding of each."""

    name: str
    """For the keys of figures."""

    def embed(self, image: Tensor) -> Tensor:
        """(n, 3, H, W) in [-1, 1] to (n, E)."""

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (n,) of embeddings (n, E) pair by pair."""


class PixelDistance:
    """Mean absolute difference of the values in [-1, 1]."""

    name = "pixels"

    def embed(self, image: Tensor) -> Tensor:
        """The pixels: see `PictureDistance`."""
        return image.flatten(1)

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        """See `PictureDistance`."""
        return (a - b).abs().mean(1)


class PerceptualDistance:
    """sum_l 1/(H_l W_l) sum_hw |a_lhw - b_lhw|^2 of activations of unit length over the channels.

    That is LPIPS (arXiv:1801.03924, eq. 1) with w = 1, over the layers of any feature network: not to be compared
    with figures of the learned LPIPS.
    """

    def __init__(self, features: LayeredFeatures) -> None:
        self.name = f"perceptual, {features.name}"
        self._features = features

    @torch.inference_mode()
    def embed(self, image: Tensor) -> Tensor:
        """Scaled so that the squared Euclidean distance of two embeddings is the distance: see `PictureDistance`."""
        layers = self._features.layers(image)
        return torch.cat(
            [(F.normalize(x, dim=1, eps=1e-10) / x[0, 0].numel() ** 0.5).flatten(1) for x in layers], 1
        )

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        """See `PictureDistance`."""
        return (a - b).square().sum(1)


def perceptual_distance(features: LayeredFeatures, a: Tensor, b: Tensor) -> Tensor:
    """`PerceptualDistance` of images (n, 3, H, W) in [-1, 1] pair by pair, (n,)."""
    distance = PerceptualDistance(features)
    return distance.between(distance.embed(a), distance.embed(b))
