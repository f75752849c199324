"""The mixture that a prior starts from, and the memory of codes that it is fitted to."""

import pytest
import torch

from gmvae_drit.gaussian_mixture import CodeMemory, fit_mixture, refit_mixture

K, Z, N = 3, 2, 600
CENTRES = torch.tensor([[0.0, 2.0], [1.5, -1.0], [-2.0, -0.5]])
SLANT = torch.tensor([[0.5, 0.0], [0.4, 0.2]])


def clusters():
    """Points of three slanting Gaussians."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(K, (N,), generator=generator)
    return CENTRES[y] + torch.randn(N, Z, generator=generator) @ SLANT.T


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("full", [True, False])
def test_the_fit_finds_the_clusters_whatever_their_scale(full, scale):
    mean, covariance = fit_mixture(scale * clusters(), K, full, restarts=5, seed=0)
    distances = torch.cdist(mean / scale, CENTRES)
    assert distances.amin(1).max() < 0.1
    assert sorted(distances.argmin(1).tolist()) == list(range(K))
    planted = SLANT @ SLANT.T if full else torch.diag((SLANT @ SLANT.T).diagonal())
    torch.testing.assert_close(covariance / scale**2, planted.expand(K, Z, Z), atol=0.08, rtol=0)


@pytest.mark.parametrize("full", [True, False])
def test_a_mixture_that_starts_near_the_clusters_finds_them_in_its_own_order(full):
    shuffled = CENTRES[[2, 0, 1]]
    mean, covariance = refit_mixture(clusters(), shuffled + 0.3, torch.eye(Z).expand(K, Z, Z), full)
    fitted_mean, fitted_covariance = fit_mixture(clusters(), K, full, restarts=5, seed=0)
    order = torch.cdist(mean, fitted_mean).argmin(1)
    assert torch.cdist(mean, shuffled).argmin(1).tolist() == [0, 1, 2]
    torch.testing.assert_close(mean, fitted_mean[order], atol=0.02, rtol=0)
    torch.testing.assert_close(covariance, fitted_covariance[order], atol=0.02, rtol=0)


def test_the_fit_of_codes_that_are_all_one_is_finite():
    mean, covariance = fit_mixture(torch.ones(20, Z), K, True, restarts=2, seed=0)
    torch.testing.assert_close(mean, torch.ones(K, Z))
    assert torch.linalg.cholesky(covariance).isfinite().all()


def test_the_memory_holds_the_most_recent_codes_of_each_domain():
    memory = CodeMemory(domains=2, codes=5, size=1)
    domain = torch.tensor([0, 1, 0, 0])
    for step in range(4):
        memory.add(torch.tensor([[10.0 * step + i] for i in range(4)]), domain)
    memory.add(torch.full((4, 1), torch.nan), domain)
    assert sorted(memory.of(0)[:, 0].tolist()) == [22, 23, 30, 32, 33]
    assert sorted(memory.of(1)[:, 0].tolist()) == [1, 11, 21, 31]
