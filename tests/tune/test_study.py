"""A study is all that a sweep knows: what dies and goes on is as if nothing had died."""

import json
import math
import subprocess
import sys

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import TrialState

from cluster.errors import RunError
from tune.config import PrunerSettings
from tune.halving import Halving
from tune.study import JUDGED, REASON, SECONDS, SweepStudy, create_study

from ..conftest import REPOSITORY
from .curves import LOOK, SPACE, STEPS, Outside, curve, search, toy_sweep, trials_of
from .dying import dying


class Death(BaseException):
    """In place of a SIGKILL where thousands are tried: nothing may catch it."""


def die():
    raise Death


@pytest.fixture
def storage(tmp_path):
    return RDBStorage(f"sqlite:///{tmp_path}/study.db")


def opened(sweep, storage, trials=None):
    study = create_study(sweep, {}, sweep.sweep.name, storage)
    return SweepStudy(sweep, study, trials or sweep.budget.trials)


def counts(study):
    states = [trial.state.name for trial in study.optuna.get_trials(deepcopy=False)]
    return {state: states.count(state) for state in set(states)}


@pytest.fixture(scope="module")
def undisturbed():
    storage = dying(InMemoryStorage, die)()
    storage.left = 10**6
    study = search(toy_sweep(), storage)
    return trials_of(study), 10**6 - storage.left


def test_the_toy_sweep_has_all_kinds_of_ends(undisturbed):
    trials, _ = undisturbed
    states = [trial[1] for trial in trials]
    assert states.count("PRUNED") >= 2
    assert states.count("COMPLETE") >= 3
    assert [trial[0] for trial in trials] == list(range(8))


@pytest.mark.parametrize("part", range(4))
def test_a_death_before_any_write_changes_nothing(undisturbed, part):
    """Each write of a whole sweep in turn is the first that does not happen."""
    expected, writes = undisturbed
    assert writes > 120
    for write in range(part, writes, 4):
        storage, outside = dying(InMemoryStorage, die)(), Outside()
        storage.left = write
        with pytest.raises(Death):
            search(toy_sweep(), storage, outside)
        storage.left = None
        ended = [trial.number for trial in _finished(storage)]
        before = len(outside.given)
        study = search(toy_sweep(), storage, outside)
        assert trials_of(study) == expected, f"write {write}"
        assert not set(ended) & set(outside.given[before:]), f"write {write}: given out again"


def _finished(storage):
    if not storage.get_all_studies():
        return []
    return [t for t in storage.get_all_trials(0, deepcopy=False) if t.state.is_finished()]


def test_many_deaths_one_after_the_other_change_nothing(undisturbed):
    expected, _ = undisturbed
    storage, outside, deaths = dying(InMemoryStorage, die)(), Outside(), 0
    while True:
        storage.left = 25
        try:
            study = search(toy_sweep(), storage, outside)
        except Death:
            deaths += 1
        else:
            break
    assert deaths > 5
    assert trials_of(study) == expected


@pytest.mark.slow
def test_sigkill_of_the_process_changes_nothing(undisturbed, tmp_path):
    expected, _ = undisturbed
    file = tmp_path / "study.db"
    for writes in (17, 60):
        words = [sys.executable, "-m", "tests.tune.dying", str(file), str(writes)]
        assert subprocess.run(words, cwd=REPOSITORY, timeout=60).returncode == -9
    study = search(toy_sweep(), RDBStorage(f"sqlite:///{file}"))
    assert trials_of(study) == expected


def test_proposals_depend_on_the_seed_alone():
    storage = InMemoryStorage()

    def proposals(name, seed):
        study = search(toy_sweep(sweep={"name": name, "seed": seed}), storage)
        return [trial.params for trial in study.optuna.get_trials()]

    first = proposals("a", 1)
    assert proposals("b", 1) == first
    other = proposals("c", 2)
    assert all(ours != theirs for ours, theirs in zip(first, other, strict=True))
    for name in SPACE:
        assert len({str(params[name]) for params in first}) > 1, "trials differ from each other, too"


def test_trials_at_the_same_time_are_all_given_out_again(storage):
    sweep = toy_sweep()
    first = opened(sweep, storage)
    given = [first.next() for _ in range(3)]
    first.report(given[1].number, LOOK, {"kid": 0.5})
    second = opened(sweep, storage)
    assert [second.next() for _ in range(3)] == given
    assert second.next().number == 3
    assert counts(second) == {"RUNNING": 4}


