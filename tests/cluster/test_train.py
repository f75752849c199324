"""The whole way: `python -m cluster train` on Ray with two workers, undisturbed, killed, stopped and refused."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cluster import checkpoint
from cluster.run_folder import RunFolder

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 180.0


class Command:
    """`python -m cluster train` in a session of its own; every process it starts carries a mark."""

    def __init__(self, *words):
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cluster", "train", *map(str, words)],
            cwd=REPOSITORY,
            env={**os.environ, "GMVAE_TEST_MARK": self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait(self, seconds=START_SECONDS):
        """(exit code, lines of output)."""
        try:
            output, _ = self.process.communicate(timeout=seconds)
        finally:
            self.kill()
        return self.process.returncode, output.splitlines()

    def wait_for(self, path):
        deadline = time.monotonic() + START_SECONDS
        while not path.exists():
            assert self.process.poll() is None, self.process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def interrupt(self):
        """What a terminal does on Ctrl-C: the whole process group gets it."""
        os.killpg(self.process.pid, signal.SIGINT)

    def processes(self):
        """(pid, command line) of all that live, by the mark in their environment."""
        alive = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"GMVAE_TEST_MARK={self.mark}".encode() in (folder / "environ").read_bytes():
                    title = (folder / "cmdline").read_bytes().decode(errors="replace")
                    alive.append((int(folder.name), title))
            except OSError:
                continue
        return alive

    def all_gone(self, seconds=30):
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return not left

    def kill(self, processes=None):
        for pid, _ in self.processes() if processes is None else processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Noise of two tints as a data set of 12 + 4 images per domain."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for domain, tint in (("A", 90), ("B", 160)):
            folder = root / "source" / f"{split}{domain}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = random.normal(tint, 40, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    words = [sys.executable, "-m", "data_shards", "build", str(root / "source"), str(root / "shards")]
    subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True)
    return root / "shards"


@pytest.fixture(scope="module")
def config(shards, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    small = {"width": 16, "residual_blocks": 1}
    content = {
        "run": {"name": "tiny", "seed": 5},
        "data": {"uri": str(shards), "global_batch": 16},
        "model": {
            "content": small,
            "attribute": {"width": 16, "downsamplings": 2},
            "generator": {"kind": "adain", "residual_blocks": 1},
            "discriminator": {"conditioning": "select", "width": 16, "downsamplings": 3},
            "content_discriminator": None,
        },
        "train": {
            "steps": 10,
            "precision": "fp32",
            "log_every": 2,
            "checkpoint_every": 5,
            "preview_every": 5,
        },
        "scaling": {"workers": 2},
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    storage = tmp_path_factory.mktemp("undisturbed")
    code, lines = Command(config, f"run.storage={storage}").wait()
    assert code == 0, "\n".join(lines)
    return RunFolder(str(storage), "tiny"), lines


def rows(folder):
    timings = ("images_per_second", "data_wait")
    parsed = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in timings} for row in parsed]


def assert_same_run(folder, other):
    """The same weights, optimizers, rows, pictures and export, bit for bit."""
    ours = checkpoint.load(checkpoint.path_of(folder.checkpoints, 10))
    theirs = checkpoint.load(checkpoint.path_of(other.checkpoints, 10))
    flat, flat_other = flatten(vars(ours)), flatten(vars(theirs))
    assert flat.keys() == flat_other.keys()
    for key, value in flat.items():
        same = torch.equal(value, flat_other[key]) if torch.is_tensor(value) else value == flat_other[key]
        assert same, key
    assert rows(folder) == rows(other)
    for path in (folder.preview(10), folder.export / "model.safetensors"):
        assert path.read_bytes() == (other.root / path.relative_to(folder.root)).read_bytes()


def flatten(value, prefix=""):
    if isinstance(value, dict):
        return {k: v for key, each in value.items() for k, v in flatten(each, f"{prefix}{key}.").items()}
    return {prefix: value}


def test_a_run_leaves_its_folder_and_few_lines(undisturbed, config):
    folder, lines = undisturbed
    assert [row["step"] for row in rows(folder)] == [2, 4, 5, 6, 8, 10]
    assert {"epoch", "skipped", "lr/translator", "temperature", "reconstruction"} <= rows(folder)[0].keys()
    assert sorted(path.name for path in folder.previews.iterdir()) == ["step-000005.png", "step-000010.png"]
    assert sorted(path.name for path in folder.export.iterdir()) == ["config.yaml", "model.safetensors"]
    assert list(folder.tensorboard.glob("events.*"))
    assert yaml.safe_load(folder.config.read_text())["scaling"]["workers"] == 2
    assert not folder.ray.exists()
    assert lines[-1] == f"Finished. Model in {folder.export}"
    assert len(lines) < 10, "no line per worker or step"


def test_a_finished_run_says_so(undisturbed, config):
    folder, _ = undisturbed
    code, lines = Command(config, f"run.storage={folder.root.parent}").wait()
    assert code == 0
    assert lines == [f"Run tiny is finished: 10 steps, model in {folder.export}"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("model.mixture.components=3", "belongs to another run: model.mixture.components was 2, is 3"),
        ("run.seed=6", "belongs to another run: seed was 5, is 6"),
        ("train.steps=5", "train.steps = 5: this run has trained 10 steps; use a new run.name"),
        ("scaling.use_gpu=true", "scaling.use_gpu: 2 workers need a GPU each"),
        ("data.uri=/nowhere", "no data set at /nowhere"),
        ("data.global_batch=400", "fewer than its share of the global batch"),
        (
            "data.domains=[A] data.tail=pad",
            "needs at least 2 domains to translate between, and the data hold A only",
        ),
    ],
)
def test_what_cannot_run_is_refused_in_one_line_before_ray_starts(undisturbed, config, words, reason):
    if words == "scaling.use_gpu=true" and torch.cuda.device_count() >= 2:
        pytest.skip("this machine has the GPUs")
    folder, _ = undisturbed
    before = sorted(folder.root.rglob("*"))
    code, lines = Command(config, f"run.storage={folder.root.parent}", *words.split()).wait(60)
    assert code == 1
    (line,) = lines
    assert line.startswith("error: ")
    assert reason in line
    assert sorted(folder.root.rglob("*")) == before


def test_a_place_that_cannot_be_written_is_refused_in_one_line(config, tmp_path):
    (tmp_path / "file").touch()
    code, lines = Command(config, f"run.storage={tmp_path / 'file'}").wait(60)
    assert code == 1
    assert lines == [
        f"error: {tmp_path}/file/tiny: cannot be written to: Not a directory; set run.storage",
    ]


def test_a_killed_run_resumes_bit_for_bit(undisturbed, config, tmp_path):
    folder = RunFolder(str(tmp_path), "tiny")
    first = Command(config, f"run.storage={tmp_path}")
    first.wait_for(folder.metrics)
    everything = first.processes()  # looked up before, for the other five steps take less than a second
    first.wait_for(checkpoint.path_of(folder.checkpoints, 5))
    first.kill(everything)
    assert first.process.wait() == -signal.SIGKILL
    assert first.all_gone(), first.processes()
    assert [checkpoint.step_of(path) for path in checkpoint.newest_first(folder.checkpoints)] == [5]
    code, lines = Command(config, f"run.storage={tmp_path}").wait()
    assert code == 0, "\n".join(lines)
    assert lines[0] == "Resuming run tiny after step 5."
    assert_same_run(folder, undisturbed[0])


def test_a_killed_worker_is_replaced_and_the_run_ends_bit_for_bit(undisturbed, config, tmp_path):
    folder = RunFolder(str(tmp_path), "tiny")
    command = Command(config, f"run.storage={tmp_path}")
    command.wait_for(checkpoint.path_of(folder.checkpoints, 5))
    workers = [pid for pid, title in command.processes() if "RayTrainWorker" in title]
    assert len(workers) == 2, command.processes()
    os.kill(workers[1], signal.SIGKILL)
    code, lines = command.wait()
    assert code == 0, "\n".join(lines)
    assert "training from step 5 in fp32 on cpu" in lines
    assert any(line.endswith(" died") for line in lines)
    assert_same_run(folder, undisturbed[0])


def test_ctrl_c_saves_says_how_to_resume_and_leaves_no_process(config, tmp_path):
    folder = RunFolder(str(tmp_path), "tiny")
    command = Command(config, f"run.storage={tmp_path}", "train.steps=100000", "train.preview_every=0")
    command.wait_for(checkpoint.path_of(folder.checkpoints, 5))
    begin = time.monotonic()
    command.interrupt()
    code, lines = command.wait(60)
    assert time.monotonic() - begin < 30
    assert code == 130, "\n".join(lines)
    step = checkpoint.step_of(checkpoint.newest_first(folder.checkpoints)[0])
    assert lines[-1] == (
        f"Stopped after step {step} of 100000, checkpoint saved. The same command resumes the run."
    )
    assert command.all_gone(10), command.processes()


def test_a_fault_in_a_worker_is_one_line_and_no_restart(config, shards, tmp_path):
    damaged = tmp_path / "shards"
    damaged.mkdir()
    for path in shards.rglob("*"):
        if path.is_file():
            target = damaged / path.relative_to(shards)
            target.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes()
            target.write_bytes(content.replace(b"IDAT", b"IDAX") if path.suffix == ".tar" else content)
    code, lines = Command(config, f"run.storage={tmp_path}", f"data.uri={damaged}").wait()
    assert code == 1
    assert lines[0] == "Starting Ray."
    assert lines[1].startswith("error: "), lines
    assert "changed after it was built" in lines[1]
    assert len(lines) == 2, lines
