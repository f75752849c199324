"""Short curves, round ticks, and the numbers on axes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.report.curves import MAX_POINTS, Mark, Panel, Series, draw
from cluster.report.decimate import evenly, keep, smooth
from cluster.report.scale import fit, number, tick

VALUES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=400)


@given(VALUES, st.integers(5, 100))
def test_a_short_curve_keeps_ends_extremes_and_holes(values, limit):
    kept = keep(values, limit)
    assert len(kept) <= max(limit, 5)
    assert kept == sorted(set(kept))
    assert {0, len(values) - 1} <= set(kept)
    present = [value for value in values if value is not None]
    shown = [values[index] for index in kept if values[index] is not None]
    assert not present or (min(shown), max(shown)) == (min(present), max(present))
    assert (None in values) == (None in [values[index] for index in kept])


def test_every_one_of_many_spikes_survives():
    draws = random.Random(0)
    values = [draws.random() for _ in range(100_000)]
    spikes = range(500, 100_000, 1000)
    for index in spikes:
        values[index] = 50.0
    assert set(spikes) <= set(keep(values, MAX_POINTS))


def test_smooth_is_the_mean_of_what_is_there():
    assert smooth([1.0, None, 3.0, 5.0], 2) == [1.0, 2.0, 4.0, 4.0]
    assert smooth([None, None], 2) == [None, None]


@pytest.mark.parametrize(("count", "limit"), [(1, 12), (12, 12), (13, 12), (50, 12), (1000, 12)])
def test_evenly_has_both_ends(count, limit):
    chosen = evenly(count, limit)
    assert len(chosen) == min(count, limit)
    assert (chosen[0], chosen[-1]) == (0, count - 1)


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20), st.booleans())
def test_an_axis_holds_its_values_and_its_ticks(values, may_log):
    scale = fit(values, 100, 0, may_log)
    assert scale.low <= min(values) <= max(values) <= scale.high
    ticks = scale.ticks(4)
    assert 1 <= len(ticks) <= 11
    assert all(scale.low * (1 - 1e-6) <= value <= scale.high * (1 + 1e-6) for value in ticks)
    assert scale(scale.low) == 100
    assert scale(scale.high) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (0.5, "0.5"), (2500, "2.5k"), (1.5e6, "1.5M"), (1e-5, "1e-5"), (-20, "-20")],
)
def test_ticks_are_short(value, written):
    assert tick(value) == written


@pytest.mark.parametrize(
    ("value", "written"), [(None, "not finite"), (0.12345, "0.123"), (1234.5, "1,234"), (2e-7, "2e-7")]
)
def test_numbers_have_three_digits(value, written):
    assert number(value) == written


def test_a_missing_value_breaks_the_line_and_leaves_a_cross():
    svg = draw(Panel("kl", [Series("kl", [1, 2, 3], [1.0, None, 3.0])]), [], 3).svg
    line = svg.split('class="line s0" d="')[1].split('"')[0]
    assert line.count("M") == 2
    assert svg.count('class="nan"') == 1


def test_marks_lie_at_their_steps():
    chart = draw(
        Panel("kl", [Series("kl", [0, 100], [1.0, 2.0])]), [Mark(50, "lost"), Mark(100, "resume")], 100
    )
    assert 'class="mark lost" d="M198.0 ' in chart.svg
    assert 'class="mark resume" d="M352.0 ' in chart.svg


def test_an_empty_or_constant_curve_draws():
    assert "<svg" in draw(Panel("a", [Series("a", [5], [None])]), [], 5).svg
    assert "<svg" in draw(Panel("a", [Series("a", [0, 0], [0.0, 0.0])]), [], 0).svg