def test_the_budget_counts_trials_of_all_starts(storage):
    sweep = toy_sweep(budget={"trials": 3, "steps": STEPS})
    search(sweep, storage)
    assert opened(sweep, storage).next() is None
    more = search(toy_sweep(budget={"trials": 5, "steps": STEPS}), storage)
    assert [trial.number for trial in more.optuna.get_trials()] == list(range(5))


def test_given_trials_come_first_and_carry_what_they_were_given(storage):
    sweep = toy_sweep()
    study = create_study(sweep, {}, "toy", storage)
    params = {"rate": 0.01, "weight": 1.0, "decay": 0.1, "kind": "rich", "noise": 0.5}
    study.enqueue_trial(params, user_attrs={"seed": 41})
    given = SweepStudy(sweep, study, 2).next()
    assert (given.number, given.values, given.seed) == (0, params, 41)
    again = opened(sweep, storage, 2)
    assert again.next() == given
    assert again.next().number == 1


def test_whoever_opened_it_last_owns_it(storage):
    """The driver before may still live, on another machine: it must not end trials that are under way again."""
    sweep = toy_sweep()
    first = opened(sweep, storage)
    number = first.next().number
    second = opened(sweep, storage)
    assert second.next().number == number
    for act in (
        first.next,
        lambda: first.report(number, LOOK, {"kid": 1.0}),
        lambda: first.complete(number, 1.0),
        lambda: first.prune(number, 1.0),
        lambda: first.fail(number, "another process has taken this run over", 1.0),
    ):
        with pytest.raises(RunError, match="sweep toy: another process has taken it over"):
            act()
    (trial,) = second.optuna.get_trials()
    assert trial.state == TrialState.RUNNING
    assert REASON not in trial.user_attrs
    assert not trial.intermediate_values
    second.report(number, STEPS, {"kid": 0.5})
    assert second.complete(number, 1.0)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"space": {**SPACE, "noise": {"uniform": [0.0, 2.0]}}}, "space"),
        ({"objectives": [{"metric": "kid", "goal": "max"}]}, "objectives"),
        ({"budget": {"trials": 8, "steps": 30}}, "budget.steps"),
        ({"pruner": {"min_steps": 9}}, "pruner"),
        ({"pruner": None}, "pruner"),
    ],
)
def test_a_sweep_that_changed_is_refused(storage, changes, part):
    search(toy_sweep(budget={"trials": 1, "steps": STEPS}), storage)
    with pytest.raises(RunError, match=rf"sweep toy was begun with another {part}.*use a new sweep\.name"):
        opened(toy_sweep(**changes), storage)


def test_another_base_is_refused_and_more_trials_are_not(storage):
    create_study(toy_sweep(), {"train": {"precision": "fp32"}}, "toy", storage)
    with pytest.raises(RunError, match="begun with another base"):
        create_study(toy_sweep(), {"train": {"precision": "bf16"}}, "toy", storage)
    more = toy_sweep(
        budget={"trials": 80, "steps": STEPS, "hours": 1}, concurrency=3, sampler={"kind": "random"}
    )
    create_study(more, {"train": {"precision": "fp32"}}, "toy", storage)


def test_sweeps_in_one_storage_do_not_mix(storage):
    ours, theirs = (opened(toy_sweep(sweep={"name": name}), storage) for name in ("ours", "theirs"))
    for study in (ours, theirs, ours):
        study.next()
    assert (len(ours.optuna.get_trials()), len(theirs.optuna.get_trials())) == (2, 1)
    again = opened(toy_sweep(sweep={"name": "theirs"}), storage)
    assert [again.next().number, again.next().number] == [0, 1]
    ours.next()  # still the owner of its own


def test_a_failed_trial_has_its_reason_and_the_sweep_goes_on(storage):
    study = opened(toy_sweep(), storage)
    number = study.next().number
    study.report(number, LOOK, {"kid": 0.9})
    study.fail(number, "10 steps in a row with a loss that is no number", 12.0)
    (trial,) = study.optuna.get_trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs[REASON] == "10 steps in a row with a loss that is no number"
    assert trial.user_attrs[SECONDS] == 12.0
    assert study.next().number == 1


