"""Which network sees the pictures, for FID, KID, perceptual distances and neighbours."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from gmvae_drit.metrics import LayeredFeatures

SMALL = 64
"""Images up to this side, in pixels, are looked at by EfficientNet at 128 pixels, larger ones at 224."""


class Network(StrEnum):
    """Feature networks by name."""

    EFFICIENTNET_LITE0 = "efficientnet-lite0"
    INCEPTION = "inception"
    NONE = "none"


def build(network: Network, image_size: int, inception_weights: Path | None) -> LayeredFeatures | None:
    """The network for images of this size. Raises ModelError where its weights are missing."""
    match network:
        case Network.EFFICIENTNET_LITE0:
            return efficientnet_lite0(image_size)
        case Network.INCEPTION:
            from gmvae_drit.metrics.inception import Inception

            return Inception(inception_weights)
        case Network.NONE:
            return None


def efficientnet_lite0(image_size: int, device: torch.device | None = None) -> LayeredFeatures:
    """EfficientNet-Lite0 for images of this size, on `device` or the CPU. Raises ModelError without its weights."""
    from gmvae_drit.metrics.efficientnet import EfficientNetLite0

    return EfficientNetLite0(128 if image_size <= SMALL else 224, device)
