"""What the commands of this room do."""

from collections.abc import Mapping
from pathlib import Path

import optuna
import typer
import yaml
from optuna.storages import BaseStorage
from rich.console import Console

from cluster.driver import check_devices, with_absolute_paths
from cluster.errors import RunError
from cluster.judge import check_judge, labelled_domains
from cluster.run_folder import RunFolder, make_folder
from data_shards.loader import Loader
from gmvae_drit.build import check_domains
from tune.board import Board
from tune.config import Sweep, load_sweep, located
from tune.confirm import SUFFIX, open_confirmation
from tune.driver import search
from tune.experiments import Recipe, check_objectives, drawn, identity, prepare
from tune.report.page import write_report
from tune.space import labels, shown
from tune.storage import study_storage
from tune.study import DEFAULT, SweepStudy, create_study

SWEEP, BASE = "sweep.yaml", "base.yaml"
"""In the folder of a sweep: its settings, and the experiment that its trials start from."""
EXAMPLES = 5
"""Trials that a dry run shows."""


def run(sweep: Sweep) -> int:
    """Search, or go on; the exit code. Raises what a user can act on."""
    sweep = located(sweep)
    recipe = prepare(sweep)
    _check_data(recipe)
    folder = RunFolder(sweep.sweep.storage, sweep.sweep.name)
    make_folder(folder.root, "sweep.storage")
    with folder.lock():
        study = open_study(recipe)
        # Complete in itself: whoever has the folder, here or on another machine, can go on and report.
        folder.write(folder.root / SWEEP, sweep.model_copy(update={"base": BASE}).to_yaml().encode())
        folder.write(folder.root / BASE, recipe.base.to_yaml().encode())
        code = search(study, recipe, Board(sweep, study), sweep.budget.hours)
    return code or _report(folder, sweep)


def read_sweep(word: str, overrides: Mapping[str, object]) -> Sweep:
    """The sweep of a YAML file, or of the folder or s3:// URI of one that was begun. Raises ClusterError, DataError."""
    if "://" not in word and not Path(word).is_dir():
        return load_sweep(word, overrides)
    folder = RunFolder.at(word)
    if not folder.fetch(folder.root / SWEEP) or not folder.fetch(folder.root / BASE):
        raise RunError(f"{word}: not the folder of a sweep: no {SWEEP}")
    place, question, options = word.partition("?")
    storage = place.rstrip("/").rpartition("/")[0] or ("/" if place.startswith("/") else ".")
    return load_sweep(folder.root / SWEEP, {"sweep.storage": storage + question + options, **overrides})


def report(uri: str, confirm: bool, out: Path | None) -> int:
    """Write what the sweep in a folder found, after it is confirmed if that is wanted; the exit code."""
    sweep = located(read_sweep(uri, {}))
    folder = RunFolder(sweep.sweep.storage, sweep.sweep.name)
    if confirm:
        recipe = prepare(sweep)
        _check_data(recipe)
        with folder.lock():
            search_study = _study(sweep.sweep.name, study_storage(sweep))
            study = open_confirmation(recipe, search_study)
            if code := search(study, recipe.confirming(), Board(study.sweep, study), None):
                return code
    return _report(folder, sweep, out)


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
        console.print(
            f"  {' '.join(f'{path}={shown(value)}' for path, value in values.items())}", markup=False
        )
    return 0


def open_study(recipe: Recipe) -> SweepStudy:
    """The study of a sweep, with the base itself as the first trial. Raises RunError."""
    sweep = recipe.sweep
    study = create_study(sweep, identity(recipe), sweep.sweep.name, study_storage(sweep))
    if not any(DEFAULT in trial.user_attrs for trial in study.get_trials(deepcopy=False)):
        study.enqueue_trial(labels(sweep.space, recipe.default), user_attrs={DEFAULT: True})
    return SweepStudy(sweep, study, sweep.budget.trials)


def _study(name: str, storage: BaseStorage) -> optuna.Study:
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        raise RunError(f"sweep {name}: no study of this name in its storage") from None


def _report(folder: RunFolder, sweep: Sweep, out: Path | None = None) -> int:
    """Write the report, and say where; 1 where no trial completed."""
    storage, confirming = study_storage(sweep), sweep.sweep.name + SUFFIX
    study = _study(sweep.sweep.name, storage)
    confirm = _study(confirming, storage) if confirming in optuna.get_all_study_names(storage) else None
    written = write_report(folder, sweep, study, confirm, out)
    for path in written:
        typer.echo(path)
    return 0


def _check_data(recipe: Recipe) -> None:
    """What only the data and this machine can tell. Raises ClusterError, DataError or ModelError."""
    base = with_absolute_paths(recipe.base)
    check_devices(base.scaling)
    loader = Loader(base.data, seed=0, world_size=base.scaling.workers)
    try:
        check_domains(base.model, loader.domains)
        check_judge(base, loader.domains)
        labelled = len(labelled_domains(base.data, loader.domains)) > 1
    finally:
        loader.close()
    check_objectives(recipe, labelled)
