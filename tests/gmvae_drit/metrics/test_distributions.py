"""FID, KID, NDB and JSD, nearest neighbours and means: against torch-fidelity, SciPy and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from gmvae_drit import metrics
from gmvae_drit.metrics.bins import jensen_shannon_divergence, proportions_differ
from gmvae_drit.metrics.frechet import gaussian_frechet_distance


def features(n, size=6, shift=0.0, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return shift + scale * torch.randn(n, size, generator=generator)


def test_fid_of_known_gaussians():
    """Diagonal covariances commute: |m_a - m_b|^2 + sum (s_a - s_b)^2."""
    mean_a, mean_b = torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([1.0, 1.0, 0.0]).double()
    sd_a, sd_b = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 1.0, 0.5]).double()
    value = gaussian_frechet_distance(mean_a, sd_a.square().diag(), mean_b, sd_b.square().diag())
    assert value == pytest.approx(5 + 4 + 1)


def test_fid_of_covariances_that_do_not_commute():
    rng = np.random.default_rng(0)
    a, b = (m @ m.T for m in rng.normal(size=(2, 5, 5)))
    expected = np.trace(a + b - 2 * sqrtm(a @ b)).real
    zero = torch.zeros(5).double()
    value = gaussian_frechet_distance(zero, torch.from_numpy(a), zero, torch.from_numpy(b))
    assert value == pytest.approx(expected, rel=1e-6)


def test_fid_of_samples_is_torch_fidelitys():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    a, b = features(80), features(60, shift=0.3, scale=1.5, seed=1)
    statistics = [fid_features_to_statistics(x) for x in (a, b)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_fid_of_a_set_and_itself_is_zero_in_any_order():
    a = features(40)
    assert metrics.frechet_distance(a, a.flip(0)) == pytest.approx(0, abs=1e-9)


def test_fid_of_too_few_images_is_refused():
    with pytest.raises(
        ValueError, match="needs more than 6 images of each set, and there are 80 and 6: use KID"
    ):
        metrics.frechet_distance(features(80), features(6))


def test_kid_is_torch_fidelitys():
    """With one subset that is the whole set, its estimate is over all pairs as well."""
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    a, b = features(50), features(50, shift=0.2, seed=1)
    expected = kid_features_to_metric(a, b, kid_subsets=1, kid_subset_size=50, verbose=False)
    assert metrics.kernel_distance(a, b).value == pytest.approx(expected[KEY_METRIC_KID_MEAN], rel=1e-5)


def test_kid_of_unequal_sets_by_hand():
    a, b = features(7).double(), features(4, shift=1.0, seed=1).double()

    def kernel(x, y):
        return (x @ y / 6 + 1) ** 3

    def mean_within(rows):
        pairs = list(itertools.permutations(rows, 2))
        return sum(kernel(x, y) for x, y in pairs) / len(pairs)

    across = sum(kernel(x, y) for x in a for y in b) / 28
    assert metrics.kernel_distance(a, b).value == pytest.approx(
        float(mean_within(a) + mean_within(b) - 2 * across)
    )


def test_kid_error_is_the_jackknifes():
    a, b = features(6).double(), features(5, shift=1.0, seed=1).double()

    def without(x):
        return [torch.cat([x[:i], x[i + 1 :]]) for i in range(len(x))]

    parts = [
        np.array([metrics.kernel_distance(x, b).value for x in without(a)]),
        np.array([metrics.kernel_distance(a, x).value for x in without(b)]),
    ]
    variance = sum((len(p) - 1) * p.var() for p in parts)
    assert metrics.kernel_distance(a, b).standard_error == pytest.approx(math.sqrt(variance))


def test_kid_is_unbiased_and_its_error_is_that_of_repetitions():
    same = [
        metrics.kernel_distance(features(40, seed=i), features(40, seed=1000 + i)).value for i in range(200)
    ]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(200)
    far = [
        metrics.kernel_distance(features(40, seed=i), features(40, shift=0.5, seed=1000 + i))
        for i in range(200)
    ]
    spread, stated = np.std([d.value for d in far]), np.mean([d.standard_error for d in far])
    assert stated == pytest.approx(spread, rel=0.2)


def test_kid_does_not_depend_on_the_order_or_the_side():
    a, b = features(30), features(20, shift=0.3, seed=1)
    there, back = metrics.kernel_distance(a, b), metrics.kernel_distance(b.flip(0), a.flip(0))
    assert there.value == pytest.approx(back.value)
    assert there.standard_error == pytest.approx(back.standard_error)


def test_kid_of_a_set_and_itself_is_about_zero():
    """It vanishes as 1/n, from below: the pairs of an image with itself count across the sets and not within."""
    for n in (100, 1000):
        assert -30 / n < metrics.kernel_distance(features(n), features(n)).value < 0


def test_kid_of_two_images_is_refused():
    with pytest.raises(ValueError, match="at least 3 images"):
        metrics.kernel_distance(features(2), features(9))


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=2, max_size=8).filter(
        lambda bins: all(sum(side) > 0 for side in zip(*bins, strict=True))
    )
)
def test_bins_against_scipy(pairs):
    a, b = (torch.tensor(side) for side in zip(*pairs, strict=True))
    divergence = jensenshannon(a.numpy() / a.sum().item(), b.numpy() / b.sum().item()) ** 2
    assert jensen_shannon_divergence(a, b) == pytest.approx(divergence, abs=1e-7)
    for i, differs in enumerate(proportions_differ(a, b).tolist()):
        table = np.array([[a[i], a.sum() - a[i]], [b[i], b.sum() - b[i]]])
        if not table.sum(0).all():  # all or nothing in this bin on both sides
            assert not differs
            continue
        # The square of z is the chi-squared statistic of the 2 x 2 table.
        assert differs == (chi2_contingency(table, correction=False).pvalue < 0.05)


def test_bins_of_one_distribution_and_of_a_lost_mode():
    """Two blobs: a fresh sample of both fills the bins alike, a sample of one blob leaves half of them empty."""

    def blobs(n, seed):
        return torch.cat([features(n, shift=-5.0, seed=seed), features(n, shift=5.0, seed=seed + 1)])

    bins = metrics.Bins(blobs(400, 0), seed=0)
    assert bins.bins == 40
    alike = bins.compare(bins.count(blobs(400, 2)))
    lost = bins.compare(bins.count(features(800, shift=5.0, seed=4)))
    assert alike.different < 0.2
    assert lost.different > 0.9
    assert alike.divergence < 0.05 < 0.2 < lost.divergence < math.log(2)
    same = bins.compare(bins.counts)
    assert (same.different, same.divergence) == (0, 0)


def test_counts_of_batches_add_up():
    bins, x = metrics.Bins(features(100), seed=0), features(30, seed=1)
    assert torch.equal(sum(bins.count(part) for part in x.split(7)), bins.count(x))


def test_bins_are_a_function_of_the_seed():
    first, second = (metrics.Bins(features(100), seed=3) for _ in range(2))
    assert torch.equal(first.counts, second.counts)


def test_more_bins_than_images_are_refused():
    with pytest.raises(ValueError, match="9 bins need at least as many images, and there are 4"):
        metrics.Bins(features(4), seed=0, bins=9)


def test_nearest_against_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    query, reference = features(5), features(50, seed=1)
    expected = NearestNeighbors(n_neighbors=3).fit(reference.numpy()).kneighbors(query.numpy())[1]
    assert metrics.nearest(query, reference, 3).tolist() == expected.tolist()


@given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=12).flatmap(
        lambda values: st.tuples(st.just(values), st.integers(1, len(values)))
    )
)
def test_a_mean_is_the_same_whatever_the_batches(case):
    values, batch = case
    mean = metrics.Mean()
    for part in torch.tensor(values, dtype=torch.float64).split(batch):
        mean.update(part)
    average = mean.compute()
    assert average.value == pytest.approx(np.mean(values), abs=1e-12)
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0
    assert average.standard_error == pytest.approx(error, abs=1e-12)
    assert average.n == len(values)


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no images"):
        metrics.Mean().compute()
