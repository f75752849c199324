"""Faults of a sweep's file: one line each, which names the dotted path."""

import pytest
import yaml

from cluster.config import load
from cluster.errors import ConfigError
from tune.config import load_sweep, located
from tune.experiments import prepare, settings
from tune.study import Assignment

from .conftest import COMPONENTS, RATE

PLAIN_MODEL = {"kind": "drit"}


def fault(read):
    """The single line in which ``read`` fails."""
    with pytest.raises(ConfigError) as told:
        read()
    (line,) = str(told.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sweep.name": "a/b"}, "sweep.name = 'a/b': must be text"),
        (
            {"sweep.study": "mysql://host/x"},
            "sweep.study: write postgresql://USER@HOST/DATABASE or sqlite:///FILE",
        ),
        (
            {"sweep.study": "postgresql://me:secret@host/x"},
            "sweep.study: a password does not belong in a file",
        ),
        (
            {"sweep.storage": "s3://bucket/sweeps"},
            "sweep: storage = s3://bucket/sweeps cannot hold a database",
        ),
        ({"sweep.sead": 3}, "sweep.sead: unknown key; did you mean seed?"),
        ({"objectives": []}, "objectives: name at least one"),
        (
            {"objectives": [{"metric": "kid", "goal": "low"}]},
            "objectives.0.goal = 'low': must be one of min, max",
        ),
        ({"objectives": [{"metric": "kid", "goal": "min"}] * 2}, "objectives: kid, kid: each metric once"),
        ({"budget.trials": 0}, "budget.trials = 0: must be a whole number > 0"),
        ({"budget.hours": 0}, "budget.hours = 0: must be a number > 0"),
        ({"budget": {"trials": 3}}, "budget.steps: missing; must be a whole number > 0"),
        ({"pruner": {"min_steps": 8}}, "pruner.min_steps = 8: must be less than budget.steps = 8"),
        ({"pruner": {"min_steps": 2, "factor": 1}}, "pruner.factor = 1: must be a whole number >= 2"),
        ({"space": {}}, "space: name at least one parameter"),
        ({f"space.{RATE}": {"uniform": [1, 0]}}, f"space.{RATE}: uniform = [1.0, 0.0]: an empty range"),
        (
            {f"space.{RATE}": {"loguniform": [0, 1]}},
            f"space.{RATE}: loguniform = [0.0, 1.0]: must be greater than 0",
        ),
        (
            {f"space.{RATE}": {"uniform": [0, float("inf")]}},
            f"space.{RATE}.uniform.1 = inf: must be a number",
        ),
        ({f"space.{RATE}": {"choice": [1, 1]}}, f"space.{RATE}: choice = [1, 1]: the same value twice"),
        ({f"space.{RATE}": {"choice": [1]}}, f"space.{RATE}.choice = [1]: must be a list of 2 or more"),
        ({f"space.{RATE}": {"uniform": [0, 1], "choice": [1, 2]}}, f"space.{RATE}: must have exactly one of"),
        (
            {f"space.{COMPONENTS}": {"int": [1.5, 3]}},
            f"space.{COMPONENTS}.int.0 = 1.5: must be a whole number",
        ),
        ({f"space.{RATE}": {"normal": [0, 1]}}, f"space.{RATE}.normal: unknown key; did you mean uniform?"),
        (
            {f"space.{RATE}": {"uniform": [0, 1], "when": {"model.kind": ["drit"]}}},
            f"space.{RATE}.when: model.kind: not a parameter before this one",
        ),
        (
            {f"space.{COMPONENTS}": {"int": [2, 4], "when": {RATE: [1e-12]}}},
            f"space.{COMPONENTS}.when: {RATE}: 1e-12 is not among its values",
        ),
        ({"space.run.seed": {"int": [0, 9]}}, "run.seed: decided by the sweep"),
        ({"space.train.steps": {"int": [5, 9]}}, "train.steps: decided by the sweep"),
        ({"space.scaling.workers": {"int": [1, 2]}}, "scaling.workers: decided by the sweep"),
        ({"space.train.evaluate_every": {"int": [1, 2]}}, "train.evaluate_every: decided by the sweep"),
        ({"fixed.run.name": "x"}, "run.name: decided by the sweep"),
        ({f"fixed.{RATE}": 1e-3}, f"space: {RATE}: also in `fixed`; leave it in one of them"),
    ],
)
def test_a_fault_of_the_sweep_is_one_line(write_sweep, changes, told):
    path = write_sweep(**changes)
    assert fault(lambda: load_sweep(path)).startswith(told)


