"""Training on a data set in a bucket, from a server that fails now and then: the run is that of a local copy."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from cluster.__main__ import app
from cluster.checkpoints import Checkpoints
from cluster.run_folder import RunFolder
from data_shards.build import BuildOptions, SourceImage, build

from ..s3.server import BUCKET
from .command import REPOSITORY, Command
from .test_train import flatten, rows

STEPS = 12
DEMO = REPOSITORY / "cluster" / "configs" / "demo.yaml"
SHORT = (
    f"train.steps={STEPS}",
    "train.precision=fp32",
    "train.log_every=4",
    "train.checkpoint_every=6",
    "train.preview_every=6",
    "train.preview_images=2",
    "train.evaluate_every=6",
    "train.evaluate_images=8",
    "train.best_metric=cycle",
    "data.chunk=2",
    "data.window=1",
)


def images():
    """Noise, 60 + 10 images of 32 pixels in each of two domains."""
    random = np.random.default_rng(0)
    for domain in ("mnist", "mnist-m"):
        for split, count in (("train", 60), ("test", 10)):
            for index in range(count):
                pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                yield SourceImage(domain, split, f"{split} {index}", Image.fromarray(pixels))


def train(storage, uri, *words):
    """The run's folder and the lines of the command, which must succeed."""
    code, lines = Command(DEMO, f"run.storage={storage}", f"data.uri={uri}", *SHORT, *words).wait(400)
    assert code == 0, "\n".join(lines)
    return RunFolder(str(storage), "demo"), lines


def evaluation(folder):
    words = [sys.executable, "-m", "cluster", "evaluate", folder.uri, "--limit", "8"]
    subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True, timeout=300)
    content = json.loads(folder.store.read("evaluation.json"))
    del content["data"]  # where they lie, which is what differs
    return content


@pytest.mark.slow
def test_two_workers_train_from_and_to_a_bucket_bit_for_bit_as_with_folders(faulty, tmp_path):
    local, bucket = str(tmp_path / "shards"), f"s3://{BUCKET}/cluster"
    for uri in (local, bucket):
        build(images(), uri, BuildOptions(shard_samples=20))
    theirs, _ = train(tmp_path / "local", local)
    proxy = faulty(rate=0.1, delay=0.1)
    ours, lines = train(f"s3://{BUCKET}/runs", bucket)
    assert proxy.requests > 100, "both workers and the driver find the server by their environment"
    assert proxy.injected.total() > 0
    assert lines[-1] == f"Finished. Model in s3://{BUCKET}/runs/demo/export"
    shutil.rmtree(ours.root)  # what is left is in the bucket
    ours.fetch_all("")

    state, other = (flatten(vars(Checkpoints(each).load(STEPS))) for each in (ours, theirs))
    assert state.keys() == other.keys()
    for key, value in state.items():
        assert value.equal(other[key]) if hasattr(value, "equal") else value == other[key], key
    weights = "model.safetensors"
    assert (ours.export / weights).read_bytes() == (theirs.export / weights).read_bytes()
    assert rows(ours) == rows(theirs)
    assert [row["step"] for row in rows(ours)] == [4, 6, 8, 12]
    for line in ours.metrics.read_text().splitlines():
        assert 0 <= json.loads(line)["data_wait"] <= 1
    best = Checkpoints(ours).best("cycle", "lowest")
    assert yaml.safe_load((ours.export / "config.yaml").read_text())["step"] == best
    assert evaluation(ours) == evaluation(theirs)

    subprocess.run(
        [sys.executable, "-m", "cluster", "report", ours.uri], cwd=REPOSITORY, check=True, timeout=120
    )
    page = ours.store.read("report.html").decode()
    assert "demo" in page
    assert "translations" in page


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://no-such-bucket/data", r"no data set at s3://no-such-bucket/data \(.*there is no such bucket"),
        (f"s3://{BUCKET}/nowhere", rf"no data set at s3://{BUCKET}/nowhere \(.*there is no such object"),
        (f"s3://{BUCKET}/nowhere?anonymous=true", r"cannot read s3://\S+: .*HTTP 403"),
        (f"s3://{BUCKET}?region=eu", "data.uri"),
    ],
)
def test_a_place_without_data_is_refused_in_one_line(s3, tmp_path, uri, reason):
    words = ["train", str(DEMO), f"run.storage={tmp_path}", f"data.uri={uri}"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    (line,) = done.output.splitlines()
    assert line.startswith("error: ")
    assert re.search(reason, line), line
    assert not list(tmp_path.iterdir())
