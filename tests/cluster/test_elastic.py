"""An elastic run on a Ray cluster of two nodes, of which one is lost and another comes."""

import json
import os
import signal
import time

import pytest

from cluster.checkpoints import Checkpoints
from cluster.config import load
from cluster.run_folder import RunFolder

from .command import Command
from .ray_head import RayHead
from .test_recovery import expected_samples

pytestmark = pytest.mark.slow


def wait_until(condition, command, seconds=200):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert command.process.poll() is None, command.process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return result


def test_a_run_goes_on_with_one_worker_and_takes_the_second_when_it_comes(config, tmp_path):
    folder = RunFolder(str(tmp_path), "tiny")
    head = RayHead(cpus=1)
    head.start()
    try:
        node = head.add_node(cpus=1)
        words = (
            "scaling.min_workers=1",
            "train.checkpoint_every=10",
            "train.steps=100000",
            "train.log_every=10",
        )
        quiet = ("train.preview_every=0", "train.evaluate_every=0", f"run.storage={tmp_path}")
        command = Command(config, *words, *quiet, environment=head.driver_environment())
        times = {}

        def workers():
            """Of the last start, and when that was."""
            if not folder.events.exists():
                return 0, 0.0
            lines = [json.loads(line) for line in folder.events.read_text().splitlines()]
            starts = [line for line in lines if line["kind"] in ("start", "resume")]
            return (starts[-1]["workers"], starts[-1]["time"]) if starts else (0, 0.0)

        def saved():
            return max(Checkpoints(folder).steps(), default=0)

        wait_until(lambda: workers()[0] in (1, 2), command)
        wait_until(lambda: workers()[0] == 2, command)
        wait_until(lambda: saved() >= 20, command)
        lost = time.time()
        os.killpg(node.pid, signal.SIGKILL)
        wait_until(lambda: workers()[0] == 1, command)
        times["to go on with one"] = workers()[1] - lost
        before = saved()
        wait_until(lambda: saved() >= before + 20, command)
        came = time.time()
        node = head.add_node(cpus=1)
        wait_until(lambda: workers()[0] == 2, command)
        times["to take the second"] = workers()[1] - came
        before = saved()
        wait_until(lambda: saved() >= before + 20, command)
        command.process.send_signal(signal.SIGTERM)
        code, lines = command.wait(60)
        assert code == 143, "\n".join(lines)
        (tmp_path / "times.json").write_text(json.dumps(times))
    finally:
        head.stop()
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    steps = [row["step"] for row in rows if row["step"] % 10 == 0]
    assert steps == list(range(10, steps[-1] + 1, 10)), "no step is lost, none is there twice"
    assert {len(row["workers"]) for row in rows} == {1, 2}
    single = expected_samples(load(folder.config), range(steps[-1]))
    sums = [sum(int(each, 16) for each in single[step - 10 : step]) for step in steps]
    assert [row["samples"] for row in rows if row["step"] % 10 == 0] == [f"{each:x}" for each in sums]
