"""The GMVAE by itself: networks, objective, training step, pictures."""

import math

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from tiny import Update
from torch.distributions import Bernoulli, Categorical, MixtureSameFamily, Normal
from torch.nn import functional as F

from gmvae_drit import mixture
from gmvae_drit.build import build_model, build_translator
from gmvae_drit.config import ModelSettings
from gmvae_drit.errors import ModelError
from gmvae_drit.gmvae.model import Gmvae
from gmvae_drit.gmvae.objective import negative_elbo, reconstruction
from gmvae_drit.gmvae.settings import GmvaeSettings
from gmvae_drit.images import to_unit
from gmvae_drit.model import Progress
from gmvae_drit.networks.attribute import AttributePosterior

NETWORKS = {
    "conv": {"kind": "conv", "width": 8, "features": 16},
    "dense": {"kind": "dense", "hidden": [24, 16]},
}
PROGRESS = Progress(step=30, total_steps=100, epoch=2.5)
MI_TERMS = {"usage", "entropy", "consistency"}


def settings(network="conv", **changes):
    raw = {"components": 3, "latent_size": 4, "image_size": 16, "network": NETWORKS[network], **changes}
    return GmvaeSettings.model_validate(raw)


def new_model(network="conv", **changes):
    torch.manual_seed(0)
    return Gmvae(settings(network, **changes)).train()


def batch(n=6, size=16, seed=1):
    image = torch.randint(256, (n, 3, size, size), generator=torch.Generator().manual_seed(seed))
    return {"image": image.to(torch.uint8), "domain": torch.zeros(n, dtype=torch.int64)}


def train(model, data, progress=PROGRESS, seed=2):
    nets = model.networks()
    update = Update(nets, model.optimizers())
    torch.manual_seed(seed)
    return model.train_step(nets, data, update, progress), update


def random_posterior(n=5, K=3, Z=2):
    g = torch.Generator().manual_seed(0)
    return AttributePosterior(
        *(torch.randn(shape, generator=g, dtype=torch.float64) for shape in [(n, K), (n, K, Z), (n, K, Z)])
    )


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [16, 20, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(network, size, channels):
    model = new_model(network, image_size=size, channels=channels)
    x = model.pixels(batch(4, size)["image"])
    assert x.shape == (4, channels, size, size)
    assert 0 <= x.min() <= x.max() <= 1
    out = model.network(x, [x, x], 1.0, False)
    assert out["logits"].shape == (4, 3)
    assert out["view_logits"].shape == (2, 4, 3)
    assert out["q_mean"].shape == out["q_logvar"].shape == out["p_mean"].shape == (4, 3, 4)
    assert out["decoded"].shape == x.shape
    assert model.network.cluster(x).shape == (4,)
    assert model.network.embed(x).shape == (4, 4)
    assert model.network.sample(torch.tensor([0, 2])).shape == (2, channels, size, size)


def test_one_channel_is_the_mean_of_three():
    data = batch()["image"]
    expected = data.double().mean(1, keepdim=True) / 255
    torch.testing.assert_close(new_model().pixels(data).double(), expected, rtol=0, atol=1e-6)


def test_images_of_another_size_are_refused_in_one_line():
    with pytest.raises(ModelError, match=r"images of 20 x 20 pixels: model\.image_size = 16"):
        train(new_model(), batch(size=20))


def test_it_is_a_member_of_the_union_and_does_not_translate():
    chosen = TypeAdapter(ModelSettings).validate_python({"kind": "gmvae", "network": {"kind": "dense"}})
    assert isinstance(chosen, GmvaeSettings)
    assert isinstance(build_model(chosen, ("mnist",)), Gmvae)
    with pytest.raises(ModelError, match="does not translate"):
        build_translator(chosen, ("mnist",))


@pytest.mark.parametrize(
    "bad", [{"components": 1}, {"image_size": 30}, {"loss": {"categ": 2}}, {"colour": 1}]
)
def test_settings_that_cannot_work_are_refused(bad):
    with pytest.raises(ValidationError):
        GmvaeSettings.model_validate(bad)


def test_bernoulli_reconstruction_is_that_of_torch():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 4, 4, generator=g, dtype=torch.float64)
    image = torch.randint(2, (3, 1, 4, 4), generator=g).double()
    expected = -Bernoulli(logits=logits).log_prob(image).sum((1, 2, 3))
    torch.testing.assert_close(reconstruction(logits, image, "bce"), expected)


