"""Divergences of the Gaussian mixture, and how much its components are used.

Legend: B batch, D domains, K components, Z attribute size. All in nats.
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F


def gaussian_kl(
    mean_q: Tensor, logvar_q: Tensor, mean_p: Tensor, logvar_p: Tensor, shear_p: Tensor | None = None
) -> Tensor:
    """KL(N(mean_q, var_q) || N(mean_p, var_p)) of every dimension (arXiv:1312.6114, appendix B, for two Gaussians).

    = (logvar_p - logvar_q + (var_q + (mean_q - mean_p)^2) / var_p - 1) / 2
    With `shear_p` T (..., Z, Z), unit lower triangular, p has the covariance T^-1 diag(var_p) T^-T; the dimensions are
    then those of T (z - mean_p), and their sum is the divergence, for |T| = 1.
    """
    offset, var_q = mean_q - mean_p, logvar_q.exp()
    if shear_p is not None:
        offset, var_q = _times(shear_p, offset), _times(shear_p.square(), var_q)
    return 0.5 * (logvar_p - logvar_q + (var_q + offset.square()) * (-logvar_p).exp() - 1)


def expected_gaussian_kl(
    logits_BK: Tensor,
    q: tuple[Tensor, Tensor],
    p: tuple[Tensor, Tensor],
    free_bits: float,
    shear_p: Tensor | None = None,
) -> Tensor:
    """sum_j max(free_bits, E_{q(y)} KL_j(q(z|x,y) || p(z|y))), mean over the batch (arXiv:1611.02648, eq. 4, term 2).

    `q` and `p` are (mean, log-variance), each (B, K, Z); `shear_p` (B, K, Z, Z) as in `gaussian_kl`. The expectation
    over y is exact: all K are summed.
    """
    kl_BKZ = gaussian_kl(*q, *p, shear_p)
    kl_BZ = (logits_BK.softmax(1)[:, :, None] * kl_BKZ).sum(1)
    return kl_BZ.clamp_min(free_bits).sum(1).mean()


def log_densities(
    z_BZ: Tensor, mean_BKZ: Tensor, logvar_BKZ: Tensor, shear_BKZZ: Tensor | None = None
) -> Tensor:
    """log p(z | y) of every component, (B, K), up to one constant; `shear_BKZZ` as in `gaussian_kl`."""
    offset_BKZ = z_BZ[:, None] - mean_BKZ
    if shear_BKZZ is not None:
        offset_BKZ = _times(shear_BKZZ, offset_BKZ)
    return -0.5 * (logvar_BKZ + offset_BKZ.square() * (-logvar_BKZ).exp()).sum(2)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """(..., Z, Z) times (..., Z). By a sum, for a matmul would autocast to half precision."""
    return (matrix * vector[..., None, :]).sum(-1)


def categorical_entropy(logits_BK: Tensor) -> Tensor:
    """H(q(y | x)) of every sample, (B,)."""
    return -(logits_BK.softmax(1) * logits_BK.log_softmax(1)).sum(1)


def categorical_kl(logits_BK: Tensor) -> Tensor:
    """KL(q(y | x) || uniform) = log K - H(q(y | x)), mean over the batch (arXiv:1611.02648, eq. 4, term 3)."""
    return math.log(logits_BK.shape[1]) - categorical_entropy(logits_BK).mean()


def consistency(logits_BK: Tensor, view_logits_VBK: Tensor) -> Tensor:
    """KL(q(y | x) || q(y | x')) for deformed copies x' of x, mean over batch and views (arXiv:1702.08720, eq. 5).

    q(y | x) is held constant: the copies follow the image, or both would drift to what is easiest to agree on.
    """
    target_BK = logits_BK.detach().log_softmax(1)
    return (target_BK.exp() * (target_BK - view_logits_VBK.log_softmax(2))).sum(2).mean()


def relative_information(logits_BK: Tensor, domain: Tensor) -> Tensor:
    """I(x; y) / log K of the samples given, mean over the domains among them; 0 for one component, at most 1."""
    K = logits_BK.shape[1]
    if K == 1:
        return logits_BK.new_zeros(())
    parts = []
    for d in domain.unique():
        logits = logits_BK[domain == d]
        mean = logits.softmax(1).mean(0)
        parts.append(-torch.special.xlogy(mean, mean).sum() - categorical_entropy(logits).mean())
    return torch.stack(parts).mean() / math.log(K)


class ComponentUsage(nn.Module):
    """How the components of each domain are used: the running mean q(y) and the mutual information I(x; y).

    The mean over a small batch says little, so q(y) is a running mean over steps and ranks. Its gradient is that of
    the batch mean of all ranks: with DDP's averaging it equals the one of a single process on the joined batch.
    """

    def __init__(self, domains: int, components: int, momentum: float = 0.05) -> None:
        super().__init__()
        self.mean_DK: Tensor
        self.register_buffer("mean_DK", torch.full((domains, components), 1 / components))
        self.momentum = momentum

    def forward(self, logits_BK: Tensor, domain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """KL(mean q(y) || uniform), I(x; y) = H(mean q(y)) - mean H(q(y|x)), and each domain's weight, all (D,).

        The weights are equal for the domains in the batch, 0 for others, and sum to 1. Updates the running mean.
        Every rank's batch must hold the same domains, and one as often as the other.
        """
        D, K = self.mean_DK.shape
        member_BD = F.one_hot(domain, D).to(logits_BK.dtype)
        share_BD = member_BD / member_BD.sum(0).clamp_min(1)
        q_DK = (share_BD[:, :, None] * logits_BK.softmax(1)[:, None]).sum(0)  # a matmul would autocast
        entropy_D = (share_BD * categorical_entropy(logits_BK)[:, None]).sum(0)
        both = _mean_over_ranks(torch.cat([q_DK, entropy_D[:, None]], 1), len(logits_BK))
        q_DK, entropy_D = both[:, :K], both[:, K]

        present = member_BD.sum(0) > 0
        # A step with NaN is skipped by the engine; it must not stay in the running mean.
        now_DK = torch.where(q_DK.isfinite() & present[:, None], q_DK.detach(), self.mean_DK)
        running_DK = torch.lerp(self.mean_DK, now_DK, self.momentum)
        self.mean_DK.copy_(running_DK)
        mean_DK = running_DK + (q_DK - q_DK.detach())  # value of the running mean, gradient of the batch mean
        kl_D = (mean_DK * (mean_DK.clamp_min(1e-8) * K).log()).sum(1)
        information_D = math.log(K) - kl_D - entropy_D
        return kl_D, information_D, present.to(kl_D.dtype) / present.sum()

    def shares(self) -> Tensor:
        """The running mean q(y) of each domain now, (D, K), a copy. Rows sum to 1, for it starts uniform; (1 -
        momentum)^steps of that start is still in it."""
        return self.mean_DK.clone()


def _mean_over_ranks(x: Tensor, count: int) -> Tensor:
    """The mean of x over all ranks, each counted by its number of samples, with the gradient of the local x."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    total = torch.cat([x.detach().flatten() * count, x.new_tensor([count])])
    dist.all_reduce(total)
    mean = (total[:-1] / total[-1]).reshape(x.shape)
    return x + (mean - x.detach())
