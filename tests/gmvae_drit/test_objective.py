"""The training step against the objective written down a second time, in two passes and without sharing, in float64."""

import pytest
import tiny
import torch
from torch.distributions import Categorical, Normal, kl_divergence
from torch.nn import functional as F

from gmvae_drit.augmentations import deform

pytestmark = pytest.mark.usefixtures("double")

RATE = 0.05
LOSS = {
    "adversarial": 0.9,
    "classify_real": 0.8,
    "classify_fake": 3.0,
    "content_adversarial": 0.6,
    "reconstruction": 7.0,
    "cycle": 5.0,
    "content_norm": 0.02,
    "content_reconstruction": 0.4,
    "kl": 0.03,
    "gauss": 0.9,
    "categ": 0.5,
    "categ_floor": 0.001,
    "entropy": 0.4,
    "consistency": 0.6,
    "attribute_consistency": 0.5,
    "free_bits": 0.3,
    "usage": 0.7,
    "information": 0.8,
    "information_floor": 0.9,
    "latent_regression": 4.0,
    "component_regression": 0.3,
    "mode_seeking": 0.2,
}


def swap(x):
    first, second = x.chunk(2)
    return torch.cat([second, first])


def one_by_one(generator, content, z, domain):
    """A generator call per image; the concat generator as published, all of its blocks seeing [h, d, z]."""
    images = []
    for i in range(len(content)):
        c, a, d = content[i : i + 1], z[i : i + 1], domain[i : i + 1]
        if not hasattr(generator, "first"):
            images.append(generator(c, a, d))
            continue
        h = generator.first(c)

        def append(h, *vectors):
            return torch.cat([h, *(v[:, :, None, None].expand(-1, -1, *h.shape[2:]) for v in vectors)], 1)

        h = generator.residual(append(h, F.one_hot(d, generator.domains).double(), a))
        for stage in generator.up:
            h = stage(append(h, a))
        images.append(generator.to_image(append(h, a)).tanh())
    return torch.cat(images)


def forward(model, image, domain, tau):
    """One whole pass. Random numbers are drawn in the order of the shipped step, which is the order of the paper."""
    t, other, hard = model.translator, swap(domain), model.settings.gumbel.hard
    view = deform(image, **model.settings.deformation.model_dump())
    content = t.content(image)
    q = t.attribute(image, domain)
    z = q.sample(tau, hard)
    draws = []
    for _ in range(2):
        y = t.prior.sample_component(other)
        draws.append((y, t.prior.sample(other, y)))
    (y1, z1), (_, z2) = draws
    fakes = {
        name: one_by_one(t.generator, content, a, d)
        for name, a, d in [
            ("self", z, domain),
            ("reference", swap(z), other),
            ("prior", z1, other),
            ("prior2", z2, other),
        ]
    }
    fakes_content = t.content(torch.cat([fakes["reference"], fakes["prior"]]))
    back = fakes_content[: len(image)]
    z_back = t.attribute(fakes["reference"], other).sample(tau, hard)
    cycle = one_by_one(t.generator, back, swap(z_back), domain)
    return {
        "content": content,
        "fakes_content": fakes_content,
        "q": q,
        "q of view": t.attribute(view, domain),
        "p": t.prior(domain),
        "cycle": cycle,
        "y1": y1,
        "z1": z1,
        "z2": z2,
        **fakes,
    }


def bce(logits, target):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def discriminator_loss(model, image, domain, out):
    w, d, other = model.settings.loss, model.settings.discriminator, swap(domain)
    real = image.clone().requires_grad_()
    verdict = model.discriminator(real, domain)
    loss = 0.0
    for i, logits in enumerate(verdict.real):
        for kind in ("reference", "prior"):
            of_fakes = model.discriminator(out[kind].detach(), other).real[i]
            loss = loss + w.adversarial * (bce(logits, 1.0) + bce(of_fakes, 0.0))
    for logits in verdict.domain:
        loss = loss - w.classify_real * Categorical(logits=logits).log_prob(domain).mean()
    penalty = 0.0
    for i in range(len(image)):  # by itself: no image may enter another's penalty
        x = image[i : i + 1].clone().requires_grad_()
        score = sum(logits.mean() for logits in model.discriminator(x, domain[i : i + 1]).real)
        (gradient,) = torch.autograd.grad(score, x, create_graph=True)
        penalty = penalty + 0.5 * gradient.square().sum() / len(image)
    return loss + d.r1_weight * d.r1_every * penalty


