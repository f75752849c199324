"""The mixture that follows the codes: EM and responsibilities against references, its frame, its state."""

import copy

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch.distributions import Independent, Normal

from gmvae_drit.config import AttributeSettings, TrackingSettings
from gmvae_drit.model import Progress
from gmvae_drit.networks.tracked import TrackedAttributeEncoder, TrackedMixture, em_step, log_joint

from .tiny import model

K, Z, N = 3, 2, 600
CENTRES = torch.tensor([[0.0, 2.0], [1.5, -1.0], [-2.0, -0.5]])


def clusters(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points around three centres, and which centre."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(K, (N,), generator=generator)
    return CENTRES[y] + 0.4 * torch.randn(N, Z, generator=generator), y


def remembered(z: torch.Tensor, **changes: float) -> TrackedMixture:
    prior = TrackedMixture(TrackingSettings(memory=N, **changes), K, Z, domains=2)
    prior.remember(z, torch.ones(len(z), dtype=torch.int64))
    prior.remember(z + 5, torch.zeros(len(z), dtype=torch.int64))
    return prior


def test_em_equals_scikit_learns() -> None:
    z, _ = clusters()
    start = CENTRES + 0.5
    ours = start, torch.zeros(K, Z), torch.full((K,), 1 / K)
    for _ in range(7):
        _, *ours = em_step(z.double(), *(part.double() for part in ours), 1e-6)
    theirs = GaussianMixture(
        K,
        covariance_type="diag",
        means_init=start.numpy(),
        precisions_init=np.ones((K, Z)),
        weights_init=np.full(K, 1 / K),
        max_iter=7,
        tol=0,
        reg_covar=1e-6,
    )
    with pytest.warns(UserWarning, match="did not converge"):
        theirs.fit(z.double().numpy())
    np.testing.assert_allclose(ours[0], theirs.means_, rtol=1e-6)
    np.testing.assert_allclose(ours[1].exp(), theirs.covariances_, rtol=1e-6)
    np.testing.assert_allclose(ours[2], theirs.weights_, rtol=1e-6)


def test_responsibilities_are_the_posterior() -> None:
    z, _ = clusters()
    mean, logvar, weight = (
        CENTRES.double(),
        torch.randn(K, Z).double(),
        torch.tensor([0.2, 0.5, 0.3]).double(),
    )
    components = Independent(Normal(mean, (0.5 * logvar).exp()), 1)
    expected = weight.log() + components.log_prob(z.double()[:, None])
    ours = log_joint(z.double(), mean.expand(N, -1, -1), logvar.expand(N, -1, -1), weight.expand(N, -1))
    torch.testing.assert_close(ours, expected)


def test_the_fit_finds_the_clusters_of_each_domain() -> None:
    z, y = clusters()
    prior = remembered(z)
    prior.fit(torch.Generator().manual_seed(0))
    for d, shift in ((1, 0.0), (0, 5.0)):
        distances = torch.cdist(prior.mean_DKZ[d] - shift, CENTRES)
        assert distances.amin(1).max() < 0.1
        assert len(set(distances.argmin(1).tolist())) == K
        found = prior.log_responsibilities(z + shift, torch.full((N,), d)).argmax(1)
        assert (distances.argmin(1)[found] == y).float().mean() > 0.98
        assert (prior.logvar_DKZ[d].exp() - 0.16 - 0.02).abs().max() < 0.05


def test_draws_come_as_often_as_the_components_weigh() -> None:
    prior = remembered(clusters()[0])
    prior.weight_DK[1] = torch.tensor([0.1, 0.3, 0.6])
    torch.manual_seed(0)
    drawn = prior.sample_component(torch.ones(20_000, dtype=torch.int64)).bincount() / 20_000
    torch.testing.assert_close(drawn, prior.weight_DK[1], atol=0.012, rtol=0)


def test_the_memory_holds_the_most_recent_codes_of_each_domain() -> None:
    prior = TrackedMixture(TrackingSettings(memory=5), K, 1, domains=2)
    for step in range(4):
        domain = torch.tensor([0, 1, 0, 0])
        prior.remember(torch.tensor([[10.0 * step + i] for i in range(4)]), domain)
    assert sorted(prior.memory_DMZ[0, :, 0].tolist()) == [22, 23, 30, 32, 33]
    assert sorted(prior.memory_DMZ[1, :4, 0].tolist()) == [1, 11, 21, 31]
    assert prior.count_D.tolist() == [12, 4]


def test_the_frame_makes_codes_of_mean_zero_and_mean_square_one() -> None:
    encoder = TrackedAttributeEncoder(AttributeSettings(size=Z, width=4, downsamplings=1), domains=2)
    raw = 0.01 * clusters()[0] + 3.0
    domain = torch.ones(N, dtype=torch.int64)
    for _ in range(1000):
        now = (raw - encoder.centre_DZ[1]) / encoder.scale_D[1]
        encoder.follow(now, domain)
    assert now.mean(0).abs().max() < 0.01
    assert now.square().mean().item() == pytest.approx(1, abs=0.01)
    assert encoder.scale_D[0] == 1  # the other domain was not seen


def tracked_model(**tracking: float) -> torch.nn.Module:
    few = {"warmup": 0.5, "memory": 16, "every": 1, "restarts": 2, **tracking}
    return model(mixture={"tracking": few})


def train(trained: torch.nn.Module, steps: range, total: int = 8) -> None:
    optimizers = trained.optimizers()

    def update(name: str, loss: torch.Tensor, clip_norm: float | None = None) -> None:
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    for step in steps:
        torch.manual_seed(step)
        batch = {
            "image": torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8),
            "domain": torch.arange(2).repeat_interleave(4),
        }
        trained.train_step(trained.networks(), batch, update, Progress(step, total, 0.0))


