"""Bins of a distribution: which of its parts a model makes too often or too rarely.

Legend: n, m images, F features, b bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

IMAGES_PER_BIN = 20
Z_5_PERCENT = 1.959964
"""The two-sided 5 % quantile of N(0, 1)."""


@dataclass(frozen=True)
class BinComparison:
    """How far a set of images fills the bins of another one differently."""

    different: float
    """NDB / b: share of bins whose proportions differ at the 5 % level; about 0.05 for one distribution."""
    divergence: float
    """Jensen-Shannon divergence of the proportions, in nats, in [0, log 2]; above 0 for finite sets even so."""


class Bins:
    """k-means bins of reference features (n, F) (Richardson & Weiss 2018, arXiv:1805.12462, section 3)."""

    def __init__(self, reference: Tensor, seed: int, bins: int | None = None) -> None:
        """`bins` is one for every 20 images, at most 100 (the paper's), unless it is given."""
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        self.bins = bins or max(2, min(100, len(reference) // IMAGES_PER_BIN))
        if len(reference) < self.bins:
            raise ValueError(f"{self.bins} bins need at least as many images, and there are {len(reference)}")
        with threadpool_limits(
            1
        ):  # its threads wait for each other by spinning: ten times the time on a busy machine
            self._kmeans = KMeans(self.bins, n_init=4, random_state=seed).fit(reference.float().numpy())
        self.counts = torch.from_numpy(self._kmeans.labels_).bincount(minlength=self.bins)
        """Images of the reference in each bin, (b,)."""

    def count(self, features: Tensor) -> Tensor:
        """Images in each bin, (b,), of features (m, F); counts of batches add up to that of the whole."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            assigned = self._kmeans.predict(features.float().numpy())
        return torch.from_numpy(assigned).long().bincount(minlength=self.bins)

    def compare(self, counts: Tensor) -> BinComparison:
        """The reference against other `counts` (b,)."""
        return BinComparison(
            float(proportions_differ(self.counts, counts).double().mean()),
            jensen_shannon_divergence(self.counts, counts),
        )


def proportions_differ(a: Tensor, b: Tensor) -> Tensor:
    """Two-proportion z-test at the 5 % level of every bin of counts (b,), bool (b,) (the same paper, eq. 1).

    z = (p_a - p_b) / sqrt(p (1 - p) (1/n_a + 1/n_b)), p the proportion of both together. A bin that is empty in both
    does not differ.
    """
    n_a, n_b = a.sum(), b.sum()
    p = (a + b).double() / (n_a + n_b)
    error = (p * (1 - p) * (1 / n_a + 1 / n_b)).sqrt()
    return (a / n_a - b / n_b).abs() > Z_5_PERCENT * error


def jensen_shannon_divergence(a: Tensor, b: Tensor) -> float:
    """(KL(p_a || m) + KL(p_b || m)) / 2 with m = (p_a + p_b) / 2, in nats, of counts (b,)."""
    p_a, p_b = a.double() / a.sum(), b.double() / b.sum()
    middle = (p_a + p_b) / 2
    terms = [torch.special.xlogy(p, p) - torch.special.xlogy(p, middle) for p in (p_a, p_b)]
    return max(0.0, float((terms[0] + terms[1]).sum() / 2))
