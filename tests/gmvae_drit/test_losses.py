import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional as F

from gmvae_drit import losses


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 10_000))
def test_adversarial_is_binary_cross_entropy_summed_over_scales(seed):
    scales = [3 * randn(4, 16, seed=seed), 3 * randn(4, 4, seed=seed + 1)]
    real = sum(F.binary_cross_entropy_with_logits(x, torch.ones_like(x)) for x in scales)
    fake = sum(F.binary_cross_entropy_with_logits(x, torch.zeros_like(x)) for x in scales)
    torch.testing.assert_close(losses.adversarial_real(scales), real)
    torch.testing.assert_close(losses.adversarial_fake(scales), fake)


def test_adversarial_keeps_its_gradient_where_the_discriminator_is_sure():
    """Non-saturating: the generator still learns from fakes that are seen through."""
    x = torch.full((1, 1), -50.0, requires_grad=True)
    losses.adversarial_real([x]).backward()
    assert float(x.grad) == pytest.approx(-1)


def test_domain_classification_is_the_negative_log_likelihood():
    logits, domain = randn(5, 3), torch.tensor([0, 2, 1, 2, 0])
    expected = -Categorical(logits=logits).log_prob(domain).mean()
    torch.testing.assert_close(losses.domain_classification([logits, logits], domain), 2 * expected)


@pytest.mark.usefixtures("double")
def test_r1_of_a_linear_discriminator_is_half_its_squared_norm():
    """D(x) = mean over P patches of (w_p . x): the gradient is the mean weight, for every image."""
    image, weight = randn(3, 3, 4, 4).requires_grad_(), randn(5, 3, 4, 4, seed=1)
    patches = torch.einsum("bchw,pchw->bp", image, weight)
    expected = 0.5 * weight.mean(0).square().sum()
    torch.testing.assert_close(losses.r1_penalty([patches], image), expected)


@pytest.mark.usefixtures("double")
def test_r1_can_be_learned_from():
    """d/dw of |2 w x|^2 / 2 with D(x) = w x^2 is 4 w x^2."""
    x = torch.tensor(3.0).double().view(1, 1, 1, 1).requires_grad_()
    w = torch.tensor(0.5).double().requires_grad_()
    losses.r1_penalty([(w * x.square()).view(1, 1)], x).backward()
    assert float(w.grad) == pytest.approx(4 * 0.5 * 9)


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_domain_confusion_is_least_when_undecided(seed, D):
    """Cross-entropy to the uniform distribution = log D + KL(uniform || softmax)."""
    logits, zeros = randn(4, D, seed=seed), torch.zeros(4, D).double()
    divergence = kl_divergence(Categorical(logits=zeros), Categorical(logits=logits)).mean()
    lowest = losses.domain_confusion(zeros)
    assert float(lowest) == pytest.approx(torch.tensor(float(D)).log().item(), rel=1e-6)
    torch.testing.assert_close(losses.domain_confusion(logits), lowest + divergence)


def test_mode_seeking_by_hand():
    image, z = torch.zeros(2, 3, 2, 2).double(), torch.zeros(2, 4).double()
    image2 = torch.stack([torch.full((3, 2, 2), 0.5), torch.full((3, 2, 2), 0.1)]).double()
    z2 = torch.stack([torch.full((4,), 2.0), torch.full((4,), -0.5)]).double()
    expected = (1 / (0.5 / 2 + 1e-5) + 1 / (0.1 / 0.5 + 1e-5)) / 2
    assert float(losses.mode_seeking(image, image2, z, z2)) == pytest.approx(expected, rel=1e-7)


def test_mode_seeking_is_finite_for_equal_images_and_equal_codes():
    image, z = torch.zeros(1, 3, 2, 2), torch.zeros(1, 4)
    assert losses.mode_seeking(image, image, z, z + 1).isfinite()
    assert losses.mode_seeking(image, image + 1, z, z).isfinite()


def reconstruction(kind, image, before_tanh):
    return losses.RECONSTRUCTIONS[kind](image, before_tanh.tanh(), before_tanh)


