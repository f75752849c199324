"""What all generators G(x | content, z, d) share. Each has two parts: `shared` depends on the content alone, `render`
on content, z and d; the training step computes `shared` once per content and renders it with several attributes.

Legend: B batch, C channels, h, w code size, H, W image size, Z attribute size, D domains.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
        """What one content needs once, whatever the attribute: (B, C, h, w) to (B, C', h', w')."""

    @abstractmethod
    def before_tanh(self, shared: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """(B, C', h', w'), (B, Z), (B,) to images (B, 3, H, W) before the tanh that takes them to [-1, 1]."""

    def render(self, shared: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """(B, C', h', w'), (B, Z), (B,) to images (B, 3, H, W) in [-1, 1]."""
        return self.before_tanh(shared, attribute, domain).tanh()

    def forward(self, content: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """(B, C, h, w), (B, Z), (B,) int64 to images (B, 3, H, W) in [-1, 1]."""
        return self.render(self.shared(content), attribute, domain)

    def condition(self, attribute: Tensor, domain: Tensor) -> Tensor:
        """[one-hot d, z] as (B, D + Z)."""
        return torch.cat([F.one_hot(domain, self.domains).to(attribute.dtype), attribute], 1)


def up_stage(c_in: int, c_out: int, convolutions: int) -> nn.Sequential:
    """DRIT's ReLUINSConvTranspose2d, to twice the size, and `convolutions` - 1 blocks at that size behind it."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(c_in, c_out, 3, 2, 1, output_padding=1)]
    for _ in range(convolutions - 1):
        layers += [*_norm_and_relu(c_out), nn.Conv2d(c_out, c_out, 3, padding=1, padding_mode="reflect")]
    return nn.Sequential(*layers, *_norm_and_relu(c_out))


def up_constant(weight: Tensor, constant: Tensor, size: torch.Size) -> Tensor:
    """What the transposed convolution of `up_stage` adds for input channels that hold `constant` (B, F) everywhere.

    weight (F, C', 3, 3) are those of these channels; the result is (B, C', H, W) with `size` = (H, W). Each tap of the
    kernel adds the same at all positions that it reaches, and that is one product for the whole picture.
    """
    of_tap = constant @ weight.flatten(1)  # (B, C' * 9)
    taps = torch.eye(9, dtype=of_tap.dtype, device=of_tap.device).view(1, 9, 3, 3)
    reach = F.conv_transpose2d(taps.new_ones(1, 1, size[0] // 2, size[1] // 2), taps, None, 2, 1, 1)
    return (of_tap.view(-1, 9) @ reach.view(9, -1)).view(len(constant), -1, *size)


def _norm_and_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.GroupNorm(1, channels), nn.ReLU(inplace=True)