def reconstruction(kind, x, decoded):
    """Plainly, from the decoded image; at these sizes no tanh is saturated."""
    t, p = (x + 1) / 2, (decoded + 1) / 2
    of_pixels = {
        "l1": lambda: (decoded - x).abs(),
        "mse": lambda: (decoded - x) ** 2,
        "bce": lambda: -t * p.log() - (1 - t) * (1 - p).log(),
    }
    return of_pixels[kind]().mean()


def translator_losses(model, image, domain, out):
    """Those of the second pass: with a reference's attribute, and with prior draws for E_c and G alone."""
    w, K, other = model.settings.loss, model.settings.mixture.components, swap(domain)

    def fooling(kind):
        verdict = model.discriminator(out[kind], other)
        loss = sum(w.adversarial * bce(logits, 1.0) for logits in verdict.real)
        for logits in verdict.domain:
            loss = loss - w.classify_fake * Categorical(logits=logits).log_prob(other).mean()
        return loss

    q, (p_mean, p_logvar) = out["q"], out["p"]
    kl_BKZ = kl_divergence(
        Normal(q.mean_BKZ, q.logvar_BKZ.exp().sqrt()), Normal(p_mean, p_logvar.exp().sqrt())
    )
    probability = q.logits_BK.softmax(1)
    expected = sum(probability[:, k, None] * kl_BKZ[:, k] for k in range(K))
    gauss = torch.where(expected > w.free_bits, expected, w.free_bits).sum(1).mean()
    uniform = Categorical(logits=torch.zeros_like(q.logits_BK))
    categ = kl_divergence(Categorical(logits=q.logits_BK), uniform).mean().clamp(min=w.categ_floor)
    constant, view = Categorical(logits=q.logits_BK.detach()), out["q of view"]
    consistency = kl_divergence(constant, Categorical(logits=view.logits_BK)).mean()
    means = [
        sum(of.logits_BK.softmax(1)[:, k, None] * of.mean_BKZ[:, k] for k in range(K)) for of in (q, view)
    ]

    usage, information = 0.0, 0.0
    for d in domain.unique():
        mean = probability[domain == d].mean(0)
        running = 0.95 / K + 0.05 * mean.detach() + mean - mean.detach()
        divergence = (running * (K * running).log()).sum()
        entropy = Categorical(logits=q.logits_BK[domain == d]).entropy().mean()
        shortfall = w.information_floor * torch.tensor(K).log() - (
            torch.tensor(K).log() - divergence - entropy
        )
        usage = usage + divergence / 2
        information = information + shortfall.clamp(min=0) / 2
    assert information.item() > 0  # the hinge is at work in this test

    with_reference = (
        fooling("reference")
        + w.reconstruction * reconstruction(w.reconstruction_type, image, out["self"])
        + w.cycle * (out["cycle"] - image).abs().mean()
        + w.content_norm * out["content"].square().mean()
        + w.kl * (w.gauss * gauss + w.categ * categ)
        + w.usage * usage
        + w.information * information
        + w.entropy * Categorical(logits=q.logits_BK).entropy().mean()
        + w.consistency * consistency
        + w.attribute_consistency * (means[0] - means[1]).abs().mean()
    )
    if w.content_reconstruction:
        target = torch.cat([out["content"], out["content"]]).detach()
        with_reference = (
            with_reference + w.content_reconstruction * (out["fakes_content"] - target).abs().mean()
        )
    if model.content_discriminator is not None:
        log_p = model.content_discriminator(out["content"]).log_softmax(1)
        with_reference = with_reference - w.content_adversarial * log_p.mean()

    regressed = model.translator.attribute(out["prior"], other)
    chosen = torch.stack([regressed.mean_BKZ[i, k] for i, k in enumerate(out["y1"])])
    seeking = 0.0
    for i in range(len(image)):
        ratio = (out["prior"][i] - out["prior2"][i]).abs().mean() / (out["z1"][i] - out["z2"][i]).abs().mean()
        seeking = seeking + 1 / (ratio + 1e-5) / len(image)
    with_prior = (
        fooling("prior")
        + w.latent_regression * (chosen - out["z1"]).abs().mean()
        - w.component_regression * Categorical(logits=regressed.logits_BK).log_prob(out["y1"]).mean()
        + w.mode_seeking * seeking
    )
    return with_reference, with_prior


