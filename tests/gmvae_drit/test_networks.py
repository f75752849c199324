import math

import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from gmvae_drit.config import ContentDiscriminatorSettings, MixtureSettings
from gmvae_drit.networks import blocks
from gmvae_drit.networks.attribute import AttributePosterior
from gmvae_drit.networks.content import ContentDiscriminator, color_jitter
from gmvae_drit.networks.prior import MixturePrior
from gmvae_drit.translator import Translator, swap_halves

GENERATORS = pytest.mark.parametrize("kind", ["concat", "adain", "featurewise"])


def translator(domains=2, **changes):
    torch.manual_seed(0)
    return Translator(tiny.settings(**changes), domains)


def plain_concat(generator, content, z, domain):
    """DRIT++'s concat generator, computed as published: [h, d, z] through all the residual blocks."""

    def channels(x, like):
        return x[:, :, None, None].expand(-1, -1, *like.shape[2:])

    h = generator.first(content)
    d = F.one_hot(domain, generator.domains).to(z.dtype)
    h = generator.residual(torch.cat([h, channels(d, h), channels(z, h)], 1))
    for stage in generator.up:
        h = stage(torch.cat([h, channels(z, h)], 1))
    return generator.to_image(torch.cat([h, channels(z, h)], 1)).tanh()


@pytest.mark.parametrize("residual_blocks", [1, 2, 4])
@pytest.mark.parametrize("shape", [(8, 8), (4, 4), (2, 3), (16, 9)])
@pytest.mark.usefixtures("double")
def test_shared_blocks_give_what_the_plain_generator_gives(residual_blocks, shape):
    generator = translator(3, generator={"residual_blocks": residual_blocks}).generator
    content, z, domain = torch.randn(4, 8, *shape), 3 * torch.randn(4, 4), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        difference = generator(content, z, domain) - plain_concat(generator, content, z, domain)
    assert float(difference.abs().max()) < 1e-12


@pytest.mark.usefixtures("double")
def test_shared_blocks_have_the_gradients_of_the_plain_generator():
    generator = translator(3).generator
    content, z = torch.randn(4, 8, 8, 8).requires_grad_(), torch.randn(4, 4).requires_grad_()
    domain, weights = torch.tensor([0, 1, 2, 0]), torch.randn(4, 3, 32, 32)
    variables = [content, z, *generator.parameters()]
    shared = torch.autograd.grad((generator(content, z, domain) * weights).sum(), variables)
    plain = torch.autograd.grad((plain_concat(generator, content, z, domain) * weights).sum(), variables)
    for ours, theirs in zip(shared, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 4), (5, 8)])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 1), (3, 1, 0)])
@pytest.mark.usefixtures("double")
def test_wide_convolution_as_a_product_is_the_convolution(kernel, stride, padding, shape, monkeypatch):
    """Values, gradients, and the gradients of a gradient penalty."""
    torch.manual_seed(0)
    conv = blocks.WideConv2d(6, 5, kernel, stride, padding)
    x = torch.randn(3, 6, *shape).requires_grad_()
    results = []
    for limit in (0, math.inf):
        monkeypatch.setattr(blocks, "WEIGHTS_PER_POSITION", limit)
        y = conv(x)
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        results.append([y, slope, *torch.autograd.grad(slope.square().sum(), [x, *conv.parameters()])])
    for product, convolution in zip(*results, strict=True):
        torch.testing.assert_close(product, convolution, rtol=1e-12, atol=1e-12)


def test_the_widest_layer_of_the_published_discriminator_is_a_product(monkeypatch):
    shapes, unfold = [], F.unfold

    def spy(x, *arguments, **options):
        shapes.append(tuple(x.shape))
        return unfold(x, *arguments, **options)

    monkeypatch.setattr(F, "unfold", spy)
    layers = [blocks.WideConv2d(c, 2 * c, 4, 2, 1) for c in (64, 512)]
    for layer, side in zip(layers, (32, 4), strict=True):
        layer(torch.randn(6, layer.in_channels, side, side))
    assert shapes == [(6, 512, 4, 4)]


@pytest.mark.parametrize("channels", [4, 512])
def test_wide_convolution_computes_its_weights_once(channels):
    """Each look at a spectrally normalised weight is a power iteration."""
    looks = []

    class Watched(nn.Module):
        def forward(self, weight):
            looks.append(weight.shape)
            return weight

    conv = blocks.WideConv2d(channels, 2 * channels, 4, 2, 1)
    parametrize.register_parametrization(conv, "weight", Watched())
    looks.clear()
    conv(torch.randn(1, channels, 4, 4))
    assert len(looks) == 1


