"""Agreement of clusters and labels, against scikit-learn and brute force."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from gmvae_drit import metrics

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=30)


@given(PAIRS)
def test_nmi_is_scikit_learns(pairs):
    cluster, label = (torch.tensor(side) for side in zip(*pairs, strict=True))
    value = metrics.normalized_mutual_information(metrics.contingency(cluster, label, 4, 3))
    if len(cluster.unique()) == 1 or len(label.unique()) == 1:
        assert value == 0  # scikit-learn says 1 where both have one value: a collapse must not look perfect
    else:
        assert value == pytest.approx(normalized_mutual_info_score(label, cluster), abs=1e-9)


@given(PAIRS)
def test_accuracy_is_that_of_the_best_matching(pairs):
    cluster, label = (torch.tensor(side) for side in zip(*pairs, strict=True))
    table = metrics.contingency(cluster, label, 4, 3)
    best = max(
        sum(int(table[k, j]) for j, k in enumerate(rows)) for rows in itertools.permutations(range(4), 3)
    )
    assert metrics.cluster_accuracy(table) == pytest.approx(best / len(pairs))


@given(PAIRS, st.integers(1, 5), st.permutations(range(4)))
def test_tables_of_batches_add_up_and_names_do_not_matter(pairs, batch, renamed):
    cluster, label = (torch.tensor(side) for side in zip(*pairs, strict=True))
    table = metrics.contingency(cluster, label, 4, 3)
    parts = zip(cluster.split(batch), label.split(batch), strict=True)
    assert torch.equal(sum(metrics.contingency(c, j, 4, 3) for c, j in parts), table)
    other = metrics.contingency(torch.tensor(renamed)[cluster], label, 4, 3)
    for figure in (metrics.normalized_mutual_information, metrics.cluster_accuracy):
        assert figure(other) == pytest.approx(figure(table))


def blobs(centres, n=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % len(centres)
    return torch.tensor(centres)[label] + 0.3 * torch.randn(n, 2, generator=generator), label


def test_planted_clusters_are_found_by_every_method():
    codes, label = blobs([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    found = metrics.clusters_of_codes(codes, 3, seed=0)
    assert list(found) == ["k-means", "gmm, diag", "gmm, full"]
    for cluster in found.values():
        table = metrics.contingency(cluster, label, 3, 3)
        assert metrics.normalized_mutual_information(table) == pytest.approx(1)
        assert metrics.cluster_accuracy(table) == 1


def test_full_covariances_find_oblique_clusters():
    """Two parallel needles that k-means cuts across."""
    codes, label = blobs([[0.0, 0.0], [0.0, 2.4]], n=400)
    codes = codes * torch.tensor([4.0, 0.5]) @ torch.tensor([[0.8, 0.6], [-0.6, 0.8]])
    found = metrics.clusters_of_codes(codes, 2, seed=0)
    accuracy = {
        name: metrics.cluster_accuracy(metrics.contingency(c, label, 2, 2)) for name, c in found.items()
    }
    assert accuracy["gmm, full"] > 0.95 > accuracy["k-means"]


def test_one_component_and_collapsed_codes():
    codes, _ = blobs([[0.0, 0.0]])
    assert all(c.unique().tolist() == [0] for c in metrics.clusters_of_codes(codes, 1, seed=0).values())
    with pytest.warns(match="distinct clusters"):
        found = metrics.clusters_of_codes(torch.ones(20, 2), 2, seed=0)
    assert all(len(c) == 20 for c in found.values())


def test_too_few_codes_are_refused():
    with pytest.raises(ValueError, match="4 clusters need at least 8 codes, and there are 7"):
        metrics.clusters_of_codes(torch.randn(7, 2), 4, seed=0)
