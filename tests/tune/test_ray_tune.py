"""Ray Tune with trials that cost nothing: the study hears of every end, and nothing stays in Ray."""

import json
import os
import secrets
import subprocess
import sys

import optuna
import pytest

from cluster import ray_session
from tune import driver
from tune.search import DIED
from tune.study import REASON

from ..conftest import REPOSITORY
from .curves import DIES, DIES_ONCE, FAILS, STEPS, UNFIT, search, toy_sweep, trials_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """(what the script told, the trials of each sweep)."""
    folder = tmp_path_factory.mktemp("ray")
    words = [sys.executable, "-m", "tests.tune.toy_on_ray", str(folder)]
    # Read when Ray and Tune are imported, which a module of trials does first of all.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = os.environ | ray_session.QUIET | driver.QUIET | token
    done = subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    storage = f"sqlite:///{folder}/study.db"
    studies = {name: optuna.load_study(study_name=name, storage=storage) for name in told}
    return told, studies


def test_all_trials_end_so_many_at_a_time_and_nothing_is_left(swept):
    told, studies = swept
    for name, most in (("single", 1), ("pairs", 2)):
        sweep = told[name]
        assert (sweep["code"], sweep["most"], sweep["live"], sweep["left"]) == (0, most, 0, [])
        assert sweep["groups"] >= most, "there was something to leave"
        study = studies[name]
        assert [trial.number for trial in study.trials] == list(range(12))
        assert all(trial.state.is_finished() for trial in study.trials)


def test_one_at_a_time_is_the_sweep_without_ray(swept):
    """The same proposals, verdicts, figures and states: trials that ended early are PRUNED, at the step they were."""
    _, studies = swept
    sweep = toy_sweep(sweep={"name": "single", "seed": 3}, budget={"trials": 12, "steps": STEPS})
    plain = search(sweep, optuna.storages.InMemoryStorage())
    ours = [
        (t.number, t.state.name, t.params, t.values, t.intermediate_values) for t in studies["single"].trials
    ]
    assert ours == trials_of(plain)
    states = [state for _, state, *_ in ours]
    assert states.count("PRUNED") >= 4
    assert states.count("COMPLETE") >= 2


def test_ends_of_all_kinds_reach_the_study(swept):
    _, studies = swept
    trials = studies["pairs"].trials
    failed = {trial.number: trial.user_attrs[REASON] for trial in trials if trial.state.name == "FAIL"}
    assert failed == {DIES: DIED, FAILS: "out of luck", UNFIT: "a: does not go with b; c: neither"}
    assert trials[DIES_ONCE].state.name in ("COMPLETE", "PRUNED"), "it was started again"


def test_when_the_time_is_over_trials_under_way_are_left_to_go_on(swept):
    told, studies = swept
    assert (told["late"]["code"], told["late"]["left"]) == (0, [])
    states = [trial.state.name for trial in studies["late"].trials]
    assert len(states) < 12
    assert states[-1] == "RUNNING"
    assert set(states) <= {"RUNNING", "COMPLETE", "PRUNED"}