@pytest.mark.parametrize("figure", [math.nan, math.inf, None])
def test_a_trial_that_ends_without_a_finite_figure_failed(storage, figure):
    study = opened(toy_sweep(), storage)
    number = study.next().number
    study.report(number, STEPS, {"diversity": 1.0} if figure is None else {"kid": figure})
    assert not study.complete(number, 1.0)
    (trial,) = study.optuna.get_trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs[REASON].startswith("no figure to compare by: kid = ")


def test_a_trial_whose_figure_is_no_number_at_a_look_ends_early(storage):
    study = opened(toy_sweep(), storage)
    for figure in (1.0, math.nan, 0.5):
        number = study.next().number
        if study.report(number, LOOK, {"kid": figure}):
            study.prune(number, 1.0)
    states = [trial.state.name for trial in study.optuna.get_trials()]
    assert states == ["RUNNING", "PRUNED", "RUNNING"], "and the one after it is not compared with it"


def test_several_objectives_are_never_ended_early(storage):
    objectives = [{"metric": "kid", "goal": "min"}, {"metric": "diversity", "goal": "max"}]
    sweep = toy_sweep(objectives=objectives, pruner=None)

    def figures(values, step):
        return {"kid": curve(values, step), "diversity": values["noise"], "cycle": 3.0}

    study = search(sweep, storage, figures=figures)
    trials = study.optuna.get_trials()
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    for trial in trials:
        assert trial.values == pytest.approx([curve(trial.params, STEPS), trial.params["noise"]])
    assert 1 <= len(study.optuna.best_trials) <= len(trials)


def test_another_process_can_read_while_trials_run(storage, tmp_path):
    study = opened(toy_sweep(), storage)
    study.report(study.next().number, LOOK, {"kid": 0.5})
    code = (
        "import json, optuna; s = optuna.load_study(study_name='toy', storage='sqlite:///study.db');"
        "print(json.dumps([[t.state.name, t.params, t.intermediate_values] for t in s.trials]))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    (trial,) = study.optuna.get_trials()
    assert json.loads(told.stdout) == [["RUNNING", trial.params, {str(LOOK): 0.5}]]
    study.report(0, 2 * LOOK, {"kid": 0.4})


def test_the_clock_of_a_sweep_goes_on_over_its_starts(storage):
    assert opened(toy_sweep(), storage).add_seconds(2.5) == 2.5
    assert opened(toy_sweep(), storage).add_seconds(4.0) == 6.5


def test_a_trial_is_noted_and_judged_once_where_it_comes_through_a_step_twice(storage):
    sweep = toy_sweep()
    study = opened(sweep, storage)
    number = study.next().number
    study.report(number, LOOK, {"kid": 0.5})
    study.report(number, 2 * LOOK, {"kid": 0.4})
    for better in (0.3, 0.2, 0.1):
        study.report(study.next().number, LOOK, {"kid": better})
    again = opened(sweep, storage)
    assert again.next().number == number
    assert not again.report(number, LOOK, {"kid": 0.5}), "it was to go on then, whoever came since"
    assert again.optuna.get_trials()[0].user_attrs[JUDGED] == 2 * LOOK


@pytest.mark.parametrize("goal", ["min", "max"])
def test_halving_is_that_of_optuna_where_nothing_dies(goal):
    """The same verdicts on curves that come in any order, but for rungs that a figure skips."""
    sign = 1 if goal == "min" else -1
    pruners = (Halving(PrunerSettings(min_steps=2, factor=3)), optuna.pruners.SuccessiveHalvingPruner(2, 3))
    told = []
    for pruner in pruners:
        study = optuna.create_study(direction="minimize" if goal == "min" else "maximize", pruner=pruner)
        random = np.random.default_rng(1)
        verdicts, live = [], [study.ask() for _ in range(30)]
        steps = dict.fromkeys(range(30), 0)
        while live:
            trial = live[random.integers(len(live))]
            steps[trial.number] += 1
            trial.report(sign * (trial.number % 7 + random.normal()), steps[trial.number])
            if ended := trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
            elif ended := steps[trial.number] == 40:
                study.tell(trial, 1.0)
            verdicts.append((trial.number, steps[trial.number], ended))
            if ended:
                live.remove(trial)
        told.append(verdicts)
    assert told[0] == told[1]
    assert sum(ended for *_, ended in told[0]) == 30