def test_gaussian_reconstruction_is_that_of_torch_but_for_the_constant():
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 3, 1, 4, 4, generator=g, dtype=torch.float64)
    expected = -Normal(y, 1.0).log_prob(x).sum((1, 2, 3)) - 16 * 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(reconstruction(y, x, "mse"), expected)


def test_elbo_is_the_monte_carlo_estimate_of_the_log_ratio():
    """E_q[log q(y, z | x) - log p(x | z) - log p(y) - log p(z | y)] by drawing y and z, against the sum of terms."""
    torch.manual_seed(0)
    posterior, n, K = random_posterior(n=1), 200_000, 3
    p_mean, p_logvar = torch.randn(2, 1, K, 2, dtype=torch.float64)
    image, weight = torch.rand(1, 1, 2, 2, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)

    def decode(z):
        return (z @ weight).view(-1, 1, 2, 2)

    y = Categorical(logits=posterior.logits_BK[0]).sample((n,))
    q = Normal(posterior.mean_BKZ[0, y], (posterior.logvar_BKZ[0, y] / 2).exp())
    p = Normal(p_mean[0, y], (p_logvar[0, y] / 2).exp())
    z = q.sample()
    ratio = (
        posterior.logits_BK.log_softmax(1)[0, y]
        + math.log(K)
        + (q.log_prob(z) - p.log_prob(z)).sum(1)
        + reconstruction(decode(z), image.expand(n, -1, -1, -1), "bce")
    )
    draws = [negative_elbo(image, posterior, (p_mean, p_logvar), decode, "bce") for _ in range(3000)]
    ours = torch.stack(draws)
    error = (ratio.var() / n + ours.var() / len(ours)).sqrt()
    assert abs(ours.mean() - ratio.mean()) < 4 * error
    assert error < 0.03 * ratio.mean()


def test_consistency_is_a_divergence_to_a_constant():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=g, dtype=torch.float64, requires_grad=True)
    views = torch.randn(2, 5, 3, generator=g, dtype=torch.float64, requires_grad=True)
    expected = F.kl_div(views.log_softmax(2), logits.softmax(1).expand(2, -1, -1), reduction="sum") / 10
    value = mixture.consistency(logits, views)
    torch.testing.assert_close(value, expected)
    value.backward()
    assert logits.grad is None
    assert views.grad is not None
    assert mixture.consistency(logits, logits[None]).item() == pytest.approx(0)


