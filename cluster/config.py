"""The configuration of an experiment, composed from each room's settings.

`load` serves the command line, the sweeps' parameters and the manifests alike, so that they cannot drift.
Free of torch and Ray, so that `--help` and `--print-config` are fast.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from cluster.errors import ConfigError
from cluster.faults import describe_faults
from cluster.judge_settings import JudgeSettings
from data_shards.config import DataSettings, StoreUri
from gmvae_drit.config import Best, GmvaeDritSettings, ModelSettings, Settings, TranslationSettings

RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


class RunSettings(Settings):
    """Which run this is and where it is kept."""

    name: RunName
    """Name of the run and of its folder: letters, digits, `.`, `_`, `-`. The same name resumes the run."""
    storage: StoreUri = "runs"
    """Where the folders of runs are kept: a folder that all workers see, or `s3://bucket/prefix` with the options of
    `data_shards.s3`."""
    seed: NonNegativeInt = 0
    """Seed of weights, sample order, augmentation and noise."""


class TrainSettings(Settings):
    """Length, precision and rhythm of training, and what it bears."""

    steps: PositiveInt
    """Steps of the whole run; schedules stretch to it."""
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    """`bf16` is mixed precision; `auto` takes it where the hardware computes in it."""
    images_per_pass: PositiveInt | None = None
    """Images of each domain that a worker computes at once; of a larger share of the batch, gradients are accumulated
    over several passes. null computes the whole share at once."""
    compile: tuple[str, ...] = ()
    """Networks that torch.compile shall compile, such as [translator]; not one with `r1_weight`, whose gradient is
    differentiated twice. Does not pay on CPUs."""
    deterministic: bool = False
    """On GPUs, use only algorithms that repeat bit for bit, which are slower. CPUs always repeat."""
    log_every: PositiveInt = 50
    """Steps between two rows of metrics, each the mean over these steps."""
    preview_every: NonNegativeInt = 500
    """Steps between two preview pictures; 0 for none."""
    preview_images: PositiveInt = 4
    """Test images of each domain in a preview picture."""
    evaluate_every: NonNegativeInt = 500
    """Steps between two evaluations on test images, whose means are logged as `held_out/NAME`; 0 for none."""
    evaluate_images: PositiveInt = 64
    """Test images of each domain in such an evaluation, at most; the workers share them."""
    judge: JudgeSettings | None = None
    """What these evaluations say of translations drawn from the prior, beside the model's own scalars; null: nothing.
    Costs time: see `features`."""
    checkpoint_every: PositiveInt = 500
    """Steps between two checkpoints: at most so many, and those of one upload, are lost when a worker dies."""
    keep_checkpoints: PositiveInt = 3
    """Newest checkpoints that are kept."""
    best_metric: str | None = None
    """A held-out metric, such as `cycle`, by which the best checkpoint is kept as well, and exported at the end
    instead of the last. Only steps that are evaluated count."""
    best_is: Best = "lowest"
    """Which value of `best_metric` is best."""
    max_skipped_in_a_row: PositiveInt = 10
    """Steps in a row with an infinite or NaN loss or gradient after which the run stops; each is skipped."""
    max_unsaved: PositiveInt = 3
    """Checkpoints in a row that cannot be stored, each after trying for a while, after which the run stops."""
    max_failures: NonNegativeInt = 3
    """Deaths of workers with no new checkpoint between them before the run gives up; each is answered by a restart
    from the last checkpoint. Workers that are asked to leave (SIGTERM) do not count."""
    hang_seconds: Annotated[float, Field(ge=5)] = 600
    """Seconds without any progress after which the workers are restarted, and the one that hangs is named; at least 5,
    and more than the longest step, checkpoint or evaluation takes."""

    @property
    def group_timeout(self) -> int:
        """Seconds of torch.distributed. The watchdog, which knows who hangs, comes before it, which does not."""
        return int(self.hang_seconds * 1.5) + 60

    @model_validator(mode="after")
    def _best_is_measured(self) -> "TrainSettings":
        if self.best_metric is not None and (
            not self.evaluate_every or self.checkpoint_every % self.evaluate_every
        ):
            raise ValueError(
                f"train.best_metric compares checkpoints, but checkpoint_every = {self.checkpoint_every} is not a "
                f"multiple of evaluate_every = {self.evaluate_every}"
            )
        return self

    @model_validator(mode="after")
    def _judge_is_asked(self) -> "TrainSettings":
        if self.judge is not None and not self.evaluate_every:
            raise ValueError("train.judge speaks in evaluations, and evaluate_every = 0 means none")
        return self


class ScalingSettings(Settings):
    """What the run may use."""

    workers: PositiveInt = 1
    """Processes, one model replica each, that share `data.global_batch`; at most one per image of a domain."""
    min_workers: PositiveInt | None = None
    """Makes the run elastic: it goes on with fewer workers, down to this number, where nodes are lost, and takes more
    again when they come back. null waits for all of them."""
    use_gpu: bool = False
    """One GPU per worker."""
    threads: PositiveInt = 1
    """CPU threads per worker, and the cores Ray sets aside for it."""

    @property
    def cpus(self) -> int:
        """Cores of all workers."""
        return self.workers * self.threads

    @property
    def gpus(self) -> int:
        """GPUs of all workers."""
        return self.workers if self.use_gpu else 0

    @property
    def backend(self) -> str:
        """Of torch.distributed."""
        return "nccl" if self.use_gpu else "gloo"

    @model_validator(mode="after")
    def _at_least_is_not_more(self) -> "ScalingSettings":
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers = {self.min_workers} is more than workers = {self.workers}")
        return self


class Experiment(Settings):
    """Everything that decides what a run does."""

    run: RunSettings
    data: DataSettings
    model: ModelSettings = GmvaeDritSettings()
    train: TrainSettings
    scaling: ScalingSettings = ScalingSettings()

    @model_validator(mode="after")
    def _workers_share_the_batch(self) -> "Experiment":
        share, workers = self.data.global_batch // 2, self.scaling.workers
        if workers > share:
            raise ValueError(
                f"scaling.workers = {workers}: more than the {share} images of each domain in "
                f"data.global_batch = {self.data.global_batch}"
            )
        return self

    @model_validator(mode="after")
    def _held_out_metrics_exist(self) -> "Experiment":
        best, judge = self.train.best_metric, self.train.judge
        translates = isinstance(self.model, TranslationSettings)
        if judge is not None and not translates:
            raise ValueError(
                f"train.judge needs translations, and a model of kind {self.model.kind} makes none"
            )
        measured = held_out_metrics(self, labelled=True)
        if best not in (None, *measured):
            more = (
                f" ({', '.join(JudgeSettings.metrics)} need train.judge)"
                if translates and judge is None
                else ""
            )
            raise ValueError(f"train.best_metric = {best}: must be one of {', '.join(measured)}{more}")
        if best is not None and measured[best] != self.train.best_is:
            raise ValueError(f"train.best_is = {self.train.best_is}: of {best} the {measured[best]} is best")
        return self

    def to_yaml(self) -> str:
        """The resolved configuration, every default spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def held_out_metrics(experiment: Experiment, labelled: bool) -> dict[str, Best]:
    """Names of all that evaluations of this experiment measure, without `held_out/`, and which values are best.

    ``labelled``: whether the images of two domains or more carry a `label`.
    """
    train = experiment.train
    if not train.evaluate_every:
        return {}
    judged = train.judge.measured(labelled) if train.judge else {}
    return {**experiment.model.held_out, **judged}


