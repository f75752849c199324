"""Figures of the report against a second computation of them."""

import csv
import io
import itertools
import math

import numpy as np
import optuna
import pandas
import pytest
from scipy import stats

from cluster.config import load
from cluster.errors import RunError
from tune.config import Objective
from tune.report.best import choose
from tune.report.charts import complete_trials, fanova, ped_anova
from tune.report.confirmation import BETTER, NOT_SHOWN, Sample, compare, read_confirmation
from tune.report.names import short_labels, short_names
from tune.report.page import write_report
from tune.report.results import read_results
from tune.report.standing import by_rank_sum, front
from tune.report.table import trials_csv
from tune.report.view import on_grid, one_objective
from tune.space import labels
from tune.study import OF

from .by_hand import DEFAULTS, HOSTILE, KID, SPACE, STEPS, begin, confirmation, drive, folder_of, sweep_of

LOW, HIGH = Objective(metric="kid", goal="min"), Objective(metric="diversity", goal="max")


def chosen(sweep, study, confirm=None, folder=None):
    results = read_results(folder or folder_of(sweep), sweep, study)
    return choose(sweep, results, read_confirmation(sweep, confirm, results))


def test_short_names_tell_apart_what_they_must():
    assert short_names(["a.lr", "b.lr", "c.d.k", "lr"]) == {
        "a.lr": "a.lr",
        "b.lr": "b.lr",
        "c.d.k": "k",
        "lr": "lr",
    }
    assert short_names(["a.x.lr", "b.x.lr", "x.lr"]) == {
        "a.x.lr": "a.x.lr",
        "b.x.lr": "b.x.lr",
        "x.lr": "x.lr",
    }


def test_short_labels_stay_different():
    long = ["{width: 16, residual_blocks: 1}", "{width: 16, residual_blocks: 2}", "x"]
    labels = short_labels(long)
    assert list(labels) == long
    assert len(set(labels.values())) == 3
    assert labels["x"] == "x"


@pytest.mark.parametrize("goal", ["min", "max"])
@pytest.mark.parametrize(
    ("one", "default"),
    [
        ((1.0, 1.1, 0.9), (2.0, 2.2, 1.8)),
        ((1.0, 3.0, 2.0), (2.0, 2.2, 1.8)),
        ((1.5, 1.4), (1.0, 1.9, 1.7, 1.2)),
    ],
)
def test_a_comparison_is_that_of_numpy_and_scipy(goal, one, default):
    objective = Objective(metric="kid", goal=goal)
    got = compare(objective, Sample(one), Sample(default))
    assert got.difference == pytest.approx(np.mean(one) - np.mean(default))
    v1, v2 = (np.var(x, ddof=1) / len(x) for x in (one, default))
    t = (np.mean(one) - np.mean(default)) / math.sqrt(v1 + v2)
    freedom = (v1 + v2) ** 2 / (v1**2 / (len(one) - 1) + v2**2 / (len(default) - 1))
    assert got.p == pytest.approx(2 * stats.t.sf(abs(t), freedom))
    gained = got.difference if goal == "max" else -got.difference
    is_better = gained > max(np.std(one, ddof=1), np.std(default, ddof=1))
    assert got.verdict == (BETTER if is_better else NOT_SHOWN)


def test_a_single_seed_and_seeds_without_spread_have_no_p():
    assert compare(LOW, Sample((1.0,)), Sample((2.0, 2.1))).verdict == NOT_SHOWN
    assert compare(LOW, Sample((1.0,)), Sample((2.0, 2.1))).p is None
    same = compare(LOW, Sample((1.0, 1.0)), Sample((2.0, 2.0)))
    assert (same.verdict, same.p) == (BETTER, None)


def test_the_front_and_rank_sums_are_those_of_counting():
    random = np.random.default_rng(0)
    points = {n: tuple(random.integers(0, 9, 2).astype(float)) for n in range(40)}
    expected = [
        n
        for n, (a, b) in points.items()
        if not any(c <= a and d >= b and (c, d) != (a, b) for c, d in points.values())
    ]
    assert front([LOW, HIGH], points) == expected
    ranks = stats.rankdata([p[0] for p in points.values()], "min") + stats.rankdata(
        [-p[1] for p in points.values()], "min"
    )
    first = by_rank_sum([LOW, HIGH], points, points.values())[0]
    assert first in expected
    assert ranks[first] == min(ranks[n] for n in expected)


def test_the_front_is_optunas(two):
    results = read_results(two.folder, two.sweep, two.study)
    complete = {r.number: r.values for r in results if r.values}
    assert front(two.sweep.objectives, complete) == sorted(t.number for t in two.study.best_trials)


