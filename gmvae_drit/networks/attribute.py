"""Attribute encoder E_a: q(y | x, d), categorical, and q(z | x, y, d), Gaussian (arXiv:1611.02648, section 3.2).

Legend: B batch, K components, Z attribute size, D domains, F features, H, W image size.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvae_drit.config import AttributeSettings
from gmvae_drit.networks.blocks import WideConv2d


@dataclass(frozen=True)
class AttributePosterior:
    """q(y | x, d) and, for every component, q(z | x, y, d)."""

    logits_BK: Tensor
    mean_BKZ: Tensor
    logvar_BKZ: Tensor

    def sample(self, temperature: float, hard: bool) -> Tensor:
        """z (B, Z): y by Gumbel-softmax (arXiv:1611.01144), then z by reparametrisation of q(z | x, y)."""
        y_BK = F.gumbel_softmax(self.logits_BK, tau=temperature, hard=hard)
        mean_BZ = (y_BK[:, :, None] * self.mean_BKZ).sum(1)  # a matmul would autocast to half precision
        logvar_BZ = (y_BK[:, :, None] * self.logvar_BKZ).sum(1)
        return mean_BZ + (0.5 * logvar_BZ).exp() * torch.randn_like(mean_BZ)

    def component(self) -> Tensor:
        """The most probable component (B,), int64."""
        return self.logits_BK.argmax(1)

    def mean_of(self, component_B: Tensor) -> Tensor:
        """Mean (B, Z) of q(z | x, y = component)."""
        index = component_B[:, None, None].expand(-1, 1, self.mean_BKZ.shape[2])
        return self.mean_BKZ.gather(1, index).squeeze(1)

    def mode(self) -> Tensor:
        """z (B, Z) without noise: the mean of the most probable component."""
        return self.mean_of(self.component())


class AttributeEncoder(nn.Module):
    """E_a. No normalisation inside: it would take away the very colours that the attribute must hold."""

    def __init__(self, settings: AttributeSettings, components: int, domains: int) -> None:
        super().__init__()
        channels = [3 + domains]
        channels += [min(settings.width << i, settings.max_width) for i in range(settings.downsamplings)]
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise(channels):
            layers += [WideConv2d(c_in, c_out, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        width = channels[-1]
        self.component_head = nn.Linear(width, components)
        self.hidden = nn.Linear(width, width)
        self.component_bias = nn.Embedding(components, width)
        self.gaussian_head = nn.Linear(width, 2 * settings.size)
        self.domains = domains
        self.downsamplings = settings.downsamplings

    def forward(self, image: Tensor, domain: Tensor) -> AttributePosterior:
        """image (B, 3, H, W) in [-1, 1], domain (B,) int64."""
        B, _, H, W = image.shape
        one_hot = (
            F.one_hot(domain, self.domains).to(image.dtype)[:, :, None, None].expand(B, self.domains, H, W)
        )
        features_BF = self.features(torch.cat([image, one_hot], 1))
        # The first layer of an MLP on [features, one-hot y], for every y at once: W f + W' y + b.
        hidden_BKF = F.leaky_relu(self.hidden(features_BF)[:, None] + self.component_bias.weight, 0.2)
        mean_BKZ, logvar_BKZ = self.gaussian_head(hidden_BKF).float().chunk(2, dim=2)
        return AttributePosterior(self.component_head(features_BF).float(), mean_BKZ, logvar_BKZ.clamp(-8, 8))
