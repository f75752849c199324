"""Sweeps over real training: a whole one, one that is killed and stopped over and over, and faults of single trials."""

import hashlib
import json
import os
import signal
import time

import optuna
import pytest

from cluster.checkpoints import Checkpoints
from cluster.run_folder import RunFolder
from tune.study import REASON

from .command import SweepCommand
from .conftest import COMPONENTS, RATE

pytestmark = pytest.mark.slow

PATIENCE = 240
WEIGHT = "model.loss.reconstruction"
TRIALS, STEPS = 5, 12
REAL = {
    "budget": {"trials": TRIALS, "steps": STEPS},
    "pruner": {"min_steps": 3, "factor": 2},
    "fixed": {"train.preview_every": 0, "train.log_every": 3},
    "sampler": {"startup": 3},
}


class Folders:
    """What a sweep has written."""

    def __init__(self, storage):
        self.root = storage / "tiny"

    def trial(self, number):
        return RunFolder(str(self.root / "trials"), f"tiny-{number:04}")

    def trials(self):
        """(state, params, values, figures) of all."""
        study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{self.root}/study.db")
        return study.trials

    def states(self):
        return [trial.state.name for trial in self.trials()]

    def events(self, number):
        lines = self.trial(number).events.read_text().splitlines()
        return [json.loads(line) for line in lines]

    def contents(self, number):
        """Files of a run as they are, by name."""
        files = [path for path in self.trial(number).root.rglob("*") if path.is_file()]
        return {
            path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in files
        }


def until(condition, command):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert command.process.poll() is None, command.process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def finish(command):
    code, lines = command.wait(PATIENCE)
    assert code == 0, "\n".join(lines)
    return lines


def named(command, title):
    """Processes of Ray that call themselves so."""
    return [pid for pid, line in command.processes() if title in line]


def results(folders):
    """All that must not depend on deaths."""
    return [
        (trial.number, trial.state.name, trial.params, trial.values, trial.intermediate_values)
        for trial in folders.trials()
    ]


@pytest.fixture(scope="module")
def sweep_file(config, tmp_path_factory):
    """Write the tiny sweep into a folder of its own; (its file, its folders)."""
    import yaml

    from .conftest import SWEEP, changed

    def write(changes):
        folder = tmp_path_factory.mktemp("sweep")
        content = changed(SWEEP | {"base": str(config)}, {"sweep.storage": str(folder / "sweeps"), **changes})
        path = folder / "sweep.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path, Folders(folder / "sweeps")

    return write


@pytest.fixture(scope="module")
def undisturbed(sweep_file):
    """(lines of the command, its folders, whether all its processes have gone): two workers, one trial at a time."""
    path, folders = sweep_file(REAL)
    command = SweepCommand(path)
    try:
        lines, code = [line.rstrip() for line in command.process.stdout], command.process.wait(PATIENCE)
        gone = command.all_gone()
    finally:
        command.kill()
    assert code == 0, "\n".join(lines)
    return lines, folders, gone


def test_a_whole_sweep(undisturbed):
    lines, folders, gone = undisturbed
    assert gone, "a process is left"
    trials = folders.trials()
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {trial.state.name for trial in trials} == {"COMPLETE", "PRUNED"}
    assert trials[0].params == {RATE: 1e-4, COMPONENTS: 2}, "the base first"
    for trial in trials:
        told = [line for line in lines if line.startswith(f"trial {trial.number}: ")]
        last = max(trial.intermediate_values)
        word = "complete" if trial.state.name == "COMPLETE" else "ended early"
        assert f"trial {trial.number}: {word} after step {last}" in told[-1]
        rows = [json.loads(line) for line in folders.trial(trial.number).metrics.read_text().splitlines()]
        assert {row["step"]: row["held_out/cycle"] for row in rows if "held_out/cycle" in row}[
            last
        ] == trial.value
        assert all(len(row["workers"]) == 2 for row in rows)
        assert [event["kind"] for event in folders.events(trial.number)].count("lost") == 0
        exported = (folders.trial(trial.number).export / "model.safetensors").exists()
        assert exported == (trial.state.name == "COMPLETE")


def test_kills_and_ctrl_c_change_nothing(undisturbed, sweep_file):
    """The same command over and over; in the end all is as if it had run once."""
    path, folders = sweep_file(REAL)

    def interrupted_at(number):
        return folders.trial(number).events.exists() and len(folders.events(number))

    command = SweepCommand(path)
    try:
        until(
            lambda: 3 in Checkpoints(folders.trial(0)).steps() or 6 in Checkpoints(folders.trial(0)).steps(),
            command,
        )
    finally:
        command.kill()
    assert folders.states() == ["RUNNING"]

    command = SweepCommand(path)
    try:
        until(lambda: interrupted_at(2), command)
    finally:
        command.kill()
    assert [event["kind"] for event in folders.events(0)].count("resume") == 1, "from its checkpoint"
    assert folders.states()[2] == "RUNNING"
    ended = {number: folders.contents(number) for number in (0, 1)}

    command = SweepCommand(path)
    try:
        until(lambda: interrupted_at(3), command)
        command.interrupt()
        code, lines = command.wait(PATIENCE)
        assert command.all_gone()
    finally:
        command.kill()
    assert code == 130, "\n".join(lines)
    assert lines[-1] == "Stopped, with checkpoints. The same command goes on."
    assert folders.states()[3:] == ["RUNNING"]
    assert Checkpoints(folders.trial(3)).steps()

    finish(SweepCommand(path))
    assert results(folders) == results(undisturbed[1])
    assert {number: folders.contents(number) for number in ended} == ended, "none ran again"
    assert [event["kind"] for event in folders.events(3)].count("resume") == 1


def test_faults_of_trials_do_not_end_the_sweep(sweep_file):
    """Some diverge; of the first a worker is killed, and then the actor that has the workers."""
    path, folders = sweep_file(
        {
            "space": {WEIGHT: {"choice": [10.0, 1e39]}, COMPONENTS: {"int": [2, 64]}},
            "budget": {"trials": 4, "steps": 40},
            "fixed": {
                "scaling.workers": 1,
                "train.preview_every": 0,
                "train.evaluate_every": 40,
                "train.checkpoint_every": 5,
                "train.max_skipped_in_a_row": 2,
            },
        }
    )
    command = SweepCommand(path)
    try:
        base = Checkpoints(folders.trial(0))
        until(base.steps, command)
        os.kill(named(command, "Member")[0], signal.SIGKILL)
        until(lambda: folders.events(0)[-1]["kind"] == "resume" and base.steps()[0] >= 15, command)
        (actor,) = named(command, "ResourceTrainable")
        os.kill(actor, signal.SIGKILL)
        lines = finish(command)
    finally:
        command.kill()
    trials = folders.trials()
    kinds = [event["kind"] for event in folders.events(0)]
    assert kinds == ["start", "lost", "resume", "resume", "finish"]
    diverged = [trial for trial in trials if trial.params[WEIGHT] == "1.0e+39"]
    assert 1 <= len(diverged) < len(trials)
    for trial in trials:
        if trial in diverged:
            assert trial.state.name == "FAIL"
            assert "had an infinite or NaN loss" in trial.user_attrs[REASON]
            assert f"trial {trial.number}: failed after step 0: {trial.user_attrs[REASON]}" in lines
        else:
            assert trial.state.name == "COMPLETE", trial.user_attrs
