"""What the commands of this room do."""

import yaml
from rich.console import Console

from cluster.driver import check_devices, with_absolute_paths
from cluster.run_folder import RunFolder, make_folder
from data_shards.loader import Loader
from gmvae_drit.build import check_domains
from tune.board import Board
from tune.config import Sweep, located
from tune.driver import search
from tune.experiments import Recipe, drawn, prepare
from tune.space import labels
from tune.storage import study_storage
from tune.study import DEFAULT, SweepStudy, create_study

EXAMPLES = 5
"""Trials that a dry run shows."""


def run(sweep: Sweep) -> int:
    """Search, or go on; the exit code. Raises what a user can act on."""
    sweep = located(sweep)
    recipe = prepare(sweep)
    _check_data(recipe)
    folder = RunFolder(sweep.sweep.storage, sweep.sweep.name)
    make_folder(folder.root, "sweep.storage")
    study = open_study(recipe)
    folder.write(folder.root / "sweep.yaml", sweep.to_yaml().encode())
    folder.write(folder.root / "base.yaml", recipe.base.to_yaml().encode())
    return search(study, recipe, Board(sweep, study), sweep.budget.hours)


def show(sweep: Sweep) -> int:
    """A dry run: what a trial would be."""
    recipe = prepare(located(sweep))
    _check_data(recipe)
    console = Console(soft_wrap=True, highlight=False)
    console.print("The first trial, the base itself:")
    console.print(yaml.safe_dump(recipe.base.model_dump(mode="json"), sort_keys=False), markup=False)
    console.print(
        f"Others change, for example (drawn at random; there will be {sweep.budget.trials} in all):"
    )
    for values in drawn(recipe.sweep, EXAMPLES):
        console.print(f"  {', '.join(f'{path}={value}' for path, value in values.items())}", markup=False)
    return 0


def open_study(recipe: Recipe) -> SweepStudy:
    """The study of a sweep, with the base itself as the first trial. Raises RunError."""
    sweep = recipe.sweep
    base = recipe.base.model_dump(mode="json", exclude={"run": {"name", "storage"}, "scaling": True})
    optuna_study = create_study(sweep, base, sweep.sweep.name, study_storage(sweep))
    study = SweepStudy(sweep, optuna_study, sweep.budget.trials)
    if not any(DEFAULT in trial.user_attrs for trial in optuna_study.get_trials(deepcopy=False)):
        study.enqueue(labels(sweep.space, recipe.default), **{DEFAULT: True})
    return study


def _check_data(recipe: Recipe) -> None:
    check_devices(recipe.base.scaling)
    data = with_absolute_paths(recipe.base).data
    loader = Loader(data, seed=0, world_size=recipe.base.scaling.workers)
    try:
        check_domains(recipe.base.model, loader.domains)
    finally:
        loader.close()
