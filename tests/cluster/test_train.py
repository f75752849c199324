"""The whole way: `python -m cluster train` on Ray with two workers, undisturbed, killed, stopped and refused."""

import json
import signal
import time

import pytest
import torch
import yaml

from cluster.checkpoints import Checkpoints, index_name
from cluster.run_folder import RunFolder

from .command import Command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    storage = tmp_path_factory.mktemp("undisturbed")
    code, lines = Command(config, f"run.storage={storage}").wait()
    assert code == 0, "\n".join(lines)
    return RunFolder(str(storage), "tiny"), lines


def rows(folder):
    timings = ("images_per_second", "data_wait", "seconds", "workers")
    parsed = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in timings} for row in parsed]


def assert_same_run(folder, other):
    """The same weights, optimizers, rows, pictures and export, bit for bit."""
    ours, theirs = (Checkpoints(each).load(10) for each in (folder, other))
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
    events = [json.loads(line) for line in folder.events.read_text().splitlines()]
    assert [(event["kind"], event["step"]) for event in events] == [("start", 0), ("finish", 10)]
    assert json.loads(folder.environment.read_text())["torch"] == torch.__version__
    assert not list((folder.root / ".building").iterdir())
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
    first.wait_for(folder.root / index_name(5))
    first.kill(everything)
    assert first.process.wait() == -signal.SIGKILL
    assert first.all_gone(), first.processes()
    assert Checkpoints(folder).steps() == [5]
    code, lines = Command(config, f"run.storage={tmp_path}").wait()
    assert code == 0, "\n".join(lines)
    assert lines[0] == "Resuming run tiny after step 5."
    assert_same_run(folder, undisturbed[0])


def test_ctrl_c_saves_says_how_to_resume_and_leaves_no_process(config, tmp_path):
    folder = RunFolder(str(tmp_path), "tiny")
    command = Command(config, f"run.storage={tmp_path}", "train.steps=100000", "train.preview_every=0")
    command.wait_for(folder.root / index_name(5))
    begin = time.monotonic()
    command.interrupt()
    code, lines = command.wait(60)
    assert time.monotonic() - begin < 30
    assert code == 130, "\n".join(lines)
    step = Checkpoints(folder).steps()[0]
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
