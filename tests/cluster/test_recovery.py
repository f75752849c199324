"""What a run lives through: SIGTERM and a frozen worker, other numbers of workers, and twenty kills of all kinds."""

import json
import os
import random
import signal
import time
from itertools import pairwise

import pytest
import torch

from cluster.checkpoints import Checkpoints
from cluster.config import load
from cluster.metrics import SampleSum
from cluster.run_folder import RunFolder
from data_shards.build import BuildOptions, build
from data_shards.loader import Loader

from ..s3.server import BUCKET
from .command import Command
from .test_train_s3 import images

pytestmark = pytest.mark.slow

QUIET = ("train.preview_every=0", "train.evaluate_every=0")
KILLS = ["worker"] * 9 + ["driver"] * 4 + ["S3"] * 7


def finish(command, seconds=300):
    """The lines of a command that must succeed."""
    code, lines = command.wait(seconds)
    assert code == 0, "\n".join(lines)
    return lines


def weights(folder, step):
    return Checkpoints(folder).load(step).tensors


def assert_same_weights(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def rows(folder):
    folder.fetch(folder.metrics)
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def events(folder):
    folder.fetch(folder.events)
    return [json.loads(line) for line in folder.events.read_text().splitlines()]


def workers_of(command):
    return [pid for pid, title in command.processes() if "RayTrainWorker" in title]


def wait_for_step(folder, step, command, seconds=240):
    """Until a checkpoint of ``step`` or more is whole in the storage."""
    deadline = time.monotonic() + seconds
    while not (steps := Checkpoints(folder).steps()) or steps[0] < step:
        assert command.process.poll() is None, command.process.stdout.read()
        assert time.monotonic() < deadline, f"no checkpoint of step {step}; there are {steps}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    """The weights after 60 steps of two workers."""
    storage = tmp_path_factory.mktemp("undisturbed")
    finish(Command(config, f"run.storage={storage}", "train.steps=60", *QUIET))
    return weights(RunFolder(str(storage), "tiny"), 60)


def test_a_worker_that_is_told_to_leave_saves_its_very_step_and_the_run_goes_on(
    config,
    undisturbed,
    tmp_path,
):
    folder = RunFolder(str(tmp_path), "tiny")
    command = Command(
        config, f"run.storage={tmp_path}", "train.steps=60", "train.checkpoint_every=40", *QUIET
    )
    while len(rows(folder)) < 1 if folder.metrics.exists() else True:
        assert command.process.poll() is None
        time.sleep(0.02)
    os.kill(workers_of(command)[1], signal.SIGTERM)
    lines = finish(command)
    assert "worker 1 was told to leave" in lines or "worker 0 was told to leave" in lines, lines
    (resume,) = [event for event in events(folder) if event["kind"] == "resume"]
    assert resume["step"] not in (0, 40, 60), "the step at which it was told, not one of the usual ones"
    assert resume["step"] in [row["step"] for row in rows(folder)]
    assert_same_weights(weights(folder, 60), undisturbed)


def test_sigterm_to_the_driver_saves_its_very_step_within_the_grace_period(
    config,
    undisturbed,
    tmp_path,
):
    folder = RunFolder(str(tmp_path), "tiny")
    words = (config, f"run.storage={tmp_path}", "train.steps=60", "train.checkpoint_every=40", *QUIET)
    command = Command(*words)
    command.wait_for(folder.metrics)
    begin = time.monotonic()
    command.process.send_signal(signal.SIGTERM)
    code, lines = command.wait(60)
    assert code == 143, "\n".join(lines)
    assert time.monotonic() - begin < 30, "the grace period of Kubernetes"
    step = Checkpoints(folder).steps()[0]
    assert lines[-1].startswith(f"Stopped after step {step} of 60, checkpoint saved.")
    assert step not in (40, 60)
    lines = finish(Command(*words))
    assert f"training from step {step} in fp32 on cpu" in lines
    assert_same_weights(weights(folder, 60), undisturbed)


def test_a_frozen_worker_is_named_with_its_step_and_the_run_goes_on(config, undisturbed, tmp_path):
    folder = RunFolder(str(tmp_path), "tiny")
    words = ("train.steps=60", "train.checkpoint_every=20", "train.hang_seconds=8", *QUIET)
    command = Command(config, f"run.storage={tmp_path}", *words)
    wait_for_step(folder, 20, command)
    os.kill(workers_of(command)[0], signal.SIGSTOP)
    lines = finish(command)
    told = [line for line in lines if "(train.hang_seconds)" in line]
    assert len(told) == 1, lines
    assert "has not been heard of" in told[0] or "has been" in told[0]
    assert_same_weights(weights(folder, 60), undisturbed)


def test_two_one_and_two_workers_show_the_same_images_at_the_same_steps(config, tmp_path):
    folder = RunFolder(str(tmp_path), "tiny")
    # All with the same length of the run, to which schedules stretch: it is stopped twice.
    for step, workers in ((20, 2), (40, 1), (60, 2)):
        words = (f"run.storage={tmp_path}", f"scaling.workers={workers}", "train.checkpoint_every=1", *QUIET)
        command = Command(config, *words, "train.steps=60", "train.log_every=1", "train.keep_checkpoints=1")
        if step < 60:
            wait_for_step(folder, step, command)
            command.process.send_signal(signal.SIGTERM)
            assert command.wait(60)[0] == 143
        else:
            finish(command)
    logged = rows(folder)
    assert [row["step"] for row in logged] == list(range(1, 61))
    assert {len(row["workers"]) for row in logged} == {1, 2}
    assert [row["samples"] for row in logged] == expected_samples(load(folder.config), range(60))
    # A step differs by noise alone: it has no jump where the number of workers changes.
    curve = torch.tensor([row["reconstruction"] for row in logged])
    jumps = curve.diff().abs()
    changes = [i for i, (a, b) in enumerate(pairwise(logged)) if len(a["workers"]) != len(b["workers"])]
    assert len(changes) == 2
    assert jumps[changes].max() <= jumps.sort().values[-3], (jumps, changes)


def expected_samples(experiment, steps):
    """The sums of the samples that each step must show, by a loader of one rank."""
    loader = Loader(experiment.data, seed=experiment.run.seed)
    sums = []
    try:
        batches = loader.batches(steps[0])
        for step in steps:
            one = SampleSum()
            one.add(step, next(batches))
            sums.append(f"{one.take():x}")
    finally:
        loader.close()
    return sums


def test_twenty_kills_of_workers_driver_and_storage_change_no_bit(config, s3, tmp_path):
    """Data and checkpoints in a bucket; who dies when is drawn from one seed."""
    dice = random.Random(20)
    kills = dice.sample(KILLS, len(KILLS))
    uri, steps = f"s3://{BUCKET}/chaos-data", 420
    build(images(), uri, BuildOptions(shard_samples=20))
    words = (
        f"data.uri={uri}",
        f"train.steps={steps}",
        "train.checkpoint_every=10",
        "train.log_every=10",
        *QUIET,
    )
    calm = RunFolder(f"s3://{BUCKET}/calm", "tiny")
    finish(Command(config, f"run.storage=s3://{BUCKET}/calm", *words))

    storage = f"s3://{BUCKET}/chaos"
    folder = RunFolder(storage, "tiny")
    command = Command(config, f"run.storage={storage}", *words)
    for number, kind in enumerate(kills, start=1):
        wait_for_step(folder, number * steps // (len(kills) + 2) // 10 * 10, command)
        time.sleep(dice.uniform(0, 1))
        if kind == "worker":
            # Those of the moment: after a kill there may be none for a while.
            while not (victims := workers_of(command)):
                time.sleep(0.1)
            os.kill(dice.choice(victims), signal.SIGKILL)
        elif kind == "driver":
            command.process.kill()
            command.process.wait()
            deadline = time.monotonic() + 30
            while left := workers_of(command):
                assert time.monotonic() < deadline, left
                time.sleep(0.1)
            command.kill()  # what Ray itself leaves
            command = Command(config, f"run.storage={storage}", *words)
        else:
            s3.stop()
            time.sleep(dice.uniform(1, 5))
            s3.start()
    lines = finish(command, 600)
    assert lines[-1] == f"Finished. Model in {folder.uri}/export"
    assert_same_weights(weights(folder, steps), weights(calm, steps))
    ours, theirs = (
        {row["step"]: row["samples"] for row in rows(each) if row["step"] % 10 == 0}
        for each in (folder, calm)
    )
    assert ours == theirs
    assert list(ours) == list(range(10, steps + 1, 10)), "every step is there once"
    told = [event["kind"] for event in events(folder)]
    assert told.count("start") + told.count("resume") >= 1 + KILLS.count("driver")
    assert "lost" in told
