"""Loading, overriding and refusing configurations."""

import subprocess
import sys

import pytest

from cluster.config import Experiment, held_out_metrics, load, parse_overrides
from cluster.errors import ConfigError

VALID = """
run: {name: demo}
data: {uri: data/digits, global_batch: 16}
train: {steps: 10}
scaling: {workers: 2}
"""


@pytest.fixture
def valid(tmp_path):
    path = tmp_path / "valid.yaml"
    path.write_text(VALID)
    return path


def faults(path, *words):
    with pytest.raises(ConfigError) as caught:
        load(path, parse_overrides(list(words)))
    return str(caught.value).splitlines()


def test_overrides_of_the_command_line_are_read_as_yaml(valid):
    words = ["model.mixture.components=6", "train.precision=fp32", "model.content_discriminator=null"]
    experiment = load(valid, parse_overrides(words))
    assert experiment.model.mixture.components == 6
    assert experiment.train.precision == "fp32"
    assert experiment.model.content_discriminator is None


def test_overrides_of_a_program_keep_their_type(valid):
    experiment = load(valid, {"model.loss.kl": 0.5, "model.optimizer.betas": (0.0, 0.9)})
    assert experiment.model.loss.kl == 0.5
    assert experiment.model.optimizer.betas == (0.0, 0.9)


def test_an_exponent_without_a_point_is_a_number(valid):
    """PyYAML reads 1e-4 as text."""
    assert load(valid, {"model.optimizer.learning_rate": "1e-4"}).model.optimizer.learning_rate == 1e-4


def test_resolved_configuration_loads_to_the_same(valid, tmp_path):
    experiment = load(valid)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(experiment.to_yaml())
    assert load(resolved) == experiment
    assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("train.stepz=3", "train.stepz: unknown key; did you mean steps?"),
        ("weights=3", "weights: unknown key; known here: run, data, model, train, scaling"),
        ("train.steps=many", "train.steps = 'many': must be a whole number > 0"),
        ("train.steps=0", "train.steps = 0: must be a whole number > 0"),
        ("train.steps=1.5", "train.steps = 1.5: must be a whole number > 0"),
        ("train=null", "train = None: must be a section of keys"),
        ("train.precision=fp8", "train.precision = 'fp8': must be one of fp32, bf16, auto"),
        ("model.loss.gaus=1", "model.loss.gaus: unknown key; did you mean gauss?"),
        ("model.loss.categ=2", "model.loss.categ = 2: must be a number >= 0 <= 1"),
        ("model.gumbel.hard=7", "model.gumbel.hard = 7: must be true or false"),
        ("model.optimizer.betas=[0.5]", "model.optimizer.betas.1: missing; must be a number >= 0 < 1"),
        (
            "model.optimizer.ttur=-1",
            "model.optimizer.ttur = -1: must be one of none, double_gen_enc, half_discr, or a number > 0",
        ),
        (
            "model.content_discriminator.widht=3",
            "model.content_discriminator.widht: unknown key; did you mean width?",
        ),
        ("run.name=../x", "run.name = '../x': must be text matching ^[A-Za-z0-9][A-Za-z0-9._-]*$"),
        ("run.storage=ftp://x", "run.storage: 'ftp://x' is neither a folder nor s3://bucket/prefix"),
        (
            "train.best_metric=cycle train.checkpoint_every=300",
            "train: train.best_metric compares checkpoints, but checkpoint_every = 300 is not a multiple of "
            "evaluate_every = 500",
        ),
        (
            "train.best_metric=fid",
            "train.best_metric = fid: must be one of reconstruction, cycle, information (kid, diversity, label_kept "
            "need train.judge)",
        ),
        (
            "train.best_metric=fid train.judge.features=pixels",
            "train.best_metric = fid: must be one of reconstruction, cycle, information, kid, diversity, label_kept",
        ),
        (
            "train.best_metric=kid model.kind=gmvae",
            "train.best_metric = kid: must be one of rec, information",
        ),
        (
            "train.judge.features=pixels model.kind=gmvae",
            "train.judge needs translations, and a model of kind gmvae makes none",
        ),
        (
            "train.judge.features=pixels train.evaluate_every=0",
            "train: train.judge speaks in evaluations, and evaluate_every = 0 means none",
        ),
        (
            "train.judge.images=9",
            "train.judge.features: missing; must be one of efficientnet-lite0, classifier, pixels",
        ),
        (
            "train.judge.images=2 train.judge.features=pixels",
            "train.judge.images = 2: must be a whole number >= 3",
        ),
        (
            "train.best_metric=information",
            "train.best_is = lowest: of information the highest is best",
        ),
        (
            "scaling.min_workers=3 scaling.workers=2",
            "scaling: min_workers = 3 is more than workers = 2",
        ),
        (
            "scaling.workers=9",
            "scaling.workers = 9: more than the 8 images of each domain in data.global_batch = 16",
        ),
    ],
)
def test_a_fault_names_path_value_and_what_is_allowed(valid, word, line):
    assert faults(valid, *word.split()) == [line]


