"""The settings of a sweep: what is searched, what counts as good, how much it may cost.

Free of torch, Ray and Optuna, so that `--help` and faults are fast.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from cluster.config import RunName, override, read_yaml
from cluster.errors import ConfigError
from cluster.faults import describe_faults
from data_shards.config import StoreUri
from gmvae_drit.config import Settings
from tune.space import Parameter

OWNED = ("run", "scaling", "train.steps", "train.evaluate_every")
"""What a trial's parameters may not touch: the sweep decides it, or it must be the same for all trials."""


def _a_study_we_can_name(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme.partition("+")[0] not in ("sqlite", "postgresql"):
        raise ValueError("write postgresql://USER@HOST/DATABASE or sqlite:///FILE")
    if parts.password:
        raise ValueError("a password does not belong in a file: leave it out and set PGPASSWORD")
    return url


class SweepSettings(Settings):
    """Which sweep this is and where it is kept."""

    name: Annotated[RunName, Field(max_length=80)]
    """Name of the sweep, of its folder and of its Optuna study. The same name goes on with the sweep."""
    storage: StoreUri = "sweeps"
    """Where the folders of sweeps are kept: a folder that all workers see, or `s3://bucket/prefix`."""
    study: Annotated[str, AfterValidator(_a_study_we_can_name)] | None = None
    """SQLAlchemy URL of the database that holds the study, such as postgresql://user@host/database, with the password
    in PGPASSWORD; null is the SQLite file study.db in the sweep's folder, which a bucket cannot hold."""
    seed: NonNegativeInt = 0
    """Seed of the search; those of training are `run.seed` of the base."""

    @model_validator(mode="after")
    def _a_bucket_holds_no_database(self) -> "SweepSettings":
        if self.study is None and "://" in self.storage:
            raise ValueError(
                f"storage = {self.storage} cannot hold a database: set sweep.study to "
                f"postgresql://USER@HOST/DATABASE"
            )
        return self


class Objective(Settings):
    """A held-out figure that trials are compared by, as it is after the last step."""

    metric: str
    """Name without `held_out/`, such as kid, diversity, label_kept, cycle."""
    goal: Literal["min", "max"]
    """Which end is good."""


class Budget(Settings):
    """How much the search may cost. What ends first ends it."""

    trials: PositiveInt
    """Trials in all, the base's own settings among them."""
    steps: PositiveInt
    """Steps of a trial that is not ended early; schedules stretch to them."""
    hours: Annotated[float, Field(gt=0)] | None = None
    """Wall time of the sweep over all its starts; trials under way are stopped with a checkpoint. null: no end."""
    failures: PositiveInt = 5
    """Trials in a row that may fail; more than one setting is to blame then, so the sweep stops before it has wasted
    its trials."""


class SamplerSettings(Settings):
    """What proposes the parameters of a trial."""

    kind: Literal["tpe", "random"] = "tpe"
    """`tpe`: multivariate tree-structured Parzen estimator (arXiv:2304.11127, section 3), told of trials under way;
    `random`: the baseline."""
    startup: NonNegativeInt = 10
    """Trials proposed at random before TPE begins."""


class PrunerSettings(Settings):
    """Asynchronous successive halving (ASHA, arXiv:1810.05934): a trial that is not among the best 1 / `factor` of
    those that came as far is ended, after `min_steps`, `min_steps` * factor, `min_steps` * factor^2, … steps."""

    min_steps: PositiveInt
    """Steps of every trial before the first such look."""
    factor: Annotated[int, Field(ge=2)] = 3
    """One of so many trials goes on at each look."""


class ConfirmSettings(Settings):
    """Trials run again with fresh seeds by `report --confirm`, beside the base's own settings."""

    top: PositiveInt = 2
    """Best trials that are run again."""
    seeds: Annotated[int, Field(ge=2)] = 3
    """Runs of each, with the seeds after `run.seed` of the base."""


class Sweep(Settings):
    """Everything that decides what a sweep does."""

    sweep: SweepSettings
    base: str
    """Experiment that trials start from, a YAML file of `python -m cluster train`; relative to the sweep's file."""
    fixed: Mapping[str, object] = {}
    """Settings of all trials that differ from the base, by dotted path; also `scaling.*`, what a trial runs on."""
    space: Mapping[str, Parameter]
    """What is searched, by dotted path. The base's own value must lie within: it is the first trial."""
    objectives: tuple[Objective, ...]
    """One, or several that are weighed against each other as a Pareto front."""
    budget: Budget
    concurrency: PositiveInt | None = None
    """Trials at the same time, at most; null is as many as the machine or the cluster has room for at the start."""
    sampler: SamplerSettings = SamplerSettings()
    pruner: PrunerSettings | None = None
    """null lets every trial run to its end. Needs a single objective."""
    confirm: ConfirmSettings = ConfirmSettings()

    @property
    def folder(self) -> str:
        """Place of everything that belongs to the sweep, without options of the storage."""
        return f"{self.sweep.storage.partition('?')[0].rstrip('/')}/{self.sweep.name}"

    @property
    def trials_storage(self) -> str:
        """`run.storage` of the trials."""
        _, question, options = self.sweep.storage.partition("?")
        return f"{self.folder}/trials{question}{options}"

    def to_yaml(self) -> str:
        """The resolved settings, every default spelled out."""
        return yaml.safe_dump(
            self.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
        )

    @model_validator(mode="after")
    def _parts_agree(self) -> "Sweep":
        metrics = [objective.metric for objective in self.objectives]
        if not metrics:
            raise ValueError("objectives: name at least one")
        if len(set(metrics)) < len(metrics):
            raise ValueError(f"objectives: {', '.join(metrics)}: each metric once")
        if self.pruner is not None:
            if len(metrics) > 1:
                raise ValueError(
                    "pruner: trials can be ended early by one objective only; set pruner to null"
                )
            if self.pruner.min_steps >= self.budget.steps:
                raise ValueError(
                    f"pruner.min_steps = {self.pruner.min_steps}: must be less than budget.steps = {self.budget.steps}"
                )
        if not self.space:
            raise ValueError("space: name at least one parameter")
        taken = [path for path in self.space if path in self.fixed]
        owned = [
            *(path for path in self.space if _is_in(path, OWNED)),
            *(path for path in self.fixed if _is_in(path, ("run.name", "run.storage", "train.steps"))),
        ]
        if taken:
            raise ValueError(f"space: {', '.join(taken)}: also in `fixed`; leave it in one of them")
        if owned:
            raise ValueError(f"{', '.join(owned)}: decided by the sweep, not by `space` or `fixed`")
        for position, (path, parameter) in enumerate(self.space.items()):
            unknown = [key for key in parameter.when if key not in list(self.space)[:position]]
            if unknown:
                raise ValueError(f"space.{path}.when: {', '.join(unknown)}: not a parameter before this one")
            for key, allowed in parameter.when.items():
                for value in allowed:
                    if not self.space[key].contains(value):
                        raise ValueError(f"space.{path}.when: {key}: {value} is not among its values")
        return self


def _is_in(path: str, sections: tuple[str, ...]) -> bool:
    return any(path == section or path.startswith(section + ".") for section in sections)


def load_sweep(path: str | Path, overrides: Mapping[str, object] | None = None) -> Sweep:
    """Read a sweep from a YAML file; ``overrides`` by dotted path, such as ``{"budget.trials": 8}`` or
    ``{"fixed.data.uri": "s3://bucket/digits"}``.

    `base` becomes a path from the working directory. Raises ConfigError with one line per fault.
    """
    raw = read_yaml(Path(path), Sweep)
    for key, value in (overrides or {}).items():
        # Within `fixed` and `space` the paths of an experiment are keys.
        override(raw, key, value, dots=1 if key.startswith(("fixed.", "space.")) else -1)
    if isinstance(raw.get("base"), str):
        raw["base"] = str(Path(path).parent / raw["base"])
    try:
        return Sweep.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(describe_faults(error, raw, Sweep.model_json_schema())) from error


def located(sweep: Sweep) -> Sweep:
    """With an absolute folder: workers may have another working directory."""
    settings = sweep.sweep
    if "://" in settings.storage:
        return sweep
    settings = settings.model_copy(update={"storage": str(Path(settings.storage).absolute())})
    return sweep.model_copy(update={"sweep": settings})
