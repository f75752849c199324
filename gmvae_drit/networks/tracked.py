"""A mixture prior that follows the codes: fitted to recent codes by EM, and the posterior q(y | x) read off it.

Legend: B batch, D domains, K components, Z attribute size, M remembered codes.

Why: at the KL weights of translation nothing fixes the scale of the codes, so that a prior moved by gradients and the
codes can shrink together until no component is told from another. Here the frame of the codes is normalised, the prior
is the maximum-likelihood mixture of recent codes, and q(y | x) = p(y | z) at the encoded mean, its exact
responsibilities (VaDE, arXiv:1611.05148, eq. 16).
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from gmvae_drit.config import AttributeSettings, TrackingSettings
from gmvae_drit.networks.attribute import AttributeEncoder, AttributePosterior
from gmvae_drit.networks.prior import Prior

FIRST_ITERATIONS = 60  # of EM in each restart of the first fit
LEAST_WEIGHT = 0.02  # of a component, so that none is lost for ever
FRAME_MOMENTUM = 0.02  # share of a new batch in the running frame of the codes


class TrackedMixture(Prior):
    """p(y) p(z | y, d), N(0, I) until `fit`. Its tables are buffers: no gradient reaches them."""

    def __init__(self, settings: TrackingSettings, components: int, size: int, domains: int) -> None:
        super().__init__(components)
        self.settings = settings
        self.mean_DKZ: Tensor
        self.logvar_DKZ: Tensor
        self.weight_DK: Tensor
        self.memory_DMZ: Tensor
        self.count_D: Tensor
        self.register_buffer("mean_DKZ", torch.zeros(domains, components, size))
        self.register_buffer("logvar_DKZ", torch.zeros(domains, components, size))
        self.register_buffer("weight_DK", torch.full((domains, components), 1 / components))
        self.register_buffer("memory_DMZ", torch.zeros(domains, settings.memory, size))
        self.register_buffer("count_D", torch.zeros(domains, dtype=torch.int64))

    def forward(self, domain: Tensor) -> tuple[Tensor, Tensor]:
        """See `Prior.forward`."""
        return self.mean_DKZ[domain], self.logvar_DKZ[domain]

    def sample_component(self, domain: Tensor) -> Tensor:
        """y ~ p(y | d), (B,) int64."""
        return torch.multinomial(self.weight_DK[domain], 1).squeeze(1)

    def log_responsibilities(self, z_BZ: Tensor, domain: Tensor) -> Tensor:
        """log p(y | z, d), (B, K), up to a constant of each row."""
        return log_joint(z_BZ, self.mean_DKZ[domain], self.logvar_DKZ[domain], self.weight_DK[domain])

    @torch.no_grad()
    def remember(self, z_BZ: Tensor, domain: Tensor) -> None:
        """Keep the codes of all ranks, in place of the oldest ones."""
        z_BZ, domain = _of_all_ranks(z_BZ), _of_all_ranks(domain)
        D, M, _ = self.memory_DMZ.shape
        member_BD = F.one_hot(domain, D)
        rank_B = (member_BD.cumsum(0) - 1).gather(1, domain[:, None]).squeeze(1)  # among those of its domain
        self.memory_DMZ[domain, (self.count_D[domain] + rank_B) % M] = z_BZ.to(self.memory_DMZ.dtype)
        self.count_D += member_BD.sum(0)

    @torch.no_grad()
    def fit(self, generator: torch.Generator) -> None:
        """The best of some mixtures from k-means++ seeds (Arthur & Vassilvitskii 2007) for the remembered codes."""
        for d in range(len(self.mean_DKZ)):
            z_NZ = self._remembered(d)
            fits = [self._from_seeds(z_NZ, generator) for _ in range(self.settings.restarts)]
            _, self.mean_DKZ[d], self.logvar_DKZ[d], self.weight_DK[d] = max(fits, key=lambda fit: fit[0])

    @torch.no_grad()
    def follow(self) -> None:
        """One iteration of EM on the remembered codes."""
        for d in range(len(self.mean_DKZ)):
            now = self.mean_DKZ[d], self.logvar_DKZ[d], self.weight_DK[d]
            _, self.mean_DKZ[d], self.logvar_DKZ[d], self.weight_DK[d] = em_step(
                self._remembered(d), *now, self.settings.min_variance
            )

    def _remembered(self, d: int) -> Tensor:
        return self.memory_DMZ[d, : min(int(self.count_D[d]), self.settings.memory)]

    def _from_seeds(self, z_NZ: Tensor, generator: torch.Generator) -> tuple[float, Tensor, Tensor, Tensor]:
        K = self.components
        weights = torch.ones(len(z_NZ))
        seeds: list[Tensor] = []
        for _ in range(K):
            seeds.append(z_NZ[torch.multinomial(weights, 1, generator=generator)])
            nearest_N = torch.cdist(z_NZ, torch.cat(seeds)).amin(1).cpu()
            weights = nearest_N.square().clamp_min(1e-12)
        mean_KZ = torch.cat(seeds)
        logvar_KZ = z_NZ.var(0).clamp_min(self.settings.min_variance).log().expand(K, -1)
        weight_K = torch.full((K,), 1 / K, device=z_NZ.device)
        likelihood = -math.inf
        for _ in range(FIRST_ITERATIONS):
            likelihood, mean_KZ, logvar_KZ, weight_K = em_step(
                z_NZ, mean_KZ, logvar_KZ, weight_K, self.settings.min_variance
            )
        return likelihood, mean_KZ, logvar_KZ, weight_K


class TrackedAttributeEncoder(AttributeEncoder):
    """E_a with one Gaussian q(z | x, d) in a normalised frame, and q(y | x, d) by the responsibilities of the prior.

    The frame: each domain's codes have running mean 0 and running mean square 1, one scale for all dimensions, so that
    those without use are not blown up.
    """

    def __init__(self, settings: AttributeSettings, domains: int) -> None:
        super().__init__(settings, 1, domains)
        self.centre_DZ: Tensor
        self.scale_D: Tensor
        self.follows_D: Tensor
        self.register_buffer("centre_DZ", torch.zeros(domains, settings.size))
        self.register_buffer("scale_D", torch.ones(domains))
        self.register_buffer("follows_D", torch.zeros(domains, dtype=torch.int64))

    def read_off(self, prior: TrackedMixture) -> None:
        """Take q(y | x) from `prior`, which stays a module of the translator alone: a state dict holds it once."""
        self.__dict__["prior"] = prior

    def forward(self, image: Tensor, domain: Tensor) -> AttributePosterior:
        """image (B, 3, H, W) in [-1, 1], domain (B,) int64."""
        one = super().forward(image, domain)
        prior: TrackedMixture = self.__dict__["prior"]
        mean_BZ = (one.mean_BKZ[:, 0] - self.centre_DZ[domain]) / self.scale_D[domain, None]
        logits_BK = prior.log_responsibilities(mean_BZ.detach(), domain)
        K = prior.components
        return AttributePosterior(
            logits_BK, mean_BZ[:, None].expand(-1, K, -1), one.logvar_BKZ.expand(-1, K, -1)
        )

    @torch.no_grad()
    def follow(self, mean_BZ: Tensor, domain: Tensor) -> None:
        """Move the frame towards that of these codes, which lie in the present frame, of all ranks."""
        mean_BZ, domain = _of_all_ranks(mean_BZ), _of_all_ranks(domain)
        for d in domain.unique().tolist():
            z_NZ = mean_BZ[domain == d]
            raw_NZ = z_NZ * self.scale_D[d] + self.centre_DZ[d]
            centre_Z = torch.lerp(self.centre_DZ[d], raw_NZ.mean(0), FRAME_MOMENTUM)
            square = (raw_NZ - centre_Z).square().mean()
            self.scale_D[d] = (
                torch.lerp(self.scale_D[d].square(), square, FRAME_MOMENTUM).sqrt().clamp_min(1e-4)
            )
            self.centre_DZ[d] = centre_Z


def log_joint(z_BZ: Tensor, mean_BKZ: Tensor, logvar_BKZ: Tensor, weight_BK: Tensor) -> Tensor:
    """log p(y) N(z; mean_y, var_y), (B, K)."""
    square_BKZ = (z_BZ[:, None] - mean_BKZ).square() * (-logvar_BKZ).exp()
    return weight_BK.log() - 0.5 * (logvar_BKZ + math.log(2 * math.pi) + square_BKZ).sum(2)


def em_step(
    z_NZ: Tensor, mean_KZ: Tensor, logvar_KZ: Tensor, weight_K: Tensor, min_variance: float
) -> tuple[float, Tensor, Tensor, Tensor]:
    """One iteration of EM for a mixture of diagonal Gaussians (Bishop 2006, section 9.2.2).

    Returns the mean log-likelihood before it, and the new mean (K, Z), log-variance (K, Z) and weight (K,).
    `min_variance` is added to every variance; no weight falls below 0.02.
    """
    N = len(z_NZ)
    joint_NK = log_joint(z_NZ, mean_KZ.expand(N, -1, -1), logvar_KZ.expand(N, -1, -1), weight_K.expand(N, -1))
    share_NK = joint_NK.softmax(1)
    count_K = share_NK.sum(0).clamp_min(1e-6)
    new_mean_KZ = share_NK.T @ z_NZ / count_K[:, None]
    square_NKZ = (z_NZ[:, None] - new_mean_KZ).square()
    variance_KZ = (share_NK[:, :, None] * square_NKZ).sum(0) / count_K[:, None]
    weight_K = (count_K / N).clamp_min(LEAST_WEIGHT)
    likelihood = float(joint_NK.logsumexp(1).mean())
    return likelihood, new_mean_KZ, (variance_KZ + min_variance).log(), weight_K / weight_K.sum()


def _of_all_ranks(x: Tensor) -> Tensor:
    """The rows of x of every rank, in the order of ranks."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)
