"""The generator that modulates every layer by (d, z). Legend: B batch, C channels, h, w size, S style size."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvae_drit.config import GeneratorSettings
from gmvae_drit.networks.blocks import AdaptiveInstanceNorm, NoiseInjection
from gmvae_drit.networks.generator import Generator


def _shuffled_conv(c_in: int, c_out: int) -> nn.Sequential:
    """Convolution and pixel shuffle: twice the size. The four sub-pixels begin equal, against a checkerboard
    (ICNR, arXiv:1707.02937)."""
    conv = nn.Conv2d(c_in, 4 * c_out, 3, padding=1, padding_mode="reflect")
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(parameter[::4].repeat_interleave(4, 0))
    return nn.Sequential(conv, nn.PixelShuffle(2))


class _StyledConv(nn.Module):
    """Convolution, optional noise, AdaIN, leaky ReLU."""

    def __init__(self, c_in: int, c_out: int, style_size: int, noise: bool, upsample: bool) -> None:
        super().__init__()
        self.conv: nn.Module
        if upsample:
            self.conv = _shuffled_conv(c_in, c_out)
        else:
            self.conv = nn.Conv2d(c_in, c_out, 3, padding=1, padding_mode="reflect")
        self.noise = NoiseInjection(c_out) if noise else nn.Identity()
        self.norm = AdaptiveInstanceNorm(c_out, style_size)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(B, C, h, w) and (B, S) to (B, C, h', w')."""
        return F.leaky_relu(self.norm(self.noise(self.conv(x)), style), 0.2)


class _StyledResidualBlock(nn.Module):
    """x plus two styled convolutions of x."""

    def __init__(self, channels: int, style_size: int, noise: bool) -> None:
        super().__init__()
        self.first = _StyledConv(channels, channels, style_size, noise, upsample=False)
        self.second = _StyledConv(channels, channels, style_size, noise, upsample=False)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(B, C, h, w) and (B, S) to (B, C, h, w)."""
        out: Tensor = x + self.second(self.first(x, style), style)
        return out


class AdaInGenerator(Generator):
    """Modulates every layer by a style read from (d, z) (AdaIN, arXiv:1703.06868; StarGAN v2, arXiv:1912.01865)."""

    def __init__(
        self, settings: GeneratorSettings, channels: int, downsamplings: int, size: int, domains: int
    ) -> None:
        super().__init__(downsamplings, size, domains)
        style_size = 128
        self.style = nn.Sequential(
            nn.Linear(domains + size, style_size),
            nn.LeakyReLU(0.2),
            nn.Linear(style_size, style_size),
            nn.LeakyReLU(0.2),
        )
        for layer in self.style:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0.2)
        noise = settings.noise_injection
        self.residual = nn.ModuleList(
            _StyledResidualBlock(channels, style_size, noise) for _ in range(settings.residual_blocks)
        )
        # The last doubling makes the image itself: a full-resolution layer of 3 output channels wastes a CPU. Hence
        # the further convolutions of a stage come before its doubling.
        up = []
        for i in range(downsamplings):
            width = channels >> i
            further = range(settings.up_convolutions - 1)
            up += [_StyledConv(width, width, style_size, noise, upsample=False) for _ in further]
            if i < downsamplings - 1:
                up.append(_StyledConv(width, width // 2, style_size, noise, upsample=True))
        self.up = nn.ModuleList(up)
        self.to_image = nn.Sequential(_shuffled_conv(channels >> (downsamplings - 1), 3))

    def shared(self, content: Tensor) -> Tensor:
        """The content itself: every block sees the attribute."""
        return content

    def before_tanh(self, shared: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """See `Generator.before_tanh`."""
        style = self.style(self.condition(attribute, domain))
        h = shared
        for layer in (*self.residual, *self.up):
            h = layer(h, style)
        image: Tensor = self.to_image(h)
        return image
