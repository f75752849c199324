"""Building blocks. Legend: B batch, C channels, H, W size, S modulation size."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def instance_norm(x: Tensor) -> Tensor:
    """(B, C, H, W) to the same shape, every channel of every sample with mean 0 and variance 1 (arXiv:1607.08022).

    On a CPU a GroupNorm of single channels takes half the time or less. On CUDA autocast would lift it to fp32.
    """
    return F.group_norm(x, x.shape[1]) if x.device.type == "cpu" else F.instance_norm(x)


class InstanceNorm(nn.Module):
    """`instance_norm` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return instance_norm(x)


WEIGHTS_PER_POSITION = 20_000
"""From this many weights for each position of its output, `WideConv2d` is a matrix product (measured: there or later
the two break even, at 0.1 to 8 million weights, in fp32 and bf16)."""


class WideConv2d(nn.Conv2d):
    """Conv2d for a layer that may have many weights and few positions, as the last ones of a discriminator.

    There a convolution on a CPU spends most of its time on bringing the weights into the layout that oneDNN wants. A
    matrix product of the unfolded patches takes them as they lie: a third of the time for 512 to 1024 channels at 4 x 4
    in fp32, a sixth in bf16. Elsewhere this is an ordinary convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        kernel, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        B, (H, W) = len(x), ((side + 2 * padding - kernel) // stride + 1 for side in x.shape[2:])
        weight = self.weight  # once: with spectral normalisation, each look is a power iteration
        if x.device.type != "cpu" or weight.numel() < WEIGHTS_PER_POSITION * B * H * W:
            return F.conv2d(x, weight, self.bias, stride, padding)
        patches = F.unfold(x, kernel, padding=padding, stride=stride)  # (B, C * kernel^2, H' * W')
        rows = patches.transpose(1, 2).flatten(0, 1)
        # Flat: for a product of three dimensions F.linear in bf16 is so slow that a step takes 1.4 times as long.
        out = F.linear(rows, weight.flatten(1), self.bias)
        return out.view(B, H, W, -1).permute(0, 3, 1, 2).contiguous()


def conv_block(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Reflection-padded convolution, InstanceNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, padding_mode="reflect", bias=False),
        InstanceNorm(),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """x + IN(conv(ReLU(IN(conv(x))))) with reflection padding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_block(channels, channels, 3),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False),
            InstanceNorm(),
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
        out: Tensor = instance_norm(x) * (1 + gamma) + beta
        return out


class NoiseInjection(nn.Module):
    """Adds Gaussian noise, one draw per pixel, times a learned weight per channel (arXiv:1812.04948, section 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        return x + self.weight.to(x.dtype) * x.new_empty(x.shape[0], 1, *x.shape[2:]).normal_()
