"""A mixture that begins with the codes of a warm-up, and q(y | x) by the responsibilities of the prior."""

import copy

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from gmvae_drit.config import MixtureSettings
from gmvae_drit.errors import ModelError
from gmvae_drit.gaussian_mixture import refit_mixture
from gmvae_drit.mixture import gaussian_kl
from gmvae_drit.model import Progress
from gmvae_drit.networks.prior import MixturePrior

from . import tiny

MIXTURE = {
    "posterior": "responsibilities",
    "covariance": "full",
    "warmup": {"share": 0.5, "codes": 16, "restarts": 2},
}
IMAGE, DOMAIN = torch.rand(4, 3, 32, 32), torch.tensor([0, 0, 1, 1])


def new_model(**mixture):
    return tiny.model(mixture={"components": 3, **MIXTURE, **mixture})


def train(trained, steps, total=8):
    optimizers = trained.optimizers()

    def update(name, loss, clip_norm=None):
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    for step in steps:
        torch.manual_seed(step)
        batch = tiny.batch(half=4, seed=step)
        trained.train_step(trained.networks(), batch, update, Progress(step, total, 0.0))


@pytest.mark.parametrize("posterior", ["head", "responsibilities"])
def test_components_part_at_the_end_of_the_warm_up(posterior):
    trained = new_model(posterior=posterior)
    train(trained, range(3))
    mean, logvar = trained.translator.prior(DOMAIN)
    assert mean.abs().max() == logvar.abs().max() == 0
    train(trained, range(3, 4))
    for translator in (trained.translator, trained.averaged):
        mean, _ = translator.prior(DOMAIN)
        assert torch.pdist(mean[0]).min() > 0
    before = mean
    train(trained, range(4, 8))
    assert (trained.translator.prior(DOMAIN)[0] - before).abs().max() > 0


def test_after_the_last_step_the_components_are_those_of_the_codes():
    trained = new_model(min_logvar=-12)
    train(trained, range(8))
    for d in range(2):
        mean, precision = trained.averaged.prior.components_of(d)
        torch.testing.assert_close((mean, precision), trained.translator.prior.components_of(d))
        again, covariance = refit_mixture(trained.space.memory.of(d), mean, precision, full=True)
        torch.testing.assert_close(again.double(), mean, rtol=0.1, atol=0.05)
        torch.testing.assert_close(covariance.double(), precision.inverse(), rtol=0.1, atol=0.05)


def test_a_warm_up_with_too_few_codes_says_so():
    trained = new_model(components=9)
    with pytest.raises(ModelError, match=r"warmup.share = 0.5 ends after 4 images of domain number 0"):
        train(trained, range(2), total=2)


def test_q_of_y_is_the_posterior_of_the_prior_and_gives_it_no_gradient():
    trained = new_model()
    train(trained, range(6))
    translator = trained.translator
    translator.zero_grad()
    posterior = translator.attribute(IMAGE, DOMAIN)
    z = posterior.mean_BKZ[:, :1]
    expected = [components(translator.prior, d).log_prob(z[i]) for i, d in enumerate(DOMAIN)]
    torch.testing.assert_close(posterior.logits_BK.softmax(1), torch.stack(expected).softmax(1))
    posterior.logits_BK.square().sum().backward()
    assert all(p.grad is None for p in translator.prior.parameters())
    assert translator.attribute.gaussian_head.weight.grad.abs().sum() > 0


def test_a_copy_reads_its_own_prior_and_a_state_dict_holds_it_once():
    trained = new_model()
    train(trained, range(6))
    assert [name for name in trained.translator.state_dict() if "raw_mean" in name] == ["prior.raw_mean_DKZ"]
    again = copy.deepcopy(trained)
    before = trained.translator.attribute(IMAGE, DOMAIN).logits_BK
    with torch.no_grad():
        again.translator.prior.raw_mean_DKZ[:, 0] += 1
    torch.testing.assert_close(trained.translator.attribute(IMAGE, DOMAIN).logits_BK, before)
    assert not torch.allclose(again.translator.attribute(IMAGE, DOMAIN).logits_BK, before)


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_a_loaded_state_goes_on_as_if_never_stopped(stop):
    straight, resumed = new_model(), new_model()
    train(straight, range(stop))
    resumed.load_state_dict(straight.state_dict())
    optimizers = {name: o.state_dict() for name, o in straight.optimizers().items()}
    for one in (straight, resumed):
        for name, optimizer in one.optimizers().items():
            optimizer.load_state_dict(optimizers[name])
        train(one, range(stop, 8))
    for name, value in straight.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, msg=name)


