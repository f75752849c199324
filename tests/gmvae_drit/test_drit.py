"""The baseline: DRIT++'s single Gaussian, which is the mixture of one component whose prior stays N(0, I)."""

import copy

import pytest
import tiny
import torch
from torch.distributions import Normal, kl_divergence

from gmvae_drit.build import build_model
from gmvae_drit.config import DritSettings
from gmvae_drit.export import ExportConfig, load_export, save_export
from gmvae_drit.model import Progress
from gmvae_drit.networks.prior import StandardGaussian

COMMON = {"free_bits": 0.1, "kl": 0.5, "kl_warmup": 0.5}


def test_prior_is_the_standard_normal_and_learns_nothing():
    prior = StandardGaussian(4)
    assert not list(prior.parameters())
    assert prior.state_dict() == {}
    domain = torch.tensor([0, 1, 1])
    mean, logvar = prior(domain)
    assert mean.shape == logvar.shape == (3, 1, 4)
    assert not mean.any()
    assert not logvar.any()
    many = torch.zeros(20_000, dtype=torch.int64)
    torch.manual_seed(0)
    y = prior.sample_component(many)
    assert not y.any()
    for temperature in (1.0, 0.5):
        z = prior.sample(many, y, temperature)
        torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=0.03, rtol=0)
        torch.testing.assert_close(z.std(0), torch.full((4,), temperature), rtol=0.03, atol=0)


@pytest.mark.usefixtures("double")
def test_kl_is_the_closed_form_to_the_standard_normal():
    """sum_j (mean^2 + variance - log variance - 1) / 2, mean over the batch (arXiv:1312.6114, appendix B)."""
    model = tiny.model(kind="drit")
    batch = tiny.batch(half=3)
    q = model.translator.attribute(batch["image"], batch["domain"])
    mean, logvar = q.mean_BKZ[:, 0], q.logvar_BKZ[:, 0]
    by_hand = 0.5 * (mean.square() + logvar.exp() - logvar - 1).sum(1).mean()
    by_torch = kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(1).mean()
    log, _ = tiny.train(model, batch)
    torch.testing.assert_close(log["kl"], by_hand, rtol=1e-12, atol=0)
    torch.testing.assert_close(log["kl"], by_torch, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["concat", "adain", "featurewise"])
@pytest.mark.usefixtures("double")
def test_it_is_the_mixture_of_one_component_with_a_fixed_prior(kind):
    """The same losses, gradients and weights over three steps: the comparison differs in the attribute space alone."""
    common = {"generator": {"kind": kind}, "loss": COMMON}
    drit = tiny.model(3, kind="drit", **common)
    gmvae = tiny.model(3, mixture={"components": 1, "init_scale": 0}, **common)
    for ours, theirs in ((drit.translator, gmvae.translator), (drit.averaged, gmvae.averaged)):
        missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
        assert set(missing) == {"prior.raw_mean_DKZ", "prior.raw_logvar_DKZ"}
        assert not unexpected
        theirs.prior.requires_grad_(False)
    for name in ("discriminator", "content_discriminator"):
        getattr(gmvae, name).load_state_dict(getattr(drit, name).state_dict())
    mean, logvar = gmvae.translator.prior(torch.tensor([0, 1, 2]))
    assert not mean.any()
    assert not logvar.any()
    runs = []
    for model in (drit, gmvae):
        nets = model.networks()
        update, logs = tiny.Update(nets, model.optimizers()), []
        for step in range(3):
            torch.manual_seed(step)
            logs.append(
                model.train_step(nets, tiny.batch((2, 0), 2, seed=step), update, Progress(step, 4, 0.0))
            )
        runs.append((logs, update.gradients, model.state_dict()))
    (logs, gradients, state), (logs2, gradients2, state2) = runs
    for ours, theirs in zip(logs, logs2, strict=True):
        assert theirs.keys() - ours.keys() == {
            "usage",
            "information",
            "entropy",
            "component_regression",
            "temperature",
        }
        assert all(not theirs[name] for name in ("usage", "information", "component_regression"))
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-12, atol=1e-14, msg=name)
    for network, of_drit in gradients.items():
        for name, gradient in of_drit.items():
            torch.testing.assert_close(gradient, gradients2[network][name], rtol=1e-9, atol=1e-13)
    for name, value in state.items():
        torch.testing.assert_close(value, state2[name], rtol=1e-8, atol=1e-10, msg=name)


def test_every_parameter_has_a_gradient():
    """DDP waits for ever for one without."""
    model = tiny.model(kind="drit")
    log, update = tiny.train(model, tiny.batch(half=2))
    for network, gradients in update.gradients.items():
        assert not [name for name, g in gradients.items() if g is None or not g.isfinite().all()], network
    assert "kl" in log
    assert "latent_regression" in log
    assert "temperature" not in log, "there is nothing to relax"


def test_it_evaluates_shows_exports_and_translates(tmp_path):
    settings = tiny.settings(kind="drit", ema_decay=0.5)
    assert isinstance(settings, DritSettings)
    torch.manual_seed(0)
    model = build_model(settings, ("day", "night")).train()
    batch = tiny.batch(half=2)
    tiny.train(model, batch)
    before = copy.deepcopy(model.state_dict())
    scalars = model.eval_step(batch)
    assert float(scalars["information"]) == 0
    assert model.previews(batch)["translations"].shape[1] == (1 + 4) * 66 + 2
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    save_export(
        tmp_path, model, ExportConfig(model=settings, domains=("day", "night"), image_size=32, step=1)
    )
    translator, config = load_export(tmp_path)
    assert config.model == settings
    target = torch.tensor([1, 1, 0, 0])
    z = translator.prior.sample(target, translator.prior.sample_component(target))
    assert translator.translate(batch["image"], z, target).isfinite().all()