def test_what_an_experiment_will_measure_is_known_beforehand(valid):
    own = {"reconstruction": "lowest", "cycle": "lowest", "information": "highest"}
    assert held_out_metrics(load(valid), labelled=True) == own
    judged = load(
        valid,
        {"train.judge.features": "pixels", "train.best_metric": "label_kept", "train.best_is": "highest"},
    )
    both = own | {"kid": "lowest", "diversity": "highest"}
    assert held_out_metrics(judged, labelled=False) == both
    assert held_out_metrics(judged, labelled=True) == both | {"label_kept": "highest"}
    assert held_out_metrics(load(valid, {"train.evaluate_every": 0}), labelled=True) == {}


def test_an_unknown_family_is_refused_with_the_known_ones(valid):
    (line,) = faults(valid, "model.kind=cyclegan")
    assert line.startswith("model.kind = 'cyclegan': must be one of drit, ")
    assert line.endswith("gmvae_drit")


def test_faults_know_the_family(valid):
    """A key is looked up in the family that is asked for, not in all of them."""
    assert faults(valid, "model.kind=drit", "model.loss.usage=1")[0].startswith(
        "model.loss.usage: unknown key; known here: adversarial, "
    )


def test_every_fault_has_its_line(valid):
    assert len(faults(valid, "train.stepz=3", "train.steps=x", "data.global_batch=3")) == 3


def test_an_odd_batch_is_refused(valid):
    (line,) = faults(valid, "data.global_batch=3")
    assert line.startswith("data.global_batch: 3 is odd")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("train.steps", "write it as section.key=value"),
        ("run.name.x=3", "run.name is a value, it has no keys"),
    ],
)
def test_a_bad_override_is_refused(valid, word, reason):
    (line,) = faults(valid, word)
    assert reason in line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must hold the sections run, data, model, train, scaling"),
        ("run: {name: a\n", "line 2"),
        ("train: {steps: 1, steps: 2}", "line 1: key 'steps' appears twice"),
        ("- a list", "must hold the sections"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, text, reason):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    (line,) = faults(path)
    assert reason in line


def test_a_missing_file_is_refused_in_one_line(tmp_path):
    (line,) = faults(tmp_path / "none.yaml")
    assert line.endswith("none.yaml: cannot be read: No such file or directory")


def test_command_line_shows_the_configuration_and_refuses_in_one_line(valid):
    command = [sys.executable, "-m", "cluster", "train", str(valid)]
    shown = subprocess.run([*command, "--print-config", "train.steps=7"], capture_output=True, text=True)
    assert shown.returncode == 0
    assert "steps: 7" in shown.stdout
    refused = subprocess.run([*command, "train.steps=x"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr == "error: train.steps = 'x': must be a whole number > 0\n"


def test_help_loads_neither_torch_nor_ray():
    probe = "import sys, cluster.__main__; print(sorted({'torch', 'ray'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout == "[]\n"
