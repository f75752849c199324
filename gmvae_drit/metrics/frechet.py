"""Frechet distance of two sets of features (FID). Legend: n, m images, F features."""

import torch
from torch import Tensor


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """FID of features (n, F) and (m, F): the Frechet distance of the Gaussians of their moments (arXiv:1706.08500).

    Raises ValueError unless both n and m exceed F: below, the covariances are singular and the figure says more about
    n than about the images. Use `kernel_distance` there. Even above, compare only figures of equal n and m.
    """
    if min(len(real), len(fake)) <= real.shape[1]:
        raise ValueError(
            f"FID with {real.shape[1]} features needs more than {real.shape[1]} images of each set, and there are "
            f"{len(real)} and {len(fake)}: use KID"
        )
    return gaussian_frechet_distance(*_moments(real), *_moments(fake))


def gaussian_frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), with means (F,) and covariances A, B (F, F) (eq. 6).

    tr (A B)^(1/2) is computed as tr (S B S)^(1/2) with S = A^(1/2), which is symmetric: its eigenvalues are real.
    """
    values, vectors = torch.linalg.eigh(cov_a)
    root_a = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp_min(0)
    spread = cov_a.trace() + cov_b.trace() - 2 * product.sqrt().sum()
    return float((mean_a - mean_b).square().sum() + spread)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    features = features.double()
    return features.mean(0), features.T.cov()
