import math

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from gmvae_drit.config import GumbelSettings, OptimizerSettings
from gmvae_drit.model import Progress
from gmvae_drit.schedules import ema_decay, gumbel_temperature, linear_decay, linear_warmup, ttur_factors


def at_epoch(epoch):
    return Progress(step=0, total_steps=1, epoch=epoch)


def at(step, total=100):
    return Progress(step=step, total_steps=total, epoch=0.0)


def test_published_temperature():
    """1 at first, halved after 50 epochs (0.013862944 = log 2 / 50), and no lower."""
    published = GumbelSettings()
    assert (published.init_temp, published.min_temp, published.decay_temp_rate) == (1.0, 0.5, 0.013862944)
    assert gumbel_temperature(published, at_epoch(0)) == 1.0
    assert gumbel_temperature(published, at_epoch(25)) == pytest.approx(2**-0.5, abs=1e-6)
    assert gumbel_temperature(published, at_epoch(50)) == pytest.approx(0.5, abs=1e-6)
    assert gumbel_temperature(published, at_epoch(1000)) == 0.5


@given(st.floats(0.1, 5), st.floats(0.05, 0.1), st.floats(0, 1), st.integers(0, 300), st.floats(0, 0.99))
def test_temperature_formula(first, lowest, rate, epoch, part):
    """max(lowest, first * exp(-rate * epoch)), constant within an epoch."""
    settings = GumbelSettings(init_temp=first, min_temp=lowest, decay_temp_rate=rate)
    expected = max(lowest, first * math.exp(-rate * epoch))
    assert gumbel_temperature(settings, at_epoch(epoch + part)) == pytest.approx(expected)


def test_linear_decay_holds_then_falls_to_zero():
    assert [linear_decay(0.5, at(step)) for step in (0, 25, 50)] == [1.0, 1.0, 1.0]
    assert linear_decay(0.5, at(75)) == pytest.approx(0.5)
    assert linear_decay(0.5, at(99)) == pytest.approx(0.02)
    assert linear_decay(0.5, at(100)) == 0.0
    assert linear_decay(0.0, at(0)) == 1.0
    assert linear_decay(0.0, at(10)) == pytest.approx(0.9)
    assert [linear_decay(1.0, at(step)) for step in (0, 99, 100)] == [1.0, 1.0, 1.0]


@given(st.floats(0, 1), st.integers(0, 999))
def test_linear_decay_is_positive_and_never_rises(start, step):
    now, later = linear_decay(start, at(step, 1000)), linear_decay(start, at(step + 1, 1000))
    assert 0 <= later <= now <= 1
    assert now > 0


def test_linear_warmup():
    assert [linear_warmup(0.2, at(step)) for step in (0, 10, 20, 90)] == [0.0, 0.5, 1.0, 1.0]
    assert linear_warmup(0.0, at(0)) == 1.0


@pytest.mark.parametrize(
    ("ttur", "factors"),
    [
        ("none", (1.0, 1.0)),
        ("double_gen_enc", (2.0, 1.0)),
        ("half_discr", (1.0, 0.5)),
        (4, (4.0, 1.0)),
        (0.25, (0.25, 1.0)),
    ],
)
def test_ttur(ttur, factors):
    assert ttur_factors(OptimizerSettings(ttur=ttur)) == factors


def test_learning_rates_of_all_networks():
    """TTUR, the content discriminator's share and the decay, multiplied."""
    model = tiny.model(optimizer={"learning_rate": 1e-3, "ttur": "half_discr"})
    assert model.learning_rates(at(75)) == pytest.approx(
        {"translator": 5e-4, "discriminator": 2.5e-4, "content_discriminator": 1e-4}
    )
    doubled = tiny.model(optimizer={"ttur": "double_gen_enc"}, content_discriminator=None)
    assert doubled.learning_rates(at(0)) == pytest.approx({"translator": 2e-4, "discriminator": 1e-4})


@given(st.floats(0, 0.9999), st.integers(0, 5000))
def test_averaging_forgets_the_weights_before_training_and_ends_at_the_decay_asked_for(decay, step):
    """Of the weights before training, the product of all decays is left: nothing after the first step."""
    assert ema_decay(decay, at(0)) == 0
    assert 0 <= ema_decay(decay, at(step)) <= decay
    assert ema_decay(0.9, at(1000)) == pytest.approx(0.9)
