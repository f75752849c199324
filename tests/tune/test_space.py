"""Parameters of a space: what they propose, what they refuse, how choices are called."""

import math

import optuna
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from pydantic import ValidationError

from tune.space import Parameter, combinations, label, labels, suggest

NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)
PLAIN = st.none() | st.booleans() | st.integers(-999, 999) | NUMBERS | st.text("abcdef: -,'#", max_size=8)
VALUES = PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.text("xyz", min_size=1), PLAIN, max_size=3)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def parameters(draw):
    kind = draw(st.sampled_from(["uniform", "loguniform", "int", "choice"]))
    if kind == "choice":
        given_values = draw(st.lists(VALUES.filter(lambda v: not isinstance(v, str)), min_size=2, max_size=5))
        return Parameter(
            choice=list({label(value): value for value in [*given_values, "one", "other"]}.values())
        )
    numbers = {"uniform": NUMBERS, "loguniform": st.floats(1e-9, 1e6), "int": st.integers(-1000, 1000)}[kind]
    low, high = sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
    return Parameter(**{kind: (low, high)})


def fault(**parts):
    with pytest.raises(ValidationError) as told:
        Parameter(**parts)
    (one,) = told.value.errors()
    return one["msg"]


@quick
@given(parameters(), st.integers(0, 2**31))
def test_what_is_proposed_lies_within(parameter, seed):
    study = optuna.create_study(sampler=RandomSampler(seed))
    for _ in range(3):
        value = parameter.suggest(study.ask(), "x")
        assert parameter.contains(value)
        if parameter.int:
            assert isinstance(value, int)


@quick
@given(VALUES)
def test_a_label_is_one_line_that_reads_back_as_the_value(value):
    assert "\n" not in label(value)
    assert yaml.safe_load(label(value)) == value


@quick
@given(parameters(), st.integers(0, 2**31))
def test_values_given_to_the_study_come_back_as_they_were(parameter, seed):
    """The base's own values are given so."""
    space = {"x": parameter}
    study = optuna.create_study(sampler=RandomSampler(seed))
    values = suggest(space, study.ask())
    study.enqueue_trial(labels(space, values))
    again = suggest(space, study.ask())
    assert again == values
    assert type(again["x"]) is type(values["x"])


def test_loguniform_gives_each_decade_as_much():
    study = optuna.create_study(sampler=RandomSampler(0))
    parameter = Parameter(loguniform=(1e-6, 1e-2))
    decades = [math.floor(math.log10(parameter.suggest(study.ask(), "x"))) for _ in range(400)]
    assert all(70 < decades.count(decade) < 130 for decade in (-6, -5, -4, -3))


def test_numbers_that_yaml_reads_as_text_are_numbers():
    assert Parameter.model_validate({"choice": ["1e-4", 3e-4, "adain"]}).choice == [1e-4, 3e-4, "adain"]
    assert Parameter.model_validate({"loguniform": ["1e-5", "1e-3"]}).bounds == (1e-5, 1e-3)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({}, "exactly one of uniform, loguniform, int, choice"),
        ({"uniform": (0, 1), "int": (0, 1)}, "exactly one of uniform, loguniform, int, choice"),
        ({"uniform": (1, 0)}, "uniform = [1.0, 0.0]: an empty range"),
        ({"int": (4, 4)}, "int = [4, 4]: an empty range"),
        ({"loguniform": (0, 1)}, "loguniform = [0.0, 1.0]: must be greater than 0"),
        ({"choice": [1, 2, 1]}, "choice = [1, 2, 1]: the same value twice"),
        ({"choice": [1]}, "at least 2 items"),
        ({"uniform": (0, float("nan"))}, "finite"),
        ({"uniform": (0, float("inf"))}, "finite"),
    ],
)
def test_a_wrong_parameter_is_refused_in_one_line(parts, told):
    assert told in fault(**parts)


def test_whether_a_value_lies_within():
    assert Parameter(int=(2, 4)).contains(2)
    assert not Parameter(int=(2, 4)).contains(2.5), "TPE cannot be told of it"
    assert not Parameter(int=(0, 4)).contains(True)
    assert not Parameter(uniform=(0, 1)).contains(None)
    assert not Parameter(uniform=(0, 1)).contains("half")
    assert Parameter(choice=[None, {"a": 1}]).contains({"a": 1})
    assert not Parameter(choice=["1", "2"]).contains(1)


CONDITIONAL = {
    "kind": Parameter(choice=["plain", {"rich": True}]),
    "depth": Parameter(int=(1, 3), when={"kind": [{"rich": True}]}),
    "width": Parameter(uniform=(0, 1), when={"depth": [2, 3], "kind": [{"rich": True}]}),
    "rate": Parameter(loguniform=(1e-4, 1e-2)),
}


def test_a_condition_decides_what_is_searched():
    study = optuna.create_study(sampler=RandomSampler(0))
    seen = set()
    for _ in range(60):
        values = suggest(CONDITIONAL, study.ask())
        seen.add(tuple(values))
        assert "rate" in values
        assert ("depth" in values) == (values["kind"] != "plain")
        assert ("width" in values) == (values.get("depth", 1) > 1)
    assert len(seen) == 3


def test_combinations_show_each_value_beside_what_it_needs():
    tried = list(combinations(CONDITIONAL))
    assert {"kind": "plain"} in tried
    assert {"kind": {"rich": True}, "depth": 3} in tried
    assert {"kind": {"rich": True}, "depth": 2, "width": 1.0} in tried
    for values in tried:
        assert all(CONDITIONAL[path].is_active(values) for path in values)


def test_combinations_follow_conditions_on_conditions():
    space = {
        "a": Parameter(choice=[0, 1]),
        "b": Parameter(choice=[0, 1], when={"a": [1]}),
        "c": Parameter(choice=[0, 1], when={"b": [1]}),
        "d": Parameter(choice=[0, 1], when={"c": [1]}),
    }
    assert {"a": 1, "b": 1, "c": 1, "d": 0} in list(combinations(space))