def test_components_part_after_the_warm_up_and_no_gradient_reaches_them() -> None:
    tracked = tracked_model()
    prior = tracked.translator.prior
    train(tracked, range(4))
    assert prior.mean_DKZ.abs().max() == 0
    train(tracked, range(4, 8))
    assert torch.pdist(prior.mean_DKZ[0]).min() > 0
    assert not list(prior.parameters())
    averaged = tracked.exported()
    torch.testing.assert_close(averaged.prior.mean_DKZ, prior.mean_DKZ)
    torch.testing.assert_close(averaged.attribute.scale_D, tracked.translator.attribute.scale_D)
    image, domain = torch.rand(4, 3, 32, 32), torch.tensor([0, 0, 1, 1])
    posterior = averaged.attribute(image, domain)
    expected = averaged.prior.log_responsibilities(posterior.mean_BKZ[:, 0], domain)
    torch.testing.assert_close(posterior.logits_BK, expected)


def test_a_copy_reads_its_own_prior_and_a_state_dict_holds_it_once() -> None:
    tracked = tracked_model()
    train(tracked, range(6))
    names = [name for name in tracked.translator.state_dict() if "mean_DKZ" in name]
    assert names == ["prior.mean_DKZ"]
    again = copy.deepcopy(tracked)
    image, domain = torch.rand(4, 3, 32, 32), torch.tensor([0, 0, 1, 1])
    before = tracked.translator.attribute(image, domain).logits_BK
    again.translator.prior.mean_DKZ += 1
    torch.testing.assert_close(tracked.translator.attribute(image, domain).logits_BK, before)
    assert not torch.allclose(again.translator.attribute(image, domain).logits_BK, before)


def test_a_loaded_state_goes_on_as_if_never_stopped() -> None:
    straight = tracked_model()
    train(straight, range(6))
    resumed = tracked_model()
    resumed.load_state_dict(straight.state_dict())
    for one in (straight, resumed):
        train(one, range(6, 8))
    for name, value in straight.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, msg=name)
