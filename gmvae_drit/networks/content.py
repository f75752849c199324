"""Content: the encoder E_c shared by all domains, and the discriminator that must not tell domains from its codes.

Legend: B batch, C channels, H, W image size, h, w code size, D domains.
"""

import torch
from torch import Tensor, nn

from gmvae_drit.config import ContentDiscriminatorSettings, ContentSettings
from gmvae_drit.networks.blocks import ResidualBlock, conv_block


class ContentEncoder(nn.Module):
    """E_c: image to content code (DRIT++, arXiv:1905.01270, section 3.1)."""

    def __init__(self, settings: ContentSettings) -> None:
        super().__init__()
        width = settings.width
        layers: list[nn.Module] = [conv_block(3, width, settings.kernel)]
        for _ in range(settings.downsamplings):
            wider = min(2 * width, settings.max_width)
            layers.append(conv_block(width, wider, 3, stride=2))
            width = wider
        layers.extend(ResidualBlock(width) for _ in range(settings.residual_blocks))
        self.layers = nn.Sequential(*layers)
        self.channels = width
        self.noise = settings.noise
        self.jitter = settings.jitter

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to the code (B, C, h, w). Jitter and noise act in training mode only."""
        if self.training:
            # Half a grey level of noise: on a blank image, InstanceNorm would blow up the gradient of every layer.
            image = image + torch.randn_like(image) / 255
        if self.training and self.jitter:
            image = color_jitter(image, self.jitter)
        code: Tensor = self.layers(image)
        if self.training and self.noise:
            code = code + self.noise * torch.randn_like(code)
        return code


def color_jitter(image: Tensor, strength: float) -> Tensor:
    """Random colours for each image and channel: sign and gain, offset, and a blend towards grey.

    (B, 3, H, W) in [-1, 1] to the same shape, with values beyond [-1, 1] possible. `strength` in [0, 1] scales the
    range of every change; the sign is turned with probability strength / 2.
    """
    B = image.shape[0]
    uniform = torch.rand(5, B, 3, 1, 1, device=image.device)
    gain = 1 + strength * (uniform[0] - 0.5)  # (B, 3, 1, 1)
    sign = torch.where(uniform[1, :, :1] < strength / 2, -1.0, 1.0)  # one for the three channels
    offset = strength * (uniform[2] - 0.5)
    grey = strength * uniform[3, :, :1]  # (B, 1, 1, 1)
    image = image + grey * (image.mean(1, keepdim=True) - image)
    return sign * gain * image + offset


class ContentDiscriminator(nn.Module):
    """Domain logits of a content code, for codes from 4 x 4 up (images from 32 px with two down-samplings)."""

    def __init__(self, settings: ContentDiscriminatorSettings, channels: int, domains: int) -> None:
        super().__init__()
        width = settings.width
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, width, 3, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, domains),
        )

    def forward(self, code: Tensor) -> Tensor:
        """(B, C, h, w) to logits (B, D)."""
        logits: Tensor = self.layers(code)
        return logits
