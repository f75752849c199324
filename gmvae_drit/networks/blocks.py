"""Building blocks. Legend: B batch, C channels, H, W size, S modulation size."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_block(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Reflection-padded convolution, InstanceNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, padding_mode="reflect", bias=False),
        nn.InstanceNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """x + IN(conv(ReLU(IN(conv(x))))) with reflection padding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_block(channels, channels, 3),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        out: Tensor = x + self.body(x)
        return out


class AdaptiveInstanceNorm(nn.Module):
    """AdaIN (arXiv:1703.06868, eq. 8) with scale and shift read from a vector: (1 + gamma(s)) IN(x) + beta(s)."""

    def __init__(self, channels: int, style_size: int) -> None:
        super().__init__()
        self.affine = nn.Linear(style_size, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x (B, C, H, W), style (B, S) to (B, C, H, W)."""
        gamma, beta = self.affine(style)[:, :, None, None].chunk(2, dim=1)
        out: Tensor = F.instance_norm(x) * (1 + gamma) + beta
        return out


class NoiseInjection(nn.Module):
    """Adds Gaussian noise, one draw per pixel, times a learned weight per channel (arXiv:1812.04948, section 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        return x + self.weight.to(x.dtype) * x.new_empty(x.shape[0], 1, *x.shape[2:]).normal_()
