"""What a pod does before it goes: its workers and drivers are asked to leave, those of other clusters are not."""

import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

from cluster.checkpoints import Checkpoints
from cluster.errors import RunError
from cluster.leave import CLUSTER_VARIABLE, leave
from cluster.run_folder import RunFolder

from .command import Command

STAND_IN = """
import pathlib, signal, sys, time
def told(*_):
    time.sleep(0.5)  # to store a checkpoint
    pathlib.Path(sys.argv[-1]).write_text("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, told)
pathlib.Path(sys.argv[-1]).write_text("ready")
time.sleep(60)
"""


@pytest.fixture
def start(tmp_path):
    """Stand-ins: (title or None for `python -m cluster train`, cluster) -> (process, its file)."""
    package = tmp_path / "cluster"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN)
    processes = []

    def start(title, cluster):
        file = tmp_path / f"file-{len(processes)}"
        words = [sys.executable, "-m", "cluster", "train", str(file)]
        if title is not None:
            words = [
                "bash",
                "-c",
                f'exec -a "{title}" "$0" -c "$1" "$2"',
                sys.executable,
                STAND_IN,
                str(file),
            ]
        environment = {**os.environ, CLUSTER_VARIABLE: cluster}
        processes.append(subprocess.Popen(words, cwd=tmp_path, env=environment))
        deadline = time.monotonic() + 20
        while not file.exists() or file.read_text() != "ready":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return processes[-1], file

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_workers_and_drivers_of_this_cluster_store_their_step_before_the_pod_goes(start, monkeypatch):
    mine, other = uuid.uuid4().hex, uuid.uuid4().hex
    monkeypatch.setenv(CLUSTER_VARIABLE, mine)
    asked = [start("ray::RayTrainWorker.execute", mine), start("ray::Member.train", mine), start(None, mine)]
    untouched = [start("ray::RayTrainWorker.execute", other), start("ray::Relay", mine), start(None, other)]
    assert leave(seconds=20) == 0
    assert [file.read_text() for _, file in asked] == ["saved"] * 3
    assert [process.poll() for process, _ in untouched] == [None] * 3


def test_one_that_does_not_go_is_counted_after_the_time(start, monkeypatch):
    mine = uuid.uuid4().hex
    monkeypatch.setenv(CLUSTER_VARIABLE, mine)
    process, _ = start("ray::RayTrainWorker.execute", mine)
    process.send_signal(signal.SIGSTOP)
    assert leave(seconds=0.3) == 1


def test_nothing_is_asked_to_leave_outside_a_pod(monkeypatch):
    monkeypatch.delenv(CLUSTER_VARIABLE, raising=False)
    with pytest.raises(RunError, match="this is for the pods of a cluster"):
        leave(seconds=0)


@pytest.mark.slow
def test_a_whole_cluster_that_is_taken_away_has_stored_the_very_step(config, tmp_path, monkeypatch):
    """As Kueue does where it suspends a job: every pod is asked at the same time."""
    mine = uuid.uuid4().hex
    monkeypatch.setenv(CLUSTER_VARIABLE, mine)
    folder = RunFolder(str(tmp_path), "tiny")
    words = (f"run.storage={tmp_path}", "train.steps=4000", "train.checkpoint_every=4000")
    command = Command(config, *words, environment={CLUSTER_VARIABLE: mine})
    command.wait_for(folder.metrics)
    assert leave(seconds=60) == 0
    code, lines = command.wait(60)
    assert code == 143, "\n".join(lines)
    (step,) = Checkpoints(folder).steps()
    assert 0 < step < 4000
    assert f"Stopped after step {step} of 4000, checkpoint saved." in "\n".join(lines)
