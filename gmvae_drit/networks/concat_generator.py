"""The generator that appends (d, z) as constant channels.

Legend: B batch, C channels, h, w code size, Z attribute size, D domains.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvae_drit.config import GeneratorSettings
from gmvae_drit.networks.blocks import ResidualBlock
from gmvae_drit.networks.generator import Generator, up_constant, up_stage


class ConcatGenerator(Generator):
    """Appends (d, z) as constant channels (DRIT++'s concat generator).

    Reflection padding keeps a constant channel constant and InstanceNorm then cancels it, so what the residual blocks
    add does not depend on (d, z): they run once per content on zeros. The first transposed convolution is linear, so it
    does, too, and what it makes of (d, z) is added to its output. Exact, up to rounding.
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
        """(B, C, h, w) to (B, C', 2 h, 2 w), the state after the first transposed convolution for (d, z) = 0."""
        h = self.first(content)
        h = self.residual(_append_zeros(h, self.domains + self.size))
        conv, _ = self._first_stage()
        out: Tensor = conv(_append_zeros(h, self.size))
        return out

    def before_tanh(self, shared: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """See `Generator.before_tanh`."""
        # z comes twice: from the residual blocks, and appended to their output.
        constant = torch.cat([self.condition(attribute, domain), attribute], 1)
        conv, rest = self._first_stage()
        h = rest(shared + up_constant(conv.weight[-constant.shape[1] :], constant, shared.shape[2:]))
        z = attribute.to(h.dtype)[:, :, None, None]
        for stage in self.up[1:]:
            h = stage(torch.cat([h, z.expand(-1, -1, *h.shape[2:])], 1))
        image: Tensor = self.to_image(torch.cat([h, z.expand(-1, -1, *h.shape[2:])], 1))
        return image

    def _first_stage(self) -> tuple[nn.ConvTranspose2d, nn.Sequential]:
        """The transposed convolution, and what follows it."""
        stage = self.up[0]
        assert isinstance(stage, nn.Sequential)
        conv = stage[0]
        assert isinstance(conv, nn.ConvTranspose2d)
        return conv, stage[1:]


def _append_zeros(x: Tensor, channels: int) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, 0, channels))
