"""Priors p(y) p(z | y, d) of the attribute. Legend: B batch, D domains, K components, Z attribute size."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from gmvae_drit.config import MixtureSettings

RATE_GAIN = 10.0
"""The table is stored divided by this, so that Adam moves it this many times faster than the weights: it has to keep
up with the codes it is the prior of."""


class Prior(nn.Module, ABC):
    """p(y) uniform over K components, p(z | y, d) Gaussian."""

    def __init__(self, components: int) -> None:
        super().__init__()
        self.components = components

    @abstractmethod
    def forward(self, domain: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of every component of each sample's domain, both (B, K, Z).

        With `shear` T, the variances are those of T (z - mean), whose dimensions are independent.
        """

    def shear(self, domain: Tensor) -> Tensor | None:
        """T (B, K, Z, Z), unit lower triangular: the covariance is T^-1 diag(variance) T^-T. None for diagonal ones."""
        return None

    def sample_component(self, domain: Tensor) -> Tensor:
        """y ~ p(y), (B,) int64."""
        return torch.randint(self.components, domain.shape, device=domain.device)

    @torch.no_grad()
    def sample(self, domain: Tensor, component: Tensor, temperature: float = 1.0) -> Tensor:
        """z ~ p(z | y = component, d), (B, Z), without gradient. `temperature` scales the standard deviation."""
        mean_BKZ, _ = self(domain)
        return self.place(domain, component, temperature * torch.randn_like(mean_BKZ[:, 0]))

    @torch.no_grad()
    def place(self, domain: Tensor, component: Tensor, noise_BZ: Tensor) -> Tensor:
        """z (B, Z) of p(z | y = component, d) for standard normal noise (B, Z)."""
        mean_BKZ, logvar_BKZ = self(domain)
        rows = torch.arange(len(domain), device=domain.device)
        offset_BZ = (0.5 * logvar_BKZ[rows, component]).exp() * noise_BZ
        shear_BKZZ = self.shear(domain)
        if shear_BKZZ is not None:
            offset_BZ = _unshear(shear_BKZZ[rows, component], offset_BZ[..., None]).squeeze(-1)
        z_BZ: Tensor = mean_BKZ[rows, component] + offset_BZ
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
    """One learned table of components per domain. With `warmup`, each is N(0, I) until `set_components`."""

    def __init__(self, settings: MixtureSettings, size: int, domains: int) -> None:
        super().__init__(settings.components)
        shape = (domains, settings.components, size)
        self.raw_mean_DKZ = nn.Parameter(settings.init_scale / RATE_GAIN * torch.randn(shape))
        self.min_logvar, self.range = settings.min_logvar, settings.max_logvar - settings.min_logvar
        # Log-variance 0, or close to the upper bound where that is lower.
        self.raw_logvar_DKZ = nn.Parameter(self._raw_logvar(torch.zeros(shape)))
        full = settings.covariance == "full"
        self.raw_shear_DKZZ = nn.Parameter(torch.zeros(*shape, size)) if full else None
        self.started: Tensor
        self.centre_DZ: Tensor
        self.square_D: Tensor
        self.warms_up = settings.warmup is not None
        if self.warms_up:
            self.register_buffer("started", torch.tensor(False))
            self.register_buffer("centre_DZ", torch.zeros(domains, size))
            self.register_buffer("square_D", torch.ones(domains))

    def forward(self, domain: Tensor) -> tuple[Tensor, Tensor]:
        """See `Prior.forward`."""
        mean_DKZ, logvar_DKZ, shear_DKZZ = self._table()
        if self.warms_up:
            mean_DKZ, logvar_DKZ = rescaled(mean_DKZ, logvar_DKZ, shear_DKZZ, self.centre_DZ, self.square_D)
            mean_DKZ, logvar_DKZ = (torch.where(self.started, x, 0.0) for x in (mean_DKZ, logvar_DKZ))
        return mean_DKZ[domain], logvar_DKZ[domain]

    def shear(self, domain: Tensor) -> Tensor | None:
        """See `Prior.shear`."""
        if self.raw_shear_DKZZ is None:
            return None
        Z = self.raw_shear_DKZZ.shape[-1]
        eye = torch.eye(Z, device=domain.device)
        return eye + (RATE_GAIN * self.raw_shear_DKZZ).tril(-1)[domain]

    @torch.no_grad()
    def components_of(self, domain: int) -> tuple[Tensor, Tensor]:
        """Means (K, Z) and inverse covariances (K, Z, Z) of a domain, in float64: narrow components are nearly
        singular."""
        d = torch.tensor([domain], device=self.raw_mean_DKZ.device)
        mean_KZ, logvar_KZ = (x[0].double() for x in self(d))
        shear = self.shear(d)
        precision_KZZ = torch.diag_embed((-logvar_KZ).exp())
        if shear is not None:
            shear_KZZ = shear[0].double()
            precision_KZZ = shear_KZZ.mT @ precision_KZZ @ shear_KZZ
        return mean_KZ, (precision_KZZ + precision_KZZ.mT) / 2

    @torch.no_grad()
    def set_components(self, mean_DKZ: Tensor, covariance_DKZZ: Tensor) -> None:
        """Take these components, (D, K, Z) and (D, K, Z, Z), their variances kept within the bounds; ends the warm-up.

        From then on each domain's mixture keeps the mean and the mean square that it has here, while its components
        move: prior and codes could shrink together otherwise, which costs no KL.
        """
        root_DKZZ = torch.linalg.cholesky(covariance_DKZZ)
        deviation_DKZ = root_DKZZ.diagonal(dim1=-2, dim2=-1)
        self.raw_mean_DKZ.copy_(mean_DKZ / RATE_GAIN)
        self.raw_logvar_DKZ.copy_(self._raw_logvar(2 * deviation_DKZ.log()))
        if self.raw_shear_DKZZ is not None:
            eye = torch.eye(mean_DKZ.shape[-1]).to(mean_DKZ)
            shear_DKZZ = _unshear(root_DKZZ / deviation_DKZ[..., None, :], eye.expand_as(root_DKZZ))
            self.raw_shear_DKZZ.copy_(shear_DKZZ / RATE_GAIN)
        centre_DZ, square_D = _moments(*self._table())
        self.centre_DZ.copy_(centre_DZ)
        self.square_D.copy_(square_D)
        self.started.fill_(True)

    def _table(self) -> tuple[Tensor, Tensor, Tensor | None]:
        # A sigmoid, for a clamp has no gradient beyond its bounds and the variance would stay there.
        logvar_DKZ = self.min_logvar + self.range * (RATE_GAIN * self.raw_logvar_DKZ).sigmoid()
        every_domain = torch.arange(len(logvar_DKZ), device=logvar_DKZ.device)
        return RATE_GAIN * self.raw_mean_DKZ, logvar_DKZ, self.shear(every_domain)

    def _raw_logvar(self, logvar: Tensor) -> Tensor:
        share = ((logvar - self.min_logvar) / self.range).clamp(0.02, 0.9)
        return share.logit() / RATE_GAIN


