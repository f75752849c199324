"""Draws that depend on nothing but their names, and ways between codes."""

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from gmvae_drit.errors import ModelError
from gmvae_drit.styles import Draws, check_components, keyed_noise, reference_code, way
from gmvae_drit.translator import Translator


@pytest.fixture(scope="module")
def translator():
    torch.manual_seed(0)
    return Translator(tiny.settings(), 2).eval()


def draws(components=(0, 1, 2), samples=4, temperature=1.0, seed=0, domain=1):
    return Draws(domain, ("day", "night")[domain], components, samples, temperature, seed)


def by_name(styles):
    return {style.name: style.codes for style in styles}


def test_components_take_turns(translator):
    assert [style.name for style in draws().styles(translator)] == ["c0-s0", "c1-s0", "c2-s0", "c0-s1"]
    assert [style.name for style in draws((2,), 2).styles(translator)] == ["c2-s0", "c2-s1"]


def test_draws_at_temperature_0_are_the_means(translator):
    means, _ = translator.prior(torch.tensor([1]))
    for k, style in enumerate(draws(samples=3, temperature=0.0).styles(translator)):
        torch.testing.assert_close(style.codes, means[:, k])


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_draws_are_of_the_prior(translator, temperature):
    """Mean and standard deviation of many draws from one component."""
    mean_BKZ, logvar_BKZ = translator.prior(torch.tensor([1]))
    codes = torch.cat([s.codes for s in draws((1,), 4000, temperature).styles(translator)])
    deviation = temperature * (0.5 * logvar_BKZ[0, 1]).exp()
    torch.testing.assert_close(
        codes.mean(0), mean_BKZ[0, 1], rtol=0, atol=4 * float(deviation.detach().max()) / 4000**0.5
    )
    torch.testing.assert_close(codes.std(0), deviation, rtol=0.05, atol=0)


def test_a_draw_does_not_depend_on_the_others(translator):
    many = by_name(draws(samples=9).styles(translator))
    for name, codes in by_name(draws((1,), 2).styles(translator)).items():
        assert torch.equal(codes, many[name])


@pytest.mark.parametrize("change", [{"seed": 1}, {"domain": 0}, {"components": (1,)}], ids=str)
def test_draws_differ_by(translator, change):
    base, other = draws((0,), 1), draws(**{"components": (0,), "samples": 1, **change})
    assert not torch.equal(base.styles(translator)[0].codes, other.styles(translator)[0].codes)


def test_own_draws_of_an_image_depend_on_its_name(translator):
    first, again, other = (by_name(draws().styles(translator, name)) for name in ("a", "a", "b"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_keyed_noise_is_normal_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    noise = keyed_noise((20000,), 0, "a")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert abs(float(noise.mean())) < 0.03
    assert abs(float(noise.std()) - 1) < 0.03
    assert not torch.equal(keyed_noise((4,), 1, "23"), keyed_noise((4,), 12, "3"))


def test_ways_pass_the_draws(translator):
    ends = by_name(draws((0, 2), 4).styles(translator))
    for sample, style in enumerate(draws((0, 2), 2).ways(translator, 5)):
        assert style.name == f"c0-c2-s{sample}"
        assert style.codes.shape == (5, 4)
        assert torch.equal(style.codes[[0]], ends[f"c0-s{sample}"])
        assert torch.equal(style.codes[[-1]], ends[f"c2-s{sample}"])


@given(ends=st.integers(2, 5), between=st.integers(2, 12))
def test_a_way_meets_all_its_ends_in_even_steps(ends, between):
    codes = torch.arange(ends)[:, None] * torch.tensor([[2.0, -1.0]])
    path = way(codes, (ends - 1) * (between - 1) + 1)
    assert torch.equal(path[:: between - 1], codes)
    steps = path.diff(dim=0)
    torch.testing.assert_close(steps, steps[:1].expand_as(steps))


def test_a_way_of_any_length_ends_at_its_ends():
    codes = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    path = way(codes, 8)
    assert path.shape == (8, 3)
    assert torch.equal(path[[0, -1]], codes[[0, -1]])


def test_components_that_are_there(translator):
    assert check_components(translator, ()) == (0, 1, 2)
    assert check_components(translator, (2, 0)) == (2, 0)
    with pytest.raises(ModelError, match="component 3: this model has components 0 to 2"):
        check_components(translator, (0, 3))


def test_a_single_gaussian_has_component_0(translator):
    single = Translator(tiny.settings(kind="drit"), 2)
    assert check_components(single, ()) == check_components(single, (0,)) == (0,)
    with pytest.raises(
        ModelError, match="component 1: this model has a single Gaussian, which is component 0"
    ):
        check_components(single, (1,))


def test_a_reference_gives_the_mode_of_its_attribute(translator):
    reference = 2 * torch.rand(3, 40, 33) - 1
    expected = translator.attribute(reference[None], torch.tensor([1])).mode()
    assert torch.equal(reference_code(translator, reference, 1), expected)
    with pytest.raises(ModelError, match="at least 8 pixels"):
        reference_code(translator, reference[:, :, :7], 1)
