"""A memory of recent codes, and the Gaussian mixture that a prior starts from: fitted to them by EM.

Legend: B batch, D domains, K components, Z attribute size, N codes, M remembered codes of each domain.
"""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

Components = tuple[Tensor, Tensor]
"""Means (K, Z) and covariances (K, Z, Z) of components that weigh the same."""


def fit_mixture(codes_NZ: Tensor, components: int, full: bool, restarts: int, seed: int) -> Components:
    """The likeliest of `restarts` mixtures, each from its own k-means++ seeds; covariances are diagonal unless `full`.

    Raises ValueError where there are fewer codes than components.
    """
    # "kmeans", scikit-learn's default, starts every restart at nearly the same place.
    return _em(codes_NZ, components, full, init_params="k-means++", n_init=restarts, random_state=seed)


def refit_mixture(codes_NZ: Tensor, mean_KZ: Tensor, precision_KZZ: Tensor, full: bool) -> Components:
    """The components of these means and inverse covariances after EM from there: each stays the one that it was."""
    K = len(mean_KZ)
    start = precision_KZZ if full else precision_KZZ.diagonal(dim1=1, dim2=2)
    return _em(
        codes_NZ,
        K,
        full,
        means_init=mean_KZ.cpu().numpy(),
        precisions_init=start.cpu().numpy(),
        weights_init=np.full(K, 1 / K),
    )


def _em(codes_NZ: Tensor, components: int, full: bool, **start: Any) -> Components:
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    z = codes_NZ.double().cpu().numpy()
    kind, floor = "full" if full else "diag", 1e-3 * max(float(z.var(0).mean()), 1e-6)
    fit = GaussianMixture(components, covariance_type=kind, max_iter=300, reg_covar=floor, **start)
    with threadpool_limits(1):
        fit.fit(z)
    mean_KZ, covariance = (torch.from_numpy(x).to(codes_NZ) for x in (fit.means_, fit.covariances_))
    return mean_KZ, covariance if full else torch.diag_embed(covariance)


class CodeMemory(nn.Module):
    """The most recent codes of each domain, those of all ranks on every rank."""

    def __init__(self, domains: int, codes: int, size: int) -> None:
        super().__init__()
        self.codes_DMZ: Tensor
        self.count_D: Tensor
        self.register_buffer("codes_DMZ", torch.zeros(domains, codes, size))
        self.register_buffer("count_D", torch.zeros(domains, dtype=torch.int64))

    @torch.no_grad()
    def add(self, z_BZ: Tensor, domain: Tensor) -> None:
        """Keep codes (B, Z) of each sample's domain (B,) in place of the oldest ones. Codes with NaN change nothing:
        the engine skips such a step."""
        z_BZ, domain = _of_all_ranks(z_BZ), _of_all_ranks(domain)
        D, M, _ = self.codes_DMZ.shape
        finite = z_BZ.isfinite().all()  # stays on the device: no wait for it in every step
        member_BD = F.one_hot(domain, D)
        rank_B = (member_BD.cumsum(0) - 1).gather(1, domain[:, None]).squeeze(1)  # among those of its domain
        place = domain, (self.count_D[domain] + rank_B) % M
        self.codes_DMZ[place] = torch.where(finite, z_BZ.to(self.codes_DMZ.dtype), self.codes_DMZ[place])
        self.count_D += member_BD.sum(0) * finite

    def of(self, domain: int) -> Tensor:
        """The codes of a domain, (N, Z), N at most M."""
        return self.codes_DMZ[domain, : int(self.count_D[domain])]


def on_every_rank(x: Tensor) -> Tensor:
    """The x of rank 0: machines need not agree in the last digits of a fit."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.broadcast(x, 0)
    return x


def _of_all_ranks(x: Tensor) -> Tensor:
    """The rows of x of every rank, in the order of ranks. Ranks may have different numbers of rows."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    mine = torch.tensor([len(x)], device=x.device)
    counts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, mine)
    rows = [int(count) for count in counts]
    padded = torch.cat([x, x.new_zeros(max(rows) - len(x), *x.shape[1:])])
    parts = [torch.empty_like(padded) for _ in rows]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])
