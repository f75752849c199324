"""Jobs on a real Ray head with token authentication: sent, followed, stopped, resumed and failed."""

import os
import subprocess
import sys
import time

import pytest

from cluster.checkpoints import Checkpoints
from cluster.run_folder import RunFolder

from .command import REPOSITORY
from .ray_head import RayHead

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def head():
    """A running head."""
    head = RayHead()
    head.start()
    try:
        yield head
    finally:
        head.stop()
    assert head.processes() == []


@pytest.fixture
def command(head):
    """Run `python -m cluster …` against the head: (exit code, stdout, stderr)."""

    def run(*words, token=head.token):
        environment = {**os.environ, **head.client_environment(), "RAY_AUTH_TOKEN": token}
        done = subprocess.run(
            [sys.executable, "-m", "cluster", *map(str, words), "--address", head.address],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_a_wrong_token_is_refused_in_one_line(command):
    code, output, errors = command("list", token="0" * 64)
    assert (code, output) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith("error: http://127.0.0.1:")
    assert "Invalid authentication token" in line


def test_a_job_is_stopped_with_a_checkpoint_and_the_next_one_goes_on(command, config, tmp_path):
    folder = RunFolder(str(tmp_path), "tiny")
    places = (config, f"run.storage={tmp_path}")
    code, output, errors = command("submit", *places, "train.steps=100000", "train.preview_every=0")
    assert (code, errors) == (0, "")
    job = output.strip()
    assert job.startswith("tiny-20")
    deadline = time.monotonic() + 180
    while not Checkpoints(folder).steps():
        assert time.monotonic() < deadline, command("logs", job)
        time.sleep(0.2)
    assert "state      running\n" in command("status", "tiny")[1]
    code, output, _ = command("stop", job)
    assert code == 0
    step = Checkpoints(folder).steps()[0]
    assert output == (
        f"{job}: stopped: Stopped after step {step} of 100000, checkpoint saved. "
        f"The same command resumes the run.\n"
    )

    code, output, errors = command(
        "submit", *places, f"train.steps={step + 4}", "train.preview_every=0", "--follow"
    )
    assert code == 0, output + errors
    lines = output.splitlines()
    assert f"Resuming run tiny after step {step}." in lines
    assert f"training from step {step} in fp32 on cpu" in lines
    assert lines[-1] == f"Finished. Model in {folder.export}"
    assert errors == f"{lines[0]}: succeeded\n"
    assert (folder.export / "model.safetensors").exists()
    newest, stopped = [line.split()[:3] for line in command("list")[1].splitlines()[1:3]]
    assert newest == [lines[0], "tiny", "SUCCEEDED"]
    assert stopped == [job, "tiny", "STOPPED"]


def test_a_job_that_fails_says_why(command, config, tmp_path):
    code, output, errors = command(
        "submit", config, f"run.storage={tmp_path}", "run.name=bad", "data.uri=/nowhere", "--follow"
    )
    assert code == 1
    job, *_, last = output.splitlines()
    assert last.startswith("error: no data set at /nowhere")
    reason = last.removeprefix("error: ")
    assert errors == f"error: {job}: failed with exit code 1: {reason}\n"
    code, output, _ = command("status", job)
    assert code == 0
    assert "state      failed with exit code 1\n" in output
    assert f"last line  {last}\n" in output


def test_a_job_that_is_not_there_is_one_line(command):
    code, output, errors = command("status", "absent")
    assert (code, output) == (1, "")
    assert errors.splitlines() == [errors.strip()]
    assert "no job absent" in errors
