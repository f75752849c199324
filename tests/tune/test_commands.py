"""`python -m tune run` as a person meets it before anything starts: one line per fault, no traceback, no Ray."""

import os
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

import tune.driver
from tune.__main__ import app

from ..conftest import REPOSITORY
from ..s3.server import free_ports
from .conftest import RATE


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    """Starting Ray is a fault of the test."""

    def start(*words):
        raise AssertionError("Ray would have been started")

    monkeypatch.setattr(tune.driver, "ray_session", start)


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def refusal(*words):
    """The line of a command that fails without a traceback."""
    result = invoke("run", *words)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = result.output.splitlines()
    return line


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"space.model.optimiser.rate": {"uniform": [0, 1]}},
            "error: space: model.optimiser.rate = 0.0: model.optimiser: unknown key; did you mean optimizer?",
        ),
        (
            {f"space.{RATE}": {"loguniform": [1e-2, 1e-3]}},
            f"error: space.{RATE}: loguniform = [0.01, 0.001]: an empty",
        ),
        ({"base": "nothing.yaml"}, "error: "),
        (
            {"objectives": [{"metric": "cycles", "goal": "min"}]},
            "error: objectives.0.metric = cycles: did you mean cycle?",
        ),
        (
            {"objectives": [{"metric": "cycle", "goal": "max"}]},
            "error: objectives.0.goal = max: the best cycle is the low",
        ),
        ({"fixed.data.uri": "/nowhere/shards"}, "error: no data set at /nowhere/shards"),
        ({"fixed.scaling.workers": 9}, "error: scaling.workers = 9: more than the 8 images"),
    ],
)
def test_a_fault_is_one_line_before_anything_starts(write_sweep, tmp_path, changes, told):
    path = write_sweep(**changes)
    for words in ((path,), (path, "--dry-run")):
        assert refusal(*words).startswith(told)
    assert not (tmp_path / "sweeps").exists()


def test_a_file_that_is_not_there(tmp_path):
    path = tmp_path / "sweep.yaml"
    assert refusal(path) == f"error: {path}: cannot be read: No such file or directory"


def test_a_study_out_of_reach(write_sweep):
    (port,) = free_ports(1)
    url = f"postgresql://me@127.0.0.1:{port}/sweeps"
    line = refusal(write_sweep(), f"sweep.study={url}")
    assert line.startswith(f"error: sweep.study = {url}: ")
    assert "refused" in line


def test_a_study_in_a_folder_that_is_not_there(write_sweep):
    line = refusal(write_sweep(), "sweep.study=sqlite:////proc/nothing/study.db")
    assert line.startswith("error: sweep.study = sqlite:////proc/nothing/study.db: ")


def test_a_storage_that_cannot_be_written(write_sweep):
    line = refusal(write_sweep(), "sweep.storage=/proc/sweeps")
    assert line.startswith("error: /proc/sweeps/tiny: cannot be written to:")
    assert line.endswith("set sweep.storage")


def test_a_sweep_that_changed_is_refused(write_sweep, monkeypatch):
    monkeypatch.setattr("tune.commands.search", lambda *words: 3)
    assert invoke("run", write_sweep()).exit_code == 3
    line = refusal(write_sweep(), "budget.steps=16")
    assert line.startswith(
        "error: sweep tiny was begun with another base, budget.steps: trials would not compare"
    )


def test_a_second_start_on_this_machine_leaves_the_first_alone(write_sweep, monkeypatch):
    """The first goes on to own its study."""
    told = []

    def search(study, *words):
        told.append(refusal(write_sweep()))
        study.check_owner()
        return 3

    monkeypatch.setattr("tune.commands.search", search)
    assert invoke("run", write_sweep()).exit_code == 3
    assert "another process" in told[0]


def test_a_dry_run_shows_the_first_trial_and_examples(write_sweep, tmp_path):
    result = invoke("run", write_sweep(), "--dry-run")
    assert result.exit_code == 0, result.output
    head, _, tail = result.output.partition("Others change")
    first = yaml.safe_load(head.partition(":\n")[2])
    assert first["train"]["steps"] == 8
    examples = [line for line in tail.splitlines() if line.startswith("  ")]
    assert len(examples) == 5
    assert all(f"{RATE}=" in line and "model.mixture.components=" in line for line in examples)
    assert not (tmp_path / "sweeps").exists(), "nothing is begun"


def test_help_needs_neither_torch_nor_ray_nor_optuna():
    code = (
        "import sys; from typer.testing import CliRunner; from tune.__main__ import app;"
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0;"
        "print([name for name in ('torch', 'ray', 'optuna') if name in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert told.stdout == "[]\n"


def test_the_program_itself_ends_with_one_line_and_1(write_sweep):
    words = [sys.executable, "-m", "tune", "run", str(write_sweep(base="nothing.yaml"))]
    done = subprocess.run(words, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith("nothing.yaml: cannot be read: No such file or directory")
