"""The networks without what this project does to make them cheap, for `benchmarks/step.py`: the same results."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvae_drit.networks.blocks import InstanceNorm, WideConv2d
from gmvae_drit.networks.concat_generator import ConcatGenerator


class PlainInstanceNorm(InstanceNorm):
    """PyTorch's."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return F.instance_norm(x)


class BlocksPerContent(ConcatGenerator):
    """Shares the residual blocks of one content, and runs the first transposed convolution anew for every attribute."""

    def shared(self, content: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C + D + Z, h, w)."""
        h: Tensor = self.residual(F.pad(self.first(content), (0, 0, 0, 0, 0, self.domains + self.size)))
        return h

    def before_tanh(self, shared: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """See `Generator.before_tanh`."""
        constant = self.condition(attribute, domain).to(shared.dtype)
        h = shared + F.pad(constant, (shared.shape[1] - constant.shape[1], 0))[:, :, None, None]
        return self.up_sampled(h, attribute)

    def up_sampled(self, h: Tensor, z: Tensor) -> Tensor:
        """(B, C + D + Z, h, w), (B, Z) to images (B, 3, H, W) before the tanh."""
        for stage in self.up:
            h = stage(torch.cat([h, _as_channels(z, h)], 1))
        image: Tensor = self.to_image(torch.cat([h, _as_channels(z, h)], 1))
        return image


class PlainConcatGenerator(BlocksPerContent):
    """DRIT++'s concat generator as published: all residual blocks see [features, d, z]."""

    def shared(self, content: Tensor) -> Tensor:
        """Nothing is shared."""
        return content

    def before_tanh(self, shared: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """See `Generator.before_tanh`."""
        h = self.first(shared)
        h = self.residual(torch.cat([h, _as_channels(self.condition(attribute, domain), h)], 1))
        return self.up_sampled(h, attribute)


def _as_channels(x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)[:, :, None, None].expand(-1, -1, *like.shape[2:])


PLAIN: dict[type[nn.Module], type[nn.Module]] = {
    WideConv2d: nn.Conv2d,
    InstanceNorm: PlainInstanceNorm,
    ConcatGenerator: PlainConcatGenerator,
}
"""Each kind of module as it is without this project's doing."""


def replace(model: nn.Module, kinds: dict[type[nn.Module], type[nn.Module]]) -> None:
    """Turn the modules of these kinds within `model` into their counterparts, which have the same parameters."""
    for module in model.modules():
        module.__class__ = kinds.get(type(module), type(module))