def load(path: str | Path, overrides: Mapping[str, object] | None = None) -> Experiment:
    """Read an experiment from a YAML file.

    ``overrides`` maps dotted paths to values (``{"model.mixture.components": 6}``); text is read as YAML, so
    that the command line's ``"6"`` is a number. Raises `ConfigError` with one line per fault.
    """
    raw = read_yaml(Path(path), Experiment)
    for key, value in (overrides or {}).items():
        override(raw, key, value)
    try:
        return Experiment.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(describe_faults(error, raw, Experiment.model_json_schema())) from error


def parse_overrides(words: list[str]) -> dict[str, object]:
    """``["a.b=c"]`` as ``{"a.b": "c"}``."""
    overrides: dict[str, object] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"{word}: not an override; write it as section.key=value")
        overrides[key] = value
    return overrides


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a later key replace an earlier one in silence; a configuration must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key, repeated in zip(keys, node.value, strict=False):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} appears twice", repeated[0].start_mark
                )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, settings: type[Settings]) -> dict[str, Any]:
    """The keys of a file that shall hold ``settings``, not yet validated. Raises ConfigError."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {_yaml_fault(error)}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must hold the sections {', '.join(settings.model_fields)}")
    return raw


def _yaml_fault(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return "not YAML: " + " ".join(str(error).split())


def override(raw: dict[str, Any], key: str, value: object, dots: int = -1) -> None:
    """Put ``value`` at the dotted path ``key``; text is read as YAML. Raises ConfigError.

    Only the first ``dots`` dots of the path part it, where what follows is a key with dots in it.
    """
    if isinstance(value, str):
        try:
            value = yaml.load(value, _UniqueKeyLoader)
        except yaml.YAMLError as error:
            raise ConfigError(f"{key} = {value!r}: {_yaml_fault(error)}") from error
    *sections, last = key.split(".", dots)
    node = raw
    for depth, section in enumerate(sections, start=1):
        if node.get(section) is None:
            node[section] = {}
        node = node[section]
        if not isinstance(node, dict):
            raise ConfigError(f"{key}: {'.'.join(sections[:depth])} is a value, it has no keys")
    node[last] = value