def rescaled(
    mean_DKZ: Tensor, logvar_DKZ: Tensor, shear_DKZZ: Tensor | None, centre_DZ: Tensor, square_D: Tensor
) -> tuple[Tensor, Tensor]:
    """Means and log-variances of each domain's mixture, shifted to `centre_DZ` and scaled, by one factor for all
    dimensions, to the mean square `square_D` about it."""
    now_DZ, now_D = _moments(mean_DKZ, logvar_DKZ, shear_DKZZ)
    factor_D11 = (square_D / now_D)[:, None, None]
    mean_DKZ = centre_DZ[:, None] + factor_D11.sqrt() * (mean_DKZ - now_DZ[:, None])
    return mean_DKZ, logvar_DKZ + factor_D11.log()


def _moments(mean_DKZ: Tensor, logvar_DKZ: Tensor, shear_DKZZ: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean (D, Z) of each mixture, and its mean square about it over all dimensions (D,)."""
    variance_DKZ = logvar_DKZ.exp()
    if shear_DKZZ is not None:
        eye = torch.eye(mean_DKZ.shape[-1], device=mean_DKZ.device, dtype=mean_DKZ.dtype)
        root_DKZZ = _unshear(shear_DKZZ, eye.expand_as(shear_DKZZ))
        variance_DKZ = (root_DKZZ.square() * variance_DKZ[..., None, :]).sum(-1)
    centre_DZ = mean_DKZ.mean(1)
    return centre_DZ, ((mean_DKZ - centre_DZ[:, None]).square() + variance_DKZ).mean((1, 2))


def _unshear(shear: Tensor, x: Tensor) -> Tensor:
    """shear^-1 x."""
    solved: Tensor = torch.linalg.solve_triangular(shear, x, upper=False, unitriangular=True)
    return solved
