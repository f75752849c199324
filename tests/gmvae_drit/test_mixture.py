import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, Normal, kl_divergence

from gmvae_drit import mixture


def normals(*shape, seed=0):
    """Mean and log-variance in float64."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(shape, generator=generator, dtype=torch.float64)
    return mean, torch.randn(shape, generator=generator, dtype=torch.float64)


def logits(*shape, seed=0, scale=2.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def as_normal(mean, logvar):
    return Normal(mean, logvar.exp().sqrt())


@given(st.integers(0, 10_000))
def test_gaussian_kl_is_that_of_torch(seed):
    q, p = normals(5, 3, seed=seed), normals(5, 3, seed=seed + 1)
    expected = kl_divergence(as_normal(*q), as_normal(*p))
    torch.testing.assert_close(mixture.gaussian_kl(*q, *p), expected, rtol=1e-12, atol=1e-12)


def test_gaussian_kl_is_the_expected_log_ratio():
    torch.manual_seed(0)
    q, p = as_normal(*normals(3)), as_normal(*normals(3, seed=1))
    z = q.sample((200_000,))
    ratio = q.log_prob(z) - p.log_prob(z)
    standard_error = ratio.std(0) / len(z) ** 0.5
    exact = mixture.gaussian_kl(*normals(3), *normals(3, seed=1))
    assert ((ratio.mean(0) - exact).abs() < 5 * standard_error).all()


def test_gaussian_kl_of_a_distribution_to_itself_is_zero():
    q = normals(4)
    torch.testing.assert_close(mixture.gaussian_kl(*q, *q), torch.zeros(4).double(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("free_bits", [0.0, 0.7])
def test_expected_gaussian_kl_sums_over_components_and_dimensions(free_bits):
    B, K, Z = 4, 3, 5
    l_BK, q, p = logits(B, K), normals(B, K, Z), normals(B, K, Z, seed=1)
    total = 0.0
    for b in range(B):
        weight = l_BK[b].exp() / l_BK[b].exp().sum()
        for j in range(Z):
            expected = sum(
                weight[k]
                * kl_divergence(
                    as_normal(q[0][b, k, j], q[1][b, k, j]), as_normal(p[0][b, k, j], p[1][b, k, j])
                )
                for k in range(K)
            )
            total += max(free_bits, float(expected))
    assert float(mixture.expected_gaussian_kl(l_BK, q, p, free_bits)) == pytest.approx(total / B, rel=1e-12)


def test_free_bits_stop_the_gradient_below_the_floor_only():
    mean = torch.tensor([[[0.1, 3.0]]], dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros_like(mean)
    mixture.expected_gaussian_kl(torch.zeros(1, 1).double(), (mean, zeros), (zeros, zeros), 0.5).backward()
    assert mean.grad.flatten().tolist() == [0.0, 3.0]  # d (m^2 / 2) / dm


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_categorical_kl_is_that_of_torch(seed, K):
    l_BK = logits(7, K, seed=seed)
    uniform = Categorical(logits=torch.zeros(7, K).double())
    expected = kl_divergence(Categorical(logits=l_BK), uniform).mean()
    torch.testing.assert_close(mixture.categorical_kl(l_BK), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        mixture.categorical_entropy(l_BK), Categorical(logits=l_BK).entropy(), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("K", [2, 3, 5])
def test_information_is_whole_for_planted_components_and_none_for_uniform_ones(K):
    planted = 50 * torch.eye(K).repeat(4, 1).double()
    domain = torch.zeros(4 * K, dtype=torch.int64)
    assert float(mixture.relative_information(planted, domain)) == pytest.approx(1)
    assert float(mixture.relative_information(torch.zeros_like(planted), domain)) == pytest.approx(
        0, abs=1e-12
    )
    collapsed = planted[:1].expand(4 * K, K)
    assert float(mixture.relative_information(collapsed, domain)) == pytest.approx(0, abs=1e-12)


def test_information_is_of_each_domain_by_itself():
    """A component that only says the domain says nothing of the attribute."""
    domain = torch.tensor([0, 0, 1, 1])
    says_the_domain = 50 * torch.eye(2)[domain].double()
    assert float(mixture.relative_information(says_the_domain, domain)) == pytest.approx(0, abs=1e-12)


@given(st.integers(0, 10_000))
def test_information_is_between_none_and_whole(seed):
    domain = torch.arange(8) % 2
    value = float(mixture.relative_information(logits(8, 3, seed=seed, scale=5), domain))
    assert -1e-12 <= value <= 1 + 1e-12


def test_information_is_finite_where_a_probability_rounds_to_zero():
    never_the_last = torch.tensor([[200.0, -200.0, -200.0], [-200.0, 200.0, -200.0]])
    value = float(mixture.relative_information(never_the_last, torch.tensor([0, 0])))
    assert value == pytest.approx(math.log(2) / math.log(3))


def test_information_of_one_component_is_none():
    assert float(mixture.relative_information(torch.randn(4, 1), torch.zeros(4, dtype=torch.int64))) == 0


def usage_module(domains, K, momentum, mean=None):
    usage = mixture.ComponentUsage(domains, K, momentum).double()
    if mean is not None:
        usage.mean_DK.copy_(mean)
    return usage


def kl_to_uniform(mean_DK):
    return (mean_DK * (mean_DK * mean_DK.shape[1]).log()).sum(1)


@pytest.mark.usefixtures("double")
def test_usage_of_one_batch_is_its_divergence_and_information():
    """With momentum 1 the running mean is the batch's: everything has its textbook value."""
    l_BK, domain = logits(8, 3), torch.arange(8) // 4
    kl_D, information_D, weight_D = usage_module(2, 3, 1.0)(l_BK, domain)
    mean_DK = torch.stack([l_BK[domain == d].softmax(1).mean(0) for d in range(2)])
    torch.testing.assert_close(kl_D, kl_to_uniform(mean_DK))
    expected = mixture.relative_information(l_BK, domain) * math.log(3)
    torch.testing.assert_close(information_D.mean(), expected)
    assert weight_D.tolist() == [0.5, 0.5]