def test_a_fault_does_not_show_the_password(write_sweep):
    assert "secret" not in fault(
        lambda: load_sweep(write_sweep(sweep__study="postgresql://me:secret@host/x"))
    )


def test_several_objectives_have_no_pruner(write_sweep):
    objectives = [{"metric": "cycle", "goal": "min"}, {"metric": "diversity", "goal": "max"}]
    path = write_sweep(objectives=objectives, pruner={"min_steps": 2})
    assert fault(lambda: load_sweep(path)).startswith(
        "pruner: trials can be ended early by one objective only"
    )
    assert len(load_sweep(path, {"pruner": None}).objectives) == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"space.model.optimizer.rate": {"uniform": [0, 1]}},
            "space: model.optimizer.rate = 0.0: model.optimizer.rate: unknown key; known here: learning_rate",
        ),
        (
            {"space.model.ema_decay": {"uniform": [0.5, 1.5]}},
            "space: model.ema_decay = 1.5: model.ema_decay = 1.5: must be a number >= 0 < 1",
        ),
        (
            {"space.model.generator.kind": {"choice": ["adain", "adian"]}},
            "space: model.generator.kind = adian: model.generator.kind = 'adian': must be one of concat, adain",
        ),
        (
            {f"space.{RATE}": {"uniform": [0.1, 1]}},
            f"space.{RATE}: does not hold 0.0001, which is the base's own",
        ),
        (
            {f"space.{COMPONENTS}": {"choice": [3, 4]}},
            f"space.{COMPONENTS}: does not hold 2, which is the base's own",
        ),
        (
            {"fixed.model.mixture.component": 3},
            "model.mixture.component: unknown key; did you mean components?",
        ),
        (
            {"fixed.train.evaluate_every": 0},
            "train.evaluate_every = 0: trials are compared by their evaluations",
        ),
        (
            {"pruner": {"min_steps": 4}, "fixed.train.evaluate_every": 3},
            "pruner.min_steps = 4: no multiple of train.evaluate_every = 3",
        ),
    ],
)
def test_a_fault_against_the_experiment_is_one_line(sweep_of, changes, told):
    assert fault(lambda: prepare(sweep_of(**changes))).startswith(told)


def test_settings_that_do_not_go_together_are_found_before_anything_starts(sweep_of):
    """Each is allowed beside the base's own; not both at once: one pair in four of what may be drawn."""
    sweep = sweep_of(
        **{
            "space.train.checkpoint_every": {"choice": [2, 3]},
            "space.train.best_metric": {"choice": [None, "cycle"]},
            "fixed.train.checkpoint_every": 2,
        }
        | {"space.train.checkpoint_every": {"choice": [2, 3]}, "fixed": {"train.evaluate_every": 2}}
    )
    line = fault(lambda: prepare(sweep))
    assert "train.checkpoint_every = 3, train.best_metric = cycle" in line
    assert "checkpoint_every = 3 is not a multiple of evaluate_every = 2" in line


def test_faults_of_the_base_come_first_and_alone(write_sweep, tmp_path):
    missing = write_sweep(base=str(tmp_path / "nothing.yaml"))
    assert (
        fault(lambda: prepare(load_sweep(missing)))
        == f"{tmp_path}/nothing.yaml: cannot be read: No such file or directory"
    )
    (tmp_path / "broken.yaml").write_text("run: {name: x}\ndata: {uri: d}\ntrain: {steps: none}\n")
    broken = write_sweep(base="broken.yaml", **{"space.nothing": {"int": [1, 2]}})
    assert fault(lambda: prepare(load_sweep(broken))).startswith(
        "train.steps = 'none': must be a whole number"
    )


