"""Priors p(y) p(z | y, d) of the attribute. Legend: B batch, D domains, K components, Z attribute size."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from gmvae_drit.config import MixtureSettings

MIN_LOGVAR = -4.0
RATE_GAIN = 10.0
"""The table is stored divided by this, so that Adam moves it this many times faster than the weights: it has to keep
up with the codes it is the prior of."""


class Prior(nn.Module, ABC):
    """p(y) uniform over K components, p(z | y, d) Gaussian with a diagonal covariance."""

    def __init__(self, components: int) -> None:
        super().__init__()
        self.components = components

    @abstractmethod
    def forward(self, domain: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of every component of each sample's domain, both (B, K, Z)."""

    def sample_component(self, domain: Tensor) -> Tensor:
        """y ~ p(y), (B,) int64."""
        return torch.randint(self.components, domain.shape, device=domain.device)

    @torch.no_grad()
    def sample(self, domain: Tensor, component: Tensor, temperature: float = 1.0) -> Tensor:
        """z ~ p(z | y = component, d), (B, Z), without gradient. `temperature` scales the standard deviation."""
        mean_BKZ, logvar_BKZ = self(domain)
        rows = torch.arange(len(domain), device=domain.device)
        mean_BZ, logvar_BZ = mean_BKZ[rows, component], logvar_BKZ[rows, component]
        z_BZ: Tensor = mean_BZ + temperature * (0.5 * logvar_BZ).exp() * torch.randn_like(mean_BZ)
        return z_BZ


class StandardGaussian(Prior):
    """N(0, I) in every domain: one component, nothing learned (DRIT++)."""

    def __init__(self, size: int) -> None:
        super().__init__(components=1)
        self.size = size

    def forward(self, domain: Tensor) -> tuple[Tensor, Tensor]:
        """See `Prior.forward`."""
        zeros_BKZ = torch.zeros(len(domain), 1, self.size, device=domain.device)
        return zeros_BKZ, zeros_BKZ


class MixturePrior(Prior):
    """p(z | y, d) = N(mean[d, y], exp(logvar[d, y])), one learned table per domain."""

    def __init__(self, settings: MixtureSettings, size: int, domains: int) -> None:
        super().__init__(settings.components)
        shape = (domains, settings.components, size)
        self.raw_mean_DKZ = nn.Parameter(settings.init_scale / RATE_GAIN * torch.randn(shape))
        self.range = settings.max_logvar - MIN_LOGVAR
        start = min(
            -MIN_LOGVAR / self.range, 0.9
        )  # log-variance 0, or close to the upper bound where that is lower
        self.raw_logvar_DKZ = nn.Parameter(torch.full(shape, math.log(start / (1 - start)) / RATE_GAIN))

    def forward(self, domain: Tensor) -> tuple[Tensor, Tensor]:
        """See `Prior.forward`."""
        # A sigmoid, for a clamp has no gradient beyond its bounds and the variance would stay there.
        logvar_BKZ = MIN_LOGVAR + self.range * (RATE_GAIN * self.raw_logvar_DKZ[domain]).sigmoid()
        return RATE_GAIN * self.raw_mean_DKZ[domain], logvar_BKZ