def test_reconstruction_by_hand():
    """x = 0.5 and -1 (t = 0.75 and 0) against tanh(a) = 0.6 (p = 0.8) for both."""
    image = torch.tensor([0.5, -1.0]).double()
    before_tanh = torch.full((2,), 0.6).double().atanh()
    log = math.log
    expected = {
        "l1": (0.1 + 1.6) / 2,
        "mse": (0.01 + 2.56) / 2,
        "bce": -(0.75 * log(0.8) + 0.25 * log(0.2) + log(0.2)) / 2,
    }
    for kind, value in expected.items():
        assert float(reconstruction(kind, image, before_tanh)) == pytest.approx(value, rel=1e-6), kind


@pytest.mark.usefixtures("double")
@given(st.integers(0, 10_000))
def test_bce_is_that_of_torch_on_pixels_from_0_to_1(seed):
    before_tanh, image = randn(2, 3, 4, 4, seed=seed), randn(2, 3, 4, 4, seed=seed + 1).tanh()
    expected = F.binary_cross_entropy((before_tanh.tanh() + 1) / 2, (image + 1) / 2)
    torch.testing.assert_close(reconstruction("bce", image, before_tanh), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bce_is_finite_and_has_its_gradient_where_the_tanh_is_saturated(dtype):
    """d/da = 2 (p - t), also where tanh(a) is 1 to the last bit and log(1 - p) would be -inf."""
    before_tanh = torch.tensor([30.0, -30.0, 30.0, 0.5], dtype=dtype, requires_grad=True)
    image = torch.tensor([-1.0, 1.0, 1.0, 0.0])
    assert before_tanh.tanh()[:3].abs().eq(1).all()
    loss = losses.binary_cross_entropy(before_tanh, image)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx((60 + 60 + 0 + 0.813) / 4, rel=1e-3)
    (gradient,) = torch.autograd.grad(4 * loss, before_tanh)
    expected = 2 * (torch.tensor([1.0, 0.0, 1.0, 0.7311]) - torch.tensor([0.0, 1.0, 1.0, 0.5]))
    torch.testing.assert_close(gradient.float(), expected, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("kind", ["l1", "mse", "bce"])
def test_reconstruction_is_least_at_the_image_itself(kind):
    image = torch.rand(2, 3, 4, 4).double() * 1.8 - 0.9
    least = reconstruction(kind, image, image.atanh())
    for shift in (-0.2, 0.2):
        assert reconstruction(kind, image, image.atanh() + shift) > least


def halves(loss, *tensors):
    parts = zip(*(t.chunk(2) for t in tensors), strict=True)
    return torch.stack([loss(*part) for part in parts]).mean(), loss(*tensors)


@pytest.mark.parametrize(
    ("loss", "tensors"),
    [
        (lambda x: losses.adversarial_real([x]), (randn(6, 4),)),
        (lambda x: losses.adversarial_fake([x]), (randn(6, 4),)),
        (lambda x, d: losses.domain_classification([x], d), (randn(6, 3), torch.arange(6) % 3)),
        (losses.domain_confusion, (randn(6, 3),)),
        (losses.binary_cross_entropy, (randn(6, 3, 2, 2), randn(6, 3, 2, 2, seed=1).tanh())),
        (
            losses.mode_seeking,
            (randn(6, 3, 2, 2), randn(6, 3, 2, 2, seed=1), randn(6, 4), randn(6, 4, seed=1)),
        ),
    ],
    ids=["adversarial_real", "adversarial_fake", "classification", "confusion", "bce", "mode_seeking"],
)
def test_mean_over_two_halves_is_the_whole(loss, tensors):
    """So that the mean over ranks is the loss of the joined batch."""
    mean, whole = halves(loss, *tensors)
    torch.testing.assert_close(mean, whole)


@pytest.mark.usefixtures("double")
def test_r1_of_two_halves_is_the_whole():
    def penalty(image):
        image = image.detach().requires_grad_()
        return losses.r1_penalty([image.square().flatten(1).sum(1, keepdim=True)], image).detach()

    mean, whole = halves(penalty, randn(6, 3, 2, 2))
    torch.testing.assert_close(mean, whole)