def descend(parameters, gradients):
    with torch.no_grad():
        for p, g in zip(parameters, gradients, strict=True):
            p -= RATE * g


def two_pass_gradients(model, batch, tau, seed):
    """Gradients of all networks, the translator's after the discriminators have moved."""
    image, domain, gradients = batch["image"], batch["domain"], {}
    torch.manual_seed(seed)
    out = forward(model, image, domain, tau)
    parameters = list(model.discriminator.parameters())
    gradients["discriminator"] = torch.autograd.grad(
        discriminator_loss(model, image, domain, out), parameters
    )
    descend(parameters, gradients["discriminator"])
    if model.content_discriminator is not None:
        parameters = list(model.content_discriminator.parameters())
        log_p = model.content_discriminator(out["content"].detach()).log_softmax(1)
        loss = -log_p[torch.arange(len(domain)), domain].mean()
        gradients["content_discriminator"] = torch.autograd.grad(loss, parameters)
        descend(parameters, gradients["content_discriminator"])

    torch.manual_seed(seed)
    out = forward(model, image, domain, tau)
    with_reference, with_prior = translator_losses(model, image, domain, out)
    named = dict(model.translator.named_parameters())
    first = torch.autograd.grad(with_reference, named.values(), retain_graph=True, materialize_grads=True)
    second = torch.autograd.grad(with_prior, named.values(), materialize_grads=True)
    gradients["translator"] = [
        f if name.startswith(("attribute.", "prior.")) else f + s
        for name, f, s in zip(named, first, second, strict=True)
    ]
    return gradients


@pytest.mark.parametrize(
    "changes",
    [
        {"generator": {"kind": "concat"}, "gumbel": {"hard": True}},
        {"generator": {"kind": "adain"}, "content": {"jitter": 0.5}},
        {
            "discriminator": {"conditioning": "select", "r1_weight": 0.3, "scales": 2},
            "content_discriminator": None,
        },
        {
            "generator": {"kind": "featurewise", "up_convolutions": 2},
            "discriminator": {"norm": "instance", "r1_weight": 0.3},
            "loss": {**LOSS, "reconstruction_type": "bce"},
        },
        {"generator": {"up_convolutions": 2}, "loss": {**LOSS, "reconstruction_type": "mse"}},
        {"mixture": {"posterior": "responsibilities"}, "attribute": {"pooling": "average_max"}},
    ],
    ids=["concat", "adain", "select", "featurewise and bce", "double layer and mse", "responsibilities"],
)
@pytest.mark.parametrize(("domains", "half"), [((0, 1), 1), ((2, 0), 2)], ids=str)
def test_one_pass_has_the_gradients_of_two(changes, domains, half):
    changes = {"discriminator": {"r1_weight": 0.3}, "loss": LOSS, **changes}
    shipped, plain = tiny.model(3, **changes), tiny.model(3, **changes)
    batch = tiny.batch(domains, half)
    nets = shipped.networks()
    sgd = {name: torch.optim.SGD(net.parameters(), lr=RATE) for name, net in nets.items()}
    update = tiny.Update(nets, sgd)
    torch.manual_seed(5)
    log = shipped.train_step(nets, batch, update, tiny.PROGRESS)
    expected = two_pass_gradients(plain, batch, float(log["temperature"]), 5)
    assert expected.keys() == update.gradients.keys()
    for network, gradients in expected.items():
        for (name, ours), theirs in zip(update.gradients[network].items(), gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-10, msg=f"{network}.{name}")
