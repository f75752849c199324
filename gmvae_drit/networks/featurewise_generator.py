"""The generator that fuses (d, z) into the features of every residual block.

Legend: B batch, C channels, h, w code size, S style size.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from gmvae_drit.config import GeneratorSettings
from gmvae_drit.networks.blocks import InstanceNorm
from gmvae_drit.networks.generator import Generator, up_stage


class _Fusion(nn.Module):
    """Two 1 x 1 convolutions of [x, style], each with a ReLU. The first is the sum of its two parts, so that what it
    makes of the style is computed once and not at every position."""

    def __init__(self, channels: int, style_size: int) -> None:
        super().__init__()
        width = channels + style_size
        self.of_features = nn.Conv2d(channels, width, 1)
        self.of_style = nn.Linear(style_size, width, bias=False)
        self.out = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(B, C, h, w) and (B, S) to (B, C, h, w)."""
        h = F.relu(self.of_features(x) + self.of_style(style)[:, :, None, None])
        return F.relu(self.out(h))


class _FusedResidualBlock(nn.Module):
    """x + fuse(IN(conv(fuse(IN(conv(x)), s))), s): the public code's MisINSResBlock."""

    def __init__(self, channels: int, style_size: int) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False),
                InstanceNorm(),
            )
            for _ in range(2)
        )
        self.fuse_first, self.fuse_second = (_Fusion(channels, style_size) for _ in range(2))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(B, C, h, w) and (B, S) to (B, C, h, w)."""
        h = self.fuse_first(self.first(x), style)
        out: Tensor = x + self.fuse_second(self.second(h), style)
        return out


class FeaturewiseGenerator(Generator):
    """Feature-wise transformation (DRIT++, arXiv:1905.01270, section 3.4; `--concat 0` of the public code).

    An MLP makes of (d, z) one style per residual block; the up-sampling sees none.
    """

    def __init__(
        self, settings: GeneratorSettings, channels: int, downsamplings: int, size: int, domains: int
    ) -> None:
        super().__init__(downsamplings, size, domains)
        blocks = settings.residual_blocks
        self.styles = nn.Sequential(
            nn.Linear(domains + size, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, blocks * channels),
        )
        # With PyTorch's first weights, variance falls to a sixth at each layer, and z would hardly show in an image.
        for layer in self.styles:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.residual = nn.ModuleList(_FusedResidualBlock(channels, channels) for _ in range(blocks))
        widths = [channels >> i for i in range(downsamplings + 1)]
        self.up = nn.Sequential(*(up_stage(*pair, settings.up_convolutions) for pair in pairwise(widths)))
        self.to_image = nn.Conv2d(widths[-1], 3, 1)

    def shared(self, content: Tensor) -> Tensor:
        """The content itself: every block sees the attribute."""
        return content

    def before_tanh(self, shared: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """See `Generator.before_tanh`."""
        styles = self.styles(self.condition(attribute, domain)).chunk(len(self.residual), dim=1)
        h = shared
        for block, style in zip(self.residual, styles, strict=True):
            h = block(h, style)
        image: Tensor = self.to_image(self.up(h))
        return image