@pytest.mark.usefixtures("double")
def test_instance_norm_is_pytorch_s():
    x = torch.randn(3, 5, 4, 6).requires_grad_()
    weights = torch.randn_like(x)
    ours, theirs = blocks.InstanceNorm()(x), nn.InstanceNorm2d(5)(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@GENERATORS
def test_one_content_is_rendered_with_many_attributes(kind):
    generator = translator(generator={"kind": kind}).generator
    content, z, domain = torch.randn(1, 8, 8, 8), torch.randn(3, 4), torch.tensor([0, 1, 1])
    together = generator.render(generator.shared(content).expand(3, -1, -1, -1), z, domain)
    for i in range(3):
        alone = generator(content, z[i : i + 1], domain[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@GENERATORS
def test_attribute_and_domain_both_change_the_image(kind):
    generator = translator(generator={"kind": kind}).generator
    content = torch.randn(1, 8, 8, 8).expand(3, -1, -1, -1)
    z = torch.stack([torch.zeros(4), torch.ones(4), torch.zeros(4)])
    images = generator(content, z, torch.tensor([0, 0, 1]))
    assert (images[0] - images[1]).abs().mean() > 1e-3
    assert (images[0] - images[2]).abs().mean() > 1e-3


@GENERATORS
@pytest.mark.parametrize("domains", [2, 3])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (96, 96), (32, 64)], ids=str)
@pytest.mark.parametrize("N", [2, 6])
def test_shapes(kind, domains, size, N):
    model = tiny.model(domains, generator={"kind": kind})
    image, domain = torch.rand(N, 3, *size), torch.tensor([0, domains - 1]).repeat_interleave(N // 2)
    out = model.translator(image, domain, 1.0)
    images = ("reconstruction", "by_reference", "by_prior", "by_prior2", "cycle")
    assert all(out[name].shape == image.shape for name in images)
    assert all(out[name].abs().max() <= 1 for name in images)
    assert out["content"].shape == (N, 8, size[0] // 4, size[1] // 4)
    assert out["q_mean"].shape == out["p_logvar"].shape == (N, 3, 4)
    verdict = model.discriminator(image, domain)
    assert verdict.real[0].shape == (N, size[0] * size[1] // 64)
    assert verdict.domain[0].shape == (N, domains)
    assert model.content_discriminator(out["content"]).shape == (N, domains)


def test_discriminator_scales_see_smaller_images():
    model = tiny.model(discriminator={"scales": 2})
    verdict = model.discriminator(torch.rand(2, 3, 32, 32), torch.tensor([0, 1]))
    assert [x.shape for x in verdict.real] == [(2, 16), (2, 4)]
    assert len(verdict.domain) == 2


def test_select_reads_the_channel_of_the_domain():
    model = tiny.model(3, discriminator={"conditioning": "select"})
    image = torch.rand(1, 3, 32, 32).expand(3, -1, -1, -1)
    verdict = model.discriminator(image, torch.tensor([0, 1, 2]))
    assert verdict.domain == []
    (patch,) = model.discriminator.scales
    channels = patch.real_head(patch.layers(image[:1])).flatten(2)[0]
    torch.testing.assert_close(verdict.real[0], channels)
    assert not torch.allclose(verdict.real[0][0], verdict.real[0][1])


def test_spectral_norm_bounds_every_convolution():
    model = tiny.model(discriminator={"spectral_norm": True})
    for _ in range(30):  # power iterations
        model.discriminator(torch.rand(2, 3, 32, 32), torch.tensor([0, 1]))
    (patch,) = model.discriminator.scales
    for layer in patch.layers[::2]:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(
            1, abs=0.05
        )


def test_discriminator_norm_follows_every_convolution_but_the_last():
    plain, normed = (tiny.model(discriminator={"norm": norm}).discriminator for norm in ("none", "instance"))
    kinds = [type(layer).__name__ for layer in normed.scales[0].layers]
    assert kinds == [*["WideConv2d", "InstanceNorm", "LeakyReLU"] * 2, "WideConv2d", "LeakyReLU"]
    assert [type(layer).__name__ for layer in plain.scales[0].layers] == ["WideConv2d", "LeakyReLU"] * 3
    image, domain = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    features = normed.scales[0].layers[:2](image)
    torch.testing.assert_close(features.mean((2, 3)), torch.zeros(2, 4), atol=1e-5, rtol=0)
    contrast = [disc(image, domain).real[0] - disc(0.5 * image, domain).real[0] for disc in (plain, normed)]
    assert contrast[1].abs().max() < 0.2 * contrast[0].abs().max(), "contrast is normalised away"


@pytest.mark.parametrize("size", [32, 36, 64, 100, 216])
def test_content_discriminator_works_from_32_pixels_up(size):
    """With two down-samplings. The published one needs about 100 px."""
    discriminator = ContentDiscriminator(ContentDiscriminatorSettings(width=4), 8, 3)
    assert discriminator(torch.randn(2, 8, size // 4, size // 4)).shape == (2, 3)


def test_content_noise_and_jitter_act_in_training_only():
    encoder = translator(content={"jitter": 1.0}).content
    image = torch.rand(2, 3, 32, 32)
    assert not torch.equal(encoder(image), encoder(image))
    encoder.eval()
    assert torch.equal(encoder(image), encoder(image))


def test_content_noise_has_its_standard_deviation():
    encoder = translator(content={"noise": 0.5}).content
    image = torch.rand(1, 3, 32, 32).expand(200, -1, -1, -1)
    with torch.no_grad():
        noise = encoder(image) - encoder.eval()(image)
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)


def test_jitter_of_no_strength_changes_nothing_and_of_full_strength_each_image_differently():
    image = torch.rand(1, 3, 8, 8).expand(4, -1, -1, -1)
    torch.testing.assert_close(color_jitter(image, 0.0), image)
    jittered = color_jitter(image, 1.0)
    assert all(not torch.allclose(jittered[i], jittered[j], atol=1e-2) for i in range(4) for j in range(i))


def test_jitter_keeps_edges():
    """It changes colours affinely: within a channel of a grey image, the pattern is the same up to gain and offset."""
    image = torch.rand(5, 1, 8, 8).expand(-1, 3, -1, -1)
    pattern = torch.stack([image.flatten(2), color_jitter(image, 0.8).flatten(2)], 2)  # (B, C, 2, H W)
    correlation = torch.stack([torch.corrcoef(channel)[0, 1] for channel in pattern.flatten(0, 1)])
    torch.testing.assert_close(correlation.abs(), torch.ones(15), atol=1e-4, rtol=0)


def posterior(B=5, K=3, Z=4):
    torch.manual_seed(0)
    return AttributePosterior(torch.randn(B, K), 10 * torch.randn(B, K, Z), torch.full((B, K, Z), -40.0))


def test_hard_samples_come_from_exactly_one_component():
    """With no variance within a component, each draw is one component's mean."""
    q = posterior()
    for _ in range(20):
        distance_BK = (q.sample(1.0, hard=True)[:, None] - q.mean_BKZ).abs().amax(2)
        assert ((distance_BK < 1e-4).sum(1) == 1).all()


def test_soft_samples_mix_components():
    q = posterior()
    distance_BK = (q.sample(1.0, hard=False)[:, None] - q.mean_BKZ).abs().amax(2)
    assert (distance_BK > 1e-2).any(1).all()


def test_hard_samples_take_components_as_often_as_q_says():
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(20_000, 3)
    mean = torch.eye(3).expand(20_000, 3, 3)
    torch.manual_seed(0)
    draws = AttributePosterior(logits, mean, torch.full_like(mean, -40.0)).sample(0.5, hard=True)
    torch.testing.assert_close(draws.mean(0), torch.tensor([0.5, 0.3, 0.2]), atol=0.02, rtol=0)


def test_samples_have_the_variance_of_their_component():
    mean, logvar = torch.ones(20_000, 1, 2), torch.tensor([0.0, 2.0]).expand(20_000, 1, 2)
    torch.manual_seed(0)
    z = AttributePosterior(torch.zeros(20_000, 1), mean, logvar).sample(1.0, hard=False)
    torch.testing.assert_close(z.mean(0), torch.ones(2), atol=0.1, rtol=0)
    torch.testing.assert_close(z.var(0), torch.tensor([0.0, 2.0]).exp(), rtol=0.05, atol=0)


def test_gumbel_gradient_reaches_the_logits():
    q = posterior()
    logits = q.logits_BK.requires_grad_()
    q.sample(1.0, hard=True).square().sum().backward()
    assert (logits.grad.abs().sum(1) > 0).all()


def test_mode_is_the_mean_of_the_likeliest_component():
    q = posterior()
    for i, k in enumerate(q.logits_BK.argmax(1).tolist()):
        assert torch.equal(q.mode()[i], q.mean_BKZ[i, k])


def test_attribute_encoder_tells_domains_apart():
    encoder = translator().attribute
    image = torch.rand(1, 3, 32, 32).expand(2, -1, -1, -1)
    q = encoder(image, torch.tensor([0, 1]))
    assert not torch.allclose(q.mean_BKZ[0], q.mean_BKZ[1])
    assert not torch.allclose(q.mean_BKZ[0, 0], q.mean_BKZ[0, 1])


def mixture_prior(**changes):
    torch.manual_seed(0)
    return MixturePrior(MixtureSettings(components=3, **changes), 4, 2)


def test_draws_have_mean_and_variance_of_the_table():
    prior = mixture_prior()
    with torch.no_grad():
        for p in prior.parameters():
            p.copy_(torch.linspace(-0.1, 0.1, p.numel()).view_as(p))
    domain = torch.ones(20_000, dtype=torch.int64)
    for temperature in (1.0, 0.5):
        for k in range(3):
            z = prior.sample(domain, torch.full_like(domain, k), temperature)
            mean, logvar = (x[0, k] for x in prior(domain[:1]))
            error = temperature * (0.5 * logvar).exp() / len(domain) ** 0.5
            assert ((z.mean(0) - mean).abs() < 5 * error).all()
            torch.testing.assert_close(z.var(0), temperature**2 * logvar.exp(), rtol=0.06, atol=0)


def test_draws_do_not_train_the_prior():
    prior = mixture_prior()
    assert not prior.sample(torch.tensor([0]), torch.tensor([1])).requires_grad


def test_components_are_drawn_uniformly():
    torch.manual_seed(0)
    y = mixture_prior().sample_component(torch.zeros(30_000, dtype=torch.int64))
    torch.testing.assert_close(y.bincount() / 30_000, torch.full((3,), 1 / 3), atol=0.015, rtol=0)


@pytest.mark.parametrize("max_logvar", [4.0, -1.3])
def test_prior_log_variance_stays_within_its_bounds(max_logvar):
    prior = mixture_prior(max_logvar=max_logvar)
    for value in (-100.0, 100.0):
        prior.raw_logvar_DKZ.data.fill_(value)
        _, logvar = prior(torch.tensor([0, 1]))
        assert (logvar >= -4).all()
        assert (logvar <= max_logvar + 1e-6).all()


@pytest.mark.parametrize("max_logvar", [4.0, 0.0, -1.0, -2.0])
def test_prior_log_variance_can_shrink_from_where_it_starts(max_logvar):
    prior = mixture_prior(max_logvar=max_logvar)
    prior(torch.tensor([0]))[1].sum().backward()
    assert (prior.raw_logvar_DKZ.grad[0] > 0).all()


@pytest.mark.parametrize("max_logvar", [4.0, -1.0])
def test_prior_log_variance_finds_back_from_beyond_its_bound(max_logvar):
    """One step too far must not be for ever."""
    prior = mixture_prior(max_logvar=max_logvar)
    prior.raw_logvar_DKZ.data.fill_(max_logvar / 10 + 0.05)
    optimizer = torch.optim.Adam(prior.parameters(), 0.05, weight_decay=1e-4)
    for _ in range(200):
        optimizer.zero_grad()
        (prior(torch.tensor([0]))[1] + 2).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(prior(torch.tensor([0]))[1], torch.full((1, 3, 4), -2.0), atol=0.2, rtol=0)


def test_noise_injection_starts_at_none_and_is_drawn_per_image():
    generator = translator(generator={"kind": "adain", "noise_injection": True}).generator
    content, z = torch.randn(1, 8, 8, 8).expand(2, -1, -1, -1), torch.zeros(2, 4)
    domain = torch.tensor([0, 0])
    first, second = generator(content, z, domain)
    torch.testing.assert_close(first, second)
    for name, p in generator.named_parameters():
        if "noise" in name:
            p.data.fill_(1.0)
    first, second = generator(content, z, domain)
    assert (first - second).abs().mean() > 1e-3


def test_swap_halves_exchanges_the_domains():
    assert swap_halves(torch.tensor([0, 0, 0, 2, 2, 2])).tolist() == [2, 2, 2, 0, 0, 0]
    assert swap_halves(torch.arange(6)).tolist() == [3, 4, 5, 0, 1, 2]


@GENERATORS
def test_cycle_and_translations_use_the_partner(kind):
    """Changing one image changes what its partner is translated into, and nothing of the other pairs."""
    model = translator(3, generator={"kind": kind}, content={"noise": 0}, gumbel={"hard": True})
    image = torch.rand(6, 3, 32, 32)
    domain = torch.tensor([2, 2, 2, 0, 0, 0])
    changed = image.clone()
    changed[1] = -image[1]
    outs = []
    for x in (image, changed):
        torch.manual_seed(0)
        outs.append(model(x, domain, 1.0))
    moved = {
        name: [i for i in range(6) if not torch.allclose(outs[0][name][i], outs[1][name][i], atol=1e-5)]
        for name in ("reconstruction", "by_reference", "by_prior", "cycle")
    }
    assert moved == {"reconstruction": [1], "by_reference": [1, 4], "by_prior": [1], "cycle": [1, 4]}