def test_overrides_change_a_sweep(write_sweep):
    sweep = load_sweep(write_sweep(), {"budget.trials": "7", "sampler.kind": "random"})
    assert (sweep.budget.trials, sweep.sampler.kind) == (7, "random")


def test_overrides_within_fixed_and_space_are_paths_of_the_experiment(write_sweep, config):
    """Beside what the file fixes: the rest of a section stays as it is in the base."""
    path = write_sweep(**{"fixed.data.flip": False})
    overrides = {"fixed.data.uri": "s3://bucket/tiny", f"space.{RATE}": "{uniform: [1e-5, 1e-3]}"}
    sweep = load_sweep(path, overrides)
    assert sweep.fixed["data.uri"] == "s3://bucket/tiny"
    data = prepare(sweep).base.data
    assert (data.uri, data.flip, data.global_batch) == (
        "s3://bucket/tiny",
        False,
        load(config).data.global_batch,
    )
    assert sweep.space[RATE].uniform == (1e-5, 1e-3)


def test_what_is_resolved_reads_back_as_the_same(sweep_of, tmp_path):
    sweep = sweep_of(
        pruner={"min_steps": 2}, **{"space.model.generator": {"choice": [{"kind": "adain"}, {}]}}
    )
    (tmp_path / "again.yaml").write_text(sweep.to_yaml())
    assert load_sweep(tmp_path / "again.yaml") == sweep


def test_a_folder_becomes_absolute_and_a_bucket_stays(write_sweep):
    sweep = located(load_sweep(write_sweep(), {"sweep.storage": "here"}))
    assert sweep.sweep.storage.startswith("/")
    bucket = {"sweep.storage": "s3://bucket/a?anonymous=true", "sweep.study": "postgresql://me@host/x"}
    sweep = located(load_sweep(write_sweep(), bucket))
    assert sweep.folder == "s3://bucket/a/tiny"
    assert sweep.trials_storage == "s3://bucket/a/tiny/trials?anonymous=true"


def test_a_trial_is_an_ordinary_run(sweep_of, config):
    """With the parameters it was given, the rhythm of the sweep, and a name and folder of its own."""
    sweep = sweep_of(pruner={"min_steps": 2}, **{"fixed.train.log_every": 1})
    recipe = prepare(sweep)
    trial = recipe.experiment(Assignment(12, {RATE: 0.002, COMPONENTS: 3}, seed=77))
    assert trial.model.optimizer.learning_rate == 0.002
    assert trial.model.mixture.components == 3
    assert (trial.run.name, trial.run.storage, trial.run.seed) == ("tiny-0012", sweep.trials_storage, 77)
    train = trial.train
    assert (train.steps, train.evaluate_every, train.checkpoint_every, train.log_every) == (8, 2, 2, 1)
    untouched = load(config)
    assert trial.data.global_batch == untouched.data.global_batch
    assert recipe.experiment(Assignment(0, recipe.default)).run.seed == untouched.run.seed


def test_the_first_trial_is_the_base_itself(sweep_of):
    recipe = prepare(sweep_of())
    assert recipe.default == {RATE: 1e-4, COMPONENTS: 2}


def test_looks_without_a_pruner_divide_the_budget(sweep_of):
    assert settings(sweep_of(budget__steps=40))["train.evaluate_every"] == 10
    assert settings(sweep_of(budget__steps=3))["train.evaluate_every"] == 1


def test_the_file_of_a_sweep_is_yaml_with_unique_keys(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text(yaml.safe_dump({"base": "x"}) + "base: y\n")
    assert "key 'base' appears twice" in fault(lambda: load_sweep(path))
