"""Generators G(x | content, z, d), in two parts: `shared` depends on the content alone, `render` on all three.

The training step computes `shared` once per content and renders it with several attributes.
Legend: B batch, C channels, h, w code size, H, W image size, Z attribute size, D domains, S style size.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvae_drit.config import GeneratorSettings
from gmvae_drit.networks.blocks import AdaptiveInstanceNorm, NoiseInjection, ResidualBlock


class Generator(nn.Module, ABC):
    """Content code, attribute and domain to an image in [-1, 1]."""

    def __init__(self, downsamplings: int, size: int, domains: int) -> None:
        super().__init__()
        self.size = size
        self.domains = domains
        self.cell = 2**downsamplings
        """Side in pixels of the square that one position of the content code covers."""

    @abstractmethod
    def shared(self, content: Tensor) -> Tensor:
        """What one content needs once, whatever the attribute: (B, C, h, w) to (B, C', h, w)."""

    @abstractmethod
    def render(self, shared: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """(B, C', h, w), (B, Z), (B,) to images (B, 3, H, W) in [-1, 1]."""

    def forward(self, content: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """(B, C, h, w), (B, Z), (B,) int64 to images (B, 3, H, W) in [-1, 1]."""
        return self.render(self.shared(content), attribute, domain)

    def condition(self, attribute: Tensor, domain: Tensor) -> Tensor:
        """[one-hot d, z] as (B, D + Z)."""
        return torch.cat([F.one_hot(domain, self.domains).to(attribute.dtype), attribute], 1)


class ConcatGenerator(Generator):
    """Appends (d, z) as constant channels (DRIT++'s concat generator).

    Reflection padding keeps a constant channel constant and InstanceNorm then cancels it, so what the residual blocks
    add does not depend on (d, z): they run once per content on zeros, and (d, z) is added to their output. Exact, up
    to rounding.
    """

    def __init__(
        self, settings: GeneratorSettings, channels: int, downsamplings: int, size: int, domains: int
    ) -> None:
        super().__init__(downsamplings, size, domains)
        self.first = ResidualBlock(channels)
        width = channels + domains + size
        self.residual = nn.Sequential(*(ResidualBlock(width) for _ in range(settings.residual_blocks - 1)))
        stages = []
        for _ in range(downsamplings):
            stages.append(
                nn.Sequential(
                    nn.ConvTranspose2d(width + size, width // 2, 3, 2, 1, output_padding=1),
                    nn.GroupNorm(1, width // 2),
                    nn.ReLU(inplace=True),
                )
            )
            width //= 2
        self.up = nn.ModuleList(stages)
        self.to_image = nn.Conv2d(width + size, 3, 1)

    def shared(self, content: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C + D + Z, h, w), the state after the residual blocks for (d, z) = 0."""
        h = self.first(content)
        zeros = h.new_zeros(h.shape[0], self.domains + self.size, *h.shape[2:])
        out: Tensor = self.residual(torch.cat([h, zeros], 1))
        return out

    def render(self, shared: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """See `Generator.render`."""
        constant = self.condition(attribute, domain).to(shared.dtype)
        h = shared + F.pad(constant, (shared.shape[1] - constant.shape[1], 0))[:, :, None, None]
        z = attribute.to(shared.dtype)[:, :, None, None]
        for stage in self.up:
            h = stage(torch.cat([h, z.expand(-1, -1, *h.shape[2:]).to(h.dtype)], 1))
        return torch.tanh(self.to_image(torch.cat([h, z.expand(-1, -1, *h.shape[2:]).to(h.dtype)], 1)))


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
        """(B, C, h, w) and (B, S) to (B, C', h', w')."""
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
        noise = settings.noise_injection
        self.residual = nn.ModuleList(
            _StyledResidualBlock(channels, style_size, noise) for _ in range(settings.residual_blocks)
        )
        self.up = nn.ModuleList(
            _StyledConv(channels >> i, channels >> (i + 1), style_size, noise, upsample=True)
            for i in range(downsamplings - 1)
        )
        # The last doubling makes the image itself: a full-resolution layer of 3 output channels wastes a CPU.
        self.to_image = nn.Sequential(_shuffled_conv(channels >> (downsamplings - 1), 3), nn.Tanh())

    def shared(self, content: Tensor) -> Tensor:
        """The content itself: every block sees the attribute."""
        return content

    def render(self, shared: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """See `Generator.render`."""
        style = self.style(self.condition(attribute, domain))
        h = shared
        for stage in (*self.residual, *self.up):
            h = stage(h, style)
        image: Tensor = self.to_image(h)
        return image


def build_generator(
    settings: GeneratorSettings, channels: int, downsamplings: int, size: int, domains: int
) -> Generator:
    """The generator that `settings.kind` names, for content codes of `channels` channels."""
    kinds: dict[str, type[ConcatGenerator] | type[AdaInGenerator]] = {
        "concat": ConcatGenerator,
        "adain": AdaInGenerator,
    }
    return kinds[settings.kind](settings, channels, downsamplings, size, domains)
