"""Kernel distance of two sets of features (KID). Legend: n, m images, F features."""

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1024


@dataclass(frozen=True)
class KernelDistance:
    """KID and how far it may be off."""

    value: float
    """Unbiased: about 0 for two sets of one distribution, and as often below as above."""
    standard_error: float
    """By the jackknife over the images of both sets; too large by a factor of up to sqrt 2 where the truth is 0."""


def kernel_distance(real: Tensor, fake: Tensor) -> KernelDistance:
    """KID of features (n, F) and (m, F): squared MMD with the kernel (x.y / F + 1)^3 (arXiv:1801.01401, section 4).

    The unbiased estimator over all pairs (Gretton et al. 2012, eq. 3), not the mean over random subsets that others
    report: that has the same expectation, and more variance. Raises ValueError below three images.
    """
    n, m = len(real), len(fake)
    if min(n, m) < 3:
        raise ValueError(f"KID needs at least 3 images of each set, and there are {n} and {m}")
    within_real, within_fake = _row_sums(real, real), _row_sums(fake, fake)
    within_real -= _diagonal(real)
    within_fake -= _diagonal(fake)
    across_real, across_fake = _row_sums(real, fake), _row_sums(fake, real)
    xx, yy, xy = within_real.sum(), within_fake.sum(), across_real.sum()
    value = xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)

    # The estimate without one image, for each: its rows leave the sums (Arvesen 1969 for two samples).
    without_real = (xx - 2 * within_real) / ((n - 1) * (n - 2)) + yy / (m * (m - 1))
    without_real -= 2 * (xy - across_real) / ((n - 1) * m)
    without_fake = xx / (n * (n - 1)) + (yy - 2 * within_fake) / ((m - 1) * (m - 2))
    without_fake -= 2 * (xy - across_fake) / (n * (m - 1))
    variance = (n - 1) * without_real.var(correction=0) + (m - 1) * without_fake.var(correction=0)
    return KernelDistance(float(value), float(variance.sqrt()))


def _row_sums(a: Tensor, b: Tensor) -> Tensor:
    """sum_j k(a_i, b_j), (n,)."""
    b = b.double()
    return torch.cat([(part.double() @ b.T / b.shape[1] + 1).pow(3).sum(1) for part in a.split(CHUNK)])


def _diagonal(a: Tensor) -> Tensor:
    return (a.double().square().mean(1) + 1).pow(3)
