"""The generator that appends (d, z) as constant channels.

Legend: B batch, C channels, h, w code size, Z attribute size, D domains.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvae_drit.config import GeneratorSettings
from gmvae_drit.networks.blocks import ResidualBlock
from gmvae_drit.networks.generator import Generator, up_stage


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
            stages.append(up_stage(width + size, width // 2, settings.up_convolutions))
            width //= 2
        self.up = nn.ModuleList(stages)
        self.to_image = nn.Conv2d(width + size, 3, 1)

    def shared(self, content: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C + D + Z, h, w), the state after the residual blocks for (d, z) = 0."""
        h = self.first(content)
        zeros = h.new_zeros(h.shape[0], self.domains + self.size, *h.shape[2:])
        out: Tensor = self.residual(torch.cat([h, zeros], 1))
        return out

    def before_tanh(self, shared: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """See `Generator.before_tanh`."""
        constant = self.condition(attribute, domain).to(shared.dtype)
        h = shared + F.pad(constant, (shared.shape[1] - constant.shape[1], 0))[:, :, None, None]
        z = attribute.to(shared.dtype)[:, :, None, None]
        for stage in self.up:
            h = stage(torch.cat([h, z.expand(-1, -1, *h.shape[2:]).to(h.dtype)], 1))
        image: Tensor = self.to_image(torch.cat([h, z.expand(-1, -1, *h.shape[2:]).to(h.dtype)], 1))
        return image
