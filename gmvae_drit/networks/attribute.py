"""Attribute encoder E_a: q(y | x, d), categorical, and q(z | x, y, d), Gaussian (arXiv:1611.02648, section 3.2).

Legend: B batch, K components, Z attribute size, D domains, F features, H, W image size.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvae_drit.config import AttributeSettings
from gmvae_drit.mixture import log_densities
from gmvae_drit.networks.blocks import WideConv2d
from gmvae_drit.networks.prior import Prior

FIRST_LOGVAR = -3.0
"""Log-variance of q(z | x, y) before training: with more noise than signal at first, the generator would learn to
ignore z."""


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

    def mean(self) -> Tensor:
        """sum_y q(y | x) E[z | x, y], (B, Z)."""
        return (self.logits_BK.softmax(1)[:, :, None] * self.mean_BKZ).sum(1)

    def mode(self) -> Tensor:
        """z (B, Z) without noise: the mean of the most probable component."""
        return self.mean_of(self.component())


class Pooling(nn.Module):
    """The average of each channel over the image, and behind it the maximum if asked for."""

    def __init__(self, kind: Literal["average", "average_max"]) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C) or (B, 2 C)."""
        average = x.mean((2, 3))
        return average if self.kind == "average" else torch.cat([average, x.amax((2, 3))], 1)


class AttributeEncoder(nn.Module):
    """E_a. No normalisation inside: it would take away the very colours that the attribute must hold."""

    def __init__(self, settings: AttributeSettings, components: int, domains: int) -> None:
        super().__init__()
        channels = [3 + domains]
        channels += [min(settings.width << i, settings.max_width) for i in range(settings.downsamplings)]
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise(channels):
            layers += [WideConv2d(c_in, c_out, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        self.features = nn.Sequential(*layers, Pooling(settings.pooling))
        width = channels[-1]
        features = width * (2 if settings.pooling == "average_max" else 1)
        self.component_head = nn.Linear(features, components)
        self.hidden = nn.Linear(features, width)
        self.component_bias = nn.Embedding(components, width)
        self.gaussian_head = nn.Linear(width, 2 * settings.size)
        for layer in (*self.features, self.hidden):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0.2)
        with torch.no_grad():
            self.gaussian_head.bias[settings.size :] = FIRST_LOGVAR
        self.domains = domains
        self.downsamplings = settings.downsamplings

    def forward(self, image: Tensor, domain: Tensor) -> AttributePosterior:
        """image (B, 3, H, W) in [-1, 1], domain (B,) int64."""
        features_BF, mean_BKZ, logvar_BKZ = self.gaussians(image, domain)
        return AttributePosterior(self.component_head(features_BF).float(), mean_BKZ, logvar_BKZ)

    def gaussians(self, image: Tensor, domain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features (B, F), and mean and log-variance (B, K, Z) of q(z | x, y, d)."""
        B, _, H, W = image.shape
        one_hot = (
            F.one_hot(domain, self.domains).to(image.dtype)[:, :, None, None].expand(B, self.domains, H, W)
        )
        features_BF = self.features(torch.cat([image, one_hot], 1))
        # The first layer of an MLP on [features, one-hot y], for every y at once: W f + W' y + b.
        hidden_BKF = F.leaky_relu(self.hidden(features_BF)[:, None] + self.component_bias.weight, 0.2)
        mean_BKZ, logvar_BKZ = self.gaussian_head(hidden_BKF).float().chunk(2, dim=2)
        return features_BF, mean_BKZ, logvar_BKZ.clamp(-8, 8)


class ResponsibilityEncoder(AttributeEncoder):
    """E_a with one Gaussian q(z | x, d) for all components, and q(y | x, d) = p(y | z, d) at its mean, the
    responsibilities of the prior (VaDE, arXiv:1611.05148, eq. 16)."""

    def __init__(self, settings: AttributeSettings, domains: int) -> None:
        super().__init__(settings, 1, domains)
        del self.component_head  # DDP wants a gradient of every parameter

    def read_off(self, prior: Prior) -> None:
        """Take q(y | x) from `prior`, which stays a module of the translator alone: a state dict holds it once."""
        self.__dict__["prior"] = prior

    def forward(self, image: Tensor, domain: Tensor) -> AttributePosterior:
        """image (B, 3, H, W) in [-1, 1], domain (B,) int64. By q(y | x), gradients reach the code, not the prior."""
        _, mean_B1Z, logvar_B1Z = self.gaussians(image, domain)
        prior: Prior = self.__dict__["prior"]
        with torch.no_grad():
            (mean_BKZ, logvar_BKZ), shear_BKZZ = prior(domain), prior.shear(domain)
        logits_BK = log_densities(mean_B1Z[:, 0], mean_BKZ, logvar_BKZ, shear_BKZZ)
        K = prior.components
        return AttributePosterior(logits_BK, mean_B1Z.expand(-1, K, -1), logvar_B1Z.expand(-1, K, -1))