def covariances(n, seed=0):
    """Random ones, (n, Z, Z), with Z = 4."""
    root = torch.randn(n, 4, 4, generator=torch.Generator().manual_seed(seed))
    return 0.2 * root @ root.mT + 0.3 * torch.eye(4)


def started(covariance="full"):
    """A prior after its warm-up: the given means (2, 3, 4) and covariances (2, 3, 4, 4)."""
    prior = MixturePrior(
        MixtureSettings(components=3, warmup={}, covariance=covariance, min_logvar=-8), size=4, domains=2
    )
    mean = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    covariance = torch.stack([covariances(3), covariances(3, seed=1)])
    prior.set_components(mean, covariance)
    return prior, mean, covariance


@torch.no_grad()
def components(prior, domain):
    """The prior's Gaussians in a domain as torch's."""
    d = torch.as_tensor(domain)[None]
    mean, logvar, shear = prior(d)[0][0], prior(d)[1][0], prior.shear(d)[0]
    return MultivariateNormal(mean, precision_matrix=shear.mT @ torch.diag_embed((-logvar).exp()) @ shear)


def test_a_prior_takes_the_components_it_is_given():
    prior, mean, covariance = started()
    for d in range(2):
        torch.testing.assert_close(components(prior, d).mean, mean[d])
        torch.testing.assert_close(
            components(prior, d).covariance_matrix, covariance[d], rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
def test_components_that_are_nearly_singular_can_be_fitted_again():
    prior = MixturePrior(
        MixtureSettings(components=3, warmup={}, covariance="full", min_logvar=-12), size=4, domains=1
    )
    root = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    root[..., 3] = 1e-3 * root[..., 2]
    root[..., 2] *= 1e-3
    prior.set_components(torch.zeros(1, 3, 4), root @ root.mT + 1e-6 * torch.eye(4))
    prior.raw_shear_DKZZ += 10 * torch.randn(1, 3, 4, 4).tril(-1)
    codes = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    _, covariance = refit_mixture(codes, *prior.components_of(0), full=True)
    assert torch.linalg.cholesky(covariance).isfinite().all()


def test_draws_have_the_mean_and_covariance_of_their_component():
    prior, mean, covariance = started()
    torch.manual_seed(0)
    n = 50_000
    z = prior.sample(torch.ones(n, dtype=torch.int64), torch.full((n,), 2))
    torch.testing.assert_close(z.mean(0), mean[1, 2], atol=0.03, rtol=0)
    torch.testing.assert_close(z.T.cov(), covariance[1, 2], atol=0.05, rtol=0)


def test_the_divergence_from_a_full_covariance_is_that_of_torch():
    prior, _, _ = started()
    q_mean, q_logvar = torch.randn(3, 4), torch.randn(3, 4)
    d = torch.zeros(1, dtype=torch.int64)
    p_mean, p_logvar, shear = prior(d)[0][0], prior(d)[1][0], prior.shear(d)[0]
    ours = gaussian_kl(q_mean, q_logvar, p_mean, p_logvar, shear).sum(1)
    q = MultivariateNormal(q_mean, torch.diag_embed(q_logvar.exp()))
    torch.testing.assert_close(
        ours, torch.distributions.kl_divergence(q, components(prior, 0)), rtol=1e-4, atol=1e-4
    )


def test_the_mixture_keeps_its_mean_and_mean_square_whatever_its_components_do():
    prior, _, _ = started()

    def moments(d):
        whole = MixtureSameFamily(Categorical(torch.ones(3)), components(prior, d))
        return whole.mean, whole.variance.mean()

    before = [moments(d) for d in range(2)]
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    for d in range(2):
        torch.testing.assert_close(moments(d), before[d], rtol=1e-4, atol=1e-5)