def test_what_matters_comes_first(tmp_path):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    study.optimize(
        lambda t: (
            t.suggest_float("a.decides", 0, 1) ** 2
            + 0.05 * t.suggest_float("a.little", 0, 1)
            + 0 * len(t.suggest_categorical("b.nothing", ["x", "yy"]))
        ),
        60,
    )
    shown = one_objective(study, 0, {"a.decides": "decides", "a.little": "little", "b.nothing": "nothing"})
    for importances in (fanova(shown), ped_anova(shown)):
        assert next(iter(importances)) == "decides"
        assert importances["decides"] > 0.7
        assert sum(importances.values()) == pytest.approx(1)


def test_trials_ended_early_count_as_not_good(tmp_path):
    """Nine complete trials do not tell, forty that were ended early for their `decides` do."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for _ in range(60):
        trial = study.ask()
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        if x > 0.12:
            trial.report(-5.0, 1)  # a value that would look best
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, x + 0.01 * y)
    shown = one_objective(study, 0, {"x": "x", "y": "y"})
    assert len(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))) < 10
    assert fanova(shown) is None
    assert ped_anova(shown)["x"] > 0.8


def test_the_view_keeps_numbers_values_and_directions(two):
    names = short_names(two.sweep.space)
    shown = one_objective(two.study, 1, names)
    assert shown.direction == optuna.study.StudyDirection.MAXIMIZE
    assert {t.number: t.values[1] for t in two.complete} == {
        t.number: t.value for t in shown.trials if t.state == optuna.trial.TrialState.COMPLETE
    }
    trial = two.complete[-1]
    assert shown.trials[trial.number].params["components"] == trial.params["model.mixture.components"]


def test_a_grid_moves_numbers_by_half_a_step_at_most(one):
    shown = one_objective(one.study, 0, short_names(one.sweep.space))
    coarse = on_grid(shown, 20).trials
    trials = complete_trials(shown)
    assert [t.value for t in coarse] == [t.value for t in trials]
    moved = [
        math.log(c.params["learning_rate"] / t.params["learning_rate"])
        for c, t in zip(coarse, trials, strict=True)
    ]
    assert 0 < max(map(abs, moved)) <= math.log(1e3) / 40 + 1e-9
    assert (
        len({round(20 * math.log(t.params["learning_rate"] / 1e-5, 1e3), 6) % 1 for t in coarse} - {0, 1})
        == 0
    )
    assert [t.params["components"] for t in coarse] == [t.params["components"] for t in trials]


def test_the_table_reads_back(one):
    results = read_results(one.folder, one.sweep, one.study)
    frame = pandas.read_csv(io.StringIO(trials_csv(one.sweep, results)))
    assert list(frame.columns) == ["number", "state", *SPACE, "kid", "step", "seconds", "reason"]
    assert list(frame.number) == [t.number for t in one.study.trials]
    for trial in one.study.trials:
        row = frame.iloc[trial.number]
        assert row.step == max(trial.intermediate_values)
        assert row.kid == pytest.approx(trial.intermediate_values[row.step])
        for path in SPACE:
            assert row[path] == trial.params[path] if path in trial.params else pandas.isna(row[path])
    failed = frame[frame.state == "failed"]
    assert set(failed.reason) <= {HOSTILE, "loss is NaN"}
    assert frame.reason.notna().sum() == len(failed) > 0


def test_steps_of_several_objectives_come_from_the_rows(two):
    rows = list(
        csv.DictReader(io.StringIO(trials_csv(two.sweep, read_results(two.folder, two.sweep, two.study))))
    )
    assert [row["step"] for row in rows if row["state"] == "complete"] == [str(STEPS)] * len(two.complete)
    assert {row["step"] for row in rows if row["state"] == "failed"} == {"300"}


def test_the_best_of_the_search_is_optunas(one):
    assert chosen(one.sweep, one.study, folder=one.folder).result.number == one.study.best_trial.number


def test_best_yaml_is_the_base_with_the_best_values(one):
    page, table, best = write_report(*one.arguments)
    assert (page.name, table.name, best.name) == ("report.html", "trials.csv", "best.yaml")
    experiment, base = load(best), load(one.folder.root / "base.yaml")
    trial = one.study.best_trial
    assert experiment.run.name == "by-hand-best"
    assert experiment.run.storage == "elsewhere"
    assert experiment.model.optimizer.learning_rate == trial.params["model.optimizer.learning_rate"]
    assert experiment.model.mixture.components == trial.params["model.mixture.components"]
    assert experiment.model.generator.kind == trial.params["model.generator.kind"]
    assert experiment.train == base.train
    head = best.read_text().partition("\nrun:")[0]
    assert f"trial {trial.number} of 38" in head
    assert "Confirmed with 3 fresh seeds" in head
    assert f"of the base: {BETTER}" in head
    assert f"python -m cluster train {best}" in head
    assert all(line.startswith("#") for line in head.strip().splitlines())


def test_without_confirmation_the_header_says_so(two, tmp_path):
    best = write_report(*two.arguments, out=tmp_path / "elsewhere")[2]
    head = best.read_text().partition("\nrun:")[0]
    assert "Confirmation with fresh seeds: not done." in head
    assert "Pareto front of kid (min) and diversity (max), the one with the best sum of ranks" in head
    assert load(best).run.name == "by-hand-best"


@pytest.mark.parametrize(
    ("default", "other", "expected"),
    [
        ((0.5, 0.6), (0.3, 0.4), 3),
        ((0.3, 0.4), (0.5, 0.6), 0),
        ((0.3, 0.4, None), (0.5, 0.6, 0.7), 0),
        ((0.5, 0.6), (0.3, None), 2),
    ],
)
def test_fresh_seeds_overrule_the_search(tmp_path, default, other, expected):
    """Trial 2 is best in the search; with fresh seeds another is, the base among them; one seed does not tell."""
    sweep = sweep_of(tmp_path)
    driven = begin(sweep)
    kids = iter([0.4, 0.9, 0.1, 0.2])
    for _ in range(4):
        number, value = driven.next().number, next(kids)
        driven.report(number, STEPS, {"kid": value})
        driven.complete(number, 1.0)
    runs = {0: default, 3: other} | ({2: (0.55, 0.65)} if other[1] else {})
    confirm = confirmation(sweep, {n: [[v] if v else None for v in values] for n, values in runs.items()})
    best = chosen(sweep, driven.optuna, confirm)
    assert best.result.number == expected
    path = write_report(folder_of(sweep), sweep, driven.optuna, confirm)[2]
    if expected == 0:
        assert "These are the base's own settings: nothing beat them." in path.read_text()
        assert load(path).model == load(folder_of(sweep).root / "base.yaml").model
    assert ("does not tell yet" in path.read_text()) == (other[1] is None)


def test_runs_of_an_unknown_trial_are_left_out(tmp_path):
    sweep = sweep_of(tmp_path)
    driven = begin(sweep)
    drive(driven, folder_of(sweep), 2)
    results = read_results(folder_of(sweep), sweep, driven.optuna)
    confirm = confirmation(sweep, {0: [[0.1], [0.2]], 77: [[0.1]]})
    assert [c.result.number for c in read_confirmation(sweep, confirm, results)] == [0]
    assert confirm.trials[0].user_attrs[OF] == 0


@pytest.mark.parametrize("trials", [0, 3])
def test_without_a_complete_trial_there_is_a_page_and_one_line(tmp_path, trials):
    sweep = sweep_of(tmp_path, KID)
    folder, driven = folder_of(sweep), begin(sweep)
    drive(driven, folder, trials, failing=range(trials))
    with pytest.raises(
        RunError, match=r"sweep by-hand: no trial has completed, so none is best; see \S+report.html"
    ) as error:
        write_report(folder, sweep, driven.optuna)
    assert "\n" not in str(error.value)
    assert not (folder.root / "best.yaml").exists()
    assert len((folder.root / "trials.csv").read_text().splitlines()) == max(trials, 1) + 1


def test_every_value_of_the_space_is_an_experiment(tmp_path):
    """What the table calls by a label becomes the value again."""
    sweep = sweep_of(tmp_path)
    folder = folder_of(sweep)
    contents = SPACE["model.content"]["choice"]
    for kind, content in itertools.product(SPACE["model.generator.kind"]["choice"], contents):
        driven = begin(sweep)
        trial = driven.next()
        assert trial.values == DEFAULTS
        driven.fail(trial.number, "not wanted", 1.0)
        values = DEFAULTS | {"model.generator.kind": kind, "model.content": content}
        driven.optuna.enqueue_trial(labels(sweep.space, values))
        number = driven.next().number
        driven.report(number, STEPS, {"kid": 1.0})
        driven.complete(number, 1.0)
        experiment = load(write_report(folder, sweep, driven.optuna)[2])
        assert experiment.model.generator.kind == kind
        assert experiment.model.content.residual_blocks == content["residual_blocks"]
