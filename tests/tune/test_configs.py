"""Every sweep that is shipped can begin, and what one of them found can be trained."""

from pathlib import Path

import pytest

from cluster.config import load
from tune.config import load_sweep
from tune.experiments import check_objectives, prepare
from tune.study import Assignment

REPOSITORY = Path(__file__).parents[2]
SHIPPED = sorted((REPOSITORY / "tune" / "configs").glob("*.yaml"))


def test_the_sweeps_of_the_issue_are_there():
    assert {path.stem for path in SHIPPED} >= {"gumbel", "loss_weights", "ttur", "full", "demo"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_can_begin(path):
    sweep = load_sweep(path)
    recipe = prepare(sweep)
    check_objectives(recipe, labelled=True)
    assert recipe.default.keys() == sweep.space.keys(), "the base takes part in all that is searched"
    first = recipe.experiment(Assignment(0, recipe.default))
    assert first.model == recipe.base.model
    assert first.train.steps == sweep.budget.steps
    assert f"python -m tune run tune/configs/{path.name}" in path.read_text(), "the header has its command"


def test_full_searches_what_the_others_are_about():
    space = load_sweep(REPOSITORY / "tune" / "configs" / "full.yaml").space
    sections = {path.rsplit(".", 1)[0] for path in space}
    assert {"model.gumbel", "model.loss", "model.optimizer"} <= sections
    assert "model.optimizer.ttur" in space


def test_what_the_hour_found_is_an_experiment():
    found = load(REPOSITORY / "docs" / "full_best.yaml")
    base = prepare(load_sweep(REPOSITORY / "tune" / "configs" / "full.yaml")).base
    assert found.model != base.model
    assert (found.data, found.train.steps) == (base.data, base.train.steps)
