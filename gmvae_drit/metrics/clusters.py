"""Do clusters agree with labels? Legend: n images, K clusters, L labels, Z attribute size."""

import torch
from torch import Tensor


def contingency(cluster: Tensor, label: Tensor, clusters: int, labels: int) -> Tensor:
    """How often each cluster meets each label, (K, L) int64, from int64 (n,) each; tables of batches add up."""
    return (cluster * labels + label).bincount(minlength=clusters * labels).view(clusters, labels)


def normalized_mutual_information(table_KL: Tensor) -> float:
    """I(k; l) / ((H(k) + H(l)) / 2) of a contingency table, in [0, 1]; 0 where either side has one value only.

    By the arithmetic mean (Vinh et al. 2010, table 2). One-valued sides carry no information, whatever they share.
    """
    p_KL = table_KL.double() / table_KL.sum()
    h_k, h_l, h_both = (_entropy(p) for p in (p_KL.sum(1), p_KL.sum(0), p_KL))
    if min(h_k, h_l) < 1e-12:
        return 0.0
    return max(0.0, 2 * (h_k + h_l - h_both) / (h_k + h_l))


def cluster_accuracy(table_KL: Tensor) -> float:
    """Share of images whose cluster is that of their label, under the one-to-one matching that is best.

    The matching is the Hungarian algorithm's (Xie et al. 2016, arXiv:1511.06335, eq. 10). Clusters beyond the number
    of labels match nothing.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table_KL.numpy(), maximize=True)
    return int(table_KL[rows, columns].sum()) / int(table_KL.sum())


def clusters_of_codes(
    codes: Tensor, components: int, seed: int, restarts: int = 10, fitted_to: Tensor | None = None
) -> dict[str, Tensor]:
    """Clusters of codes (n, Z), fitted afterwards to them or to `fitted_to` (m, Z): int64 (n,) by the name of the
    method.

    The yardstick of a mixture trained end to end: the best of `restarts` by likelihood (or inertia) of a Gaussian
    mixture with full covariances, of one with diagonal covariances (as the prior has), and of k-means. Raises
    ValueError below two codes for each component.
    """
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    known = codes if fitted_to is None else fitted_to
    if len(known) < 2 * components:
        raise ValueError(
            f"{components} clusters need at least {2 * components} codes, and there are {len(known)}"
        )
    z = known.double().numpy()
    scale = float(z.var(0).mean()) or 1.0  # of a collapsed encoder, the floor below must stay above 0
    methods = {"k-means": KMeans(components, n_init=restarts, random_state=seed)}
    for covariance in ("diag", "full"):
        methods[f"gmm, {covariance}"] = GaussianMixture(
            components,
            covariance_type=covariance,
            init_params="k-means++",  # "kmeans", the default, starts every restart at nearly the same place
            n_init=restarts,
            max_iter=300,
            reg_covar=1e-6 * scale,
            random_state=seed,
        )
    with threadpool_limits(1):  # as in `Bins`
        return {
            name: torch.from_numpy(method.fit(z).predict(codes.double().numpy())).long()
            for name, method in methods.items()
        }


def _entropy(p: Tensor) -> float:
    return -float(torch.special.xlogy(p, p).sum())
