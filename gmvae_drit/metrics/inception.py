"""Inception-v3 as published figures of FID use it (2015-12-05 weights), by torch-fidelity's network.

Legend: n images, C channels, H, W image size.
"""

import pickle
from pathlib import Path

import torch
from torch import Tensor

from gmvae_drit.errors import ModelError
from gmvae_drit.metrics.features import clean_resize

SIDE = 299
DEPTHS = ("Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c")
"""The modules whose outputs are `layers`: the last one of every resolution."""


class Inception:
    """`inception`: the 2048 features of the last pooling layer.

    `weights` is torch-fidelity's file `weights-inception-2015-12-05-6726825d.pth`; None lets torch-fidelity download
    it. Raises ModelError where the package, the file or the network is missing.
    """

    name = "inception"
    size = 2048

    def __init__(self, weights: Path | None = None) -> None:
        try:
            from torch_fidelity import feature_extractor_inceptionv3 as published
        except ImportError:
            raise ModelError(
                "the features inception need torch-fidelity: pip install 'gmvae-drit[inception]'"
            ) from None
        if weights is not None:
            _check(weights)
        try:
            self._net = published.FeatureExtractorInceptionV3(
                self.name, ["2048"], None if weights is None else str(weights)
            )
        except OSError as error:
            raise ModelError(
                f"cannot download Inception's weights ({error}); fetch {published.URL_INCEPTION_V3} elsewhere and "
                "give its path, or use efficientnet-lite0, whose weights are installed"
            ) from None
        except RuntimeError:
            raise ModelError(f"{weights}: not the weights of {published.URL_INCEPTION_V3}") from None

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """The last convolutions averaged over space: see `Features`."""
        return self.layers(image)[-1].mean((2, 3))

    @torch.inference_mode()
    def layers(self, image: Tensor) -> list[Tensor]:
        """The last module of each of the five resolutions: see `LayeredFeatures`."""
        # torch-fidelity's forward takes bytes and resizes them in its own way; its modules lie in the order of use.
        x = (127.5 * (clean_resize(image, SIDE) + 1) - 128) / 128
        out = []
        for name, module in self._net.named_children():
            x = module(x)
            if name in DEPTHS:
                out.append(x)
            if name == DEPTHS[-1]:
                break
        return out


def _check(weights: Path) -> None:
    """Raise ModelError unless the file can be read and is a pickle of tensors only: torch-fidelity runs any pickle."""
    try:
        torch.load(weights, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{weights}: {error.strerror or error}") from None
    except (
        pickle.UnpicklingError,
        LookupError,
        RuntimeError,
        EOFError,
    ):  # what torch.load meets in other files
        raise ModelError(f"{weights}: not a file of weights, or more than weights in it") from None