def test_loss_is_the_weighted_sum_of_its_terms_computed_by_hand(double):
    """Everything from the definitions, in float64, with the step's own noise."""
    weights = {"rec": 0.7, "gauss": 0.6, "categ": 0.5, "usage": 3.0, "entropy": 2.0, "consistency": 1.5}
    model = new_model(loss=weights, usage_momentum=0.25, deformation={"elastic": 0})
    captured = {}
    model.network.register_forward_hook(lambda _, __, out: captured.update(out))
    data = batch()
    terms, update = train(model, data)
    q = captured["logits"].softmax(1)
    x = (to_unit(data["image"]).double() + 1).mean(1, keepdim=True) / 2
    p = captured["decoded"].sigmoid()
    rec = -(x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3)).mean()
    v_q, v_p = captured["q_logvar"].exp(), captured["p_logvar"].exp()
    kl = 0.5 * ((v_p / v_q).log() + (v_q + (captured["q_mean"] - captured["p_mean"]) ** 2) / v_p - 1)
    gauss = (q[:, :, None] * kl).sum((1, 2)).mean()
    entropy = -(q * q.log()).sum(1).mean()
    running = 0.75 / 3 + 0.25 * q.mean(0)
    usage = (running * (3 * running).log()).sum()
    consistency = (q * (q / captured["view_logits"][0].softmax(1)).log()).sum(1).mean()
    by_hand = [rec, gauss, math.log(3) - entropy, usage, entropy, consistency]
    for name, value in zip(weights, by_hand, strict=True):
        torch.testing.assert_close(terms[name], value.detach(), rtol=1e-5, atol=1e-7, msg=name)
    expected = sum(weights[name] * terms[name] for name in weights)
    torch.testing.assert_close(update.losses["gmvae"], expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_weight_learns(network):
    _, update = train(new_model(network), batch())
    assert all(g is not None and g.abs().sum() > 0 for g in update.gradients["gmvae"].values())


def test_mutual_information_terms_move_only_what_infers_the_component():
    off = {"rec": 0, "gauss": 0, "categ": 0}
    _, update = train(new_model(loss=off), batch())
    moved = {name.split(".")[0] for name, g in update.gradients["gmvae"].items() if g is not None and g.any()}
    assert moved == {"component_features", "component_head"}


@pytest.mark.parametrize("term", ["usage", "entropy", "consistency"])
def test_a_term_that_is_off_has_no_gradient(term):
    """With all other terms off as well, nothing moves."""
    nothing = dict.fromkeys(["rec", "gauss", "categ", *MI_TERMS], 0)
    _, update = train(new_model(loss=nothing), batch())
    assert not any(g.any() for g in update.gradients["gmvae"].values() if g is not None)
    _, update = train(new_model(loss={**nothing, term: 1.0}), batch())
    assert any(g.any() for g in update.gradients["gmvae"].values() if g is not None)


def test_labels_and_domains_are_not_looked_at():
    data, told = batch(), batch()
    told["domain"] = torch.tensor([0, 1, 2, 0, 1, 2])
    told["label"] = torch.arange(6)
    del data["domain"]
    ours, theirs = new_model(), new_model()
    a, b = train(ours, data)[0], train(theirs, told)[0]
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert all(torch.equal(x, theirs.state_dict()[name]) for name, x in ours.state_dict().items())


def test_samples_follow_the_learned_prior():
    torch.manual_seed(0)
    network = new_model("dense").network
    network.decoder = torch.nn.Identity()
    mean, logvar = network.prior(torch.zeros(1, dtype=torch.int64))
    z = network.sample(torch.full((20_000,), 1))
    torch.testing.assert_close(z.mean(0), mean[0, 1].detach(), rtol=0, atol=0.05)
    torch.testing.assert_close(z.std(0), (logvar[0, 1] / 2).exp().detach(), rtol=0.05, atol=0)
    p = MixtureSameFamily(
        Categorical(torch.ones(3)),
        torch.distributions.Independent(Normal(mean[0], (logvar[0] / 2).exp()), 1),
    )
    assert p.log_prob(z).isfinite().all()


def test_rates_rise_then_fall_to_nothing():
    model = new_model(optimizer={"learning_rate": 0.01, "warmup": 0.1})
    at = [model.learning_rates(Progress(step, 100, 0.0))["gmvae"] for step in (0, 5, 10, 50, 99)]
    assert at[0] == 0
    assert at[1] == pytest.approx(0.005 * 0.5 * (1 + math.cos(0.05 * math.pi)))
    assert at[3] == pytest.approx(0.005)
    assert at[2] > at[3] > at[4] > 0


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rec_type", ["bce", "mse"])
def test_training_lowers_the_loss(network, rec_type):
    model, data = new_model(network, rec_type=rec_type), batch(16)
    nets, losses = model.networks(), []
    update = Update(nets, model.optimizers())
    for _ in range(40):
        model.train_step(nets, data, update, PROGRESS)
        losses.append(float(update.losses["gmvae"]))
    assert sum(losses[-5:]) < 0.97 * sum(losses[:5])


@pytest.mark.parametrize("network", NETWORKS)
def test_half_precision_is_close_to_single(network):
    single, _ = train(new_model(network), batch())
    with torch.autocast("cpu", torch.bfloat16):
        half, update = train(new_model(network), batch())
    assert all(value.dtype == torch.float32 for value in half.values())
    for name in ("rec", "gauss", "entropy"):
        torch.testing.assert_close(half[name], single[name], rtol=0.02, atol=0.02)
    assert all(g.isfinite().all() for g in update.gradients["gmvae"].values())


def test_pictures_and_evaluation():
    model, data = new_model().eval(), batch()
    pictures = model.previews(data)
    assert pictures.keys() == {"reconstructions", "components"}
    assert all(p.dtype == torch.uint8 and p.shape[0] == 3 for p in pictures.values())
    assert pictures["components"].shape[1] == 3 * 18 + 2
    scalars = model.eval_step(data)
    assert all(value.ndim == 0 and value.isfinite() for value in scalars.values())
    assert model.negative_elbo(data["image"]).isfinite()