@pytest.mark.usefixtures("double")
def test_usage_keeps_a_running_mean_of_each_domain_present():
    usage = usage_module(3, 2, 0.1)
    first, second = logits(4, 2, seed=1), logits(4, 2, seed=2)
    usage(first, torch.tensor([0, 0, 2, 2]))
    _, _, weight_D = usage(second, torch.tensor([0, 0, 1, 1]))
    half = torch.tensor([0.5, 0.5]).double()
    mean_0 = 0.9 * (0.9 * half + 0.1 * first[:2].softmax(1).mean(0)) + 0.1 * second[:2].softmax(1).mean(0)
    mean_1 = 0.9 * half + 0.1 * second[2:].softmax(1).mean(0)
    mean_2 = 0.9 * half + 0.1 * first[2:].softmax(1).mean(0)
    torch.testing.assert_close(usage.mean_DK, torch.stack([mean_0, mean_1, mean_2]))
    assert weight_D.tolist() == [0.5, 0.5, 0.0]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("term", ["usage", "information"])
def test_usage_has_the_value_of_the_running_mean_and_the_gradient_of_the_batch_mean(term):
    """d/d logits of KL(running + q(logits) - q(logits now)), by central differences."""
    start = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]).double()
    domain, l_BK = torch.arange(6) // 3, logits(6, 3)

    def batch_mean(x):
        return torch.stack([x[:3].softmax(1).mean(0), x[3:].softmax(1).mean(0)])

    running = 0.95 * start + 0.05 * batch_mean(l_BK)

    def independent(x):
        kl_D = kl_to_uniform(running + batch_mean(x) - batch_mean(l_BK))
        if term == "usage":
            return kl_D.sum()
        entropy = Categorical(logits=x).entropy()
        return (math.log(3) - kl_D).sum() - entropy[:3].mean() - entropy[3:].mean()

    x = l_BK.clone().requires_grad_()
    kl_D, information_D, _ = usage_module(2, 3, 0.05, start)(x, domain)
    value = (kl_D if term == "usage" else information_D).sum()
    torch.testing.assert_close(value.detach(), independent(l_BK))
    value.backward()
    step, numeric = 1e-6, torch.zeros_like(l_BK)
    for index in range(l_BK.numel()):
        delta = torch.zeros(l_BK.numel()).double().index_fill(0, torch.tensor([index]), step).view_as(l_BK)
        numeric.view(-1)[index] = (independent(l_BK + delta) - independent(l_BK - delta)) / (2 * step)
    torch.testing.assert_close(x.grad, numeric, rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("double")
def test_usage_pushes_back_components_that_are_used_too_much():
    usage = usage_module(1, 2, 0.05, torch.tensor([[0.9, 0.1]]))
    x = torch.zeros(4, 2).double().requires_grad_()
    kl_D, _, _ = usage(x, torch.zeros(4, dtype=torch.int64))
    kl_D.sum().backward()
    assert (x.grad[:, 0] > 0).all()
    assert (x.grad[:, 1] < 0).all()


def test_usage_forgets_a_step_of_nan():
    """The engine skips such a step; a running mean with NaN in it would poison every later one."""
    usage = mixture.ComponentUsage(2, 3)
    domain = torch.tensor([0, 1])
    usage(logits(2, 3).float(), domain)
    before = usage.mean_DK.clone()
    usage(torch.full((2, 3), torch.nan), domain)
    assert torch.equal(usage.mean_DK, before)
