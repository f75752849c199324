"""Streaming from S3 while requests fail, the server is away, or the bucket goes: every byte right, or one line."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from data_shards.build import BuildOptions, SourceImage, build
from data_shards.config import DataSettings
from data_shards.errors import DataError
from data_shards.loader import Loader
from data_shards.manifest import Manifest
from data_shards.store import open_store

from ..conftest import Faulty
from ..s3.proxy import FAULTS
from ..s3.server import BUCKET, S3Server

Batch = dict[str, Tensor]

HANG = 120.0  # seconds; far more than anything here should take
SAMPLES = 1_100  # of each of two domains
STEPS = SAMPLES // 8  # of an epoch


def images() -> Iterator[SourceImage]:
    random = np.random.default_rng(0)
    for domain in ("a", "b"):
        for index in range(SAMPLES):
            pixels = random.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            yield SourceImage(domain, "train", f"image {index}", Image.fromarray(pixels))


def build_at(uri: str) -> Manifest:
    return build(images(), uri, BuildOptions(shard_samples=300))


def settings(uri: str, **changes: object) -> DataSettings:
    """Small reads, and none before they are needed, so that most of an epoch lies before the reader."""
    small = {
        "global_batch": 16,
        "crop": 20,
        "chunk": 4,
        "window": 1,
        "read_ahead_mib": 0.01,
        "ready_batches": 1,
    }
    return DataSettings.model_validate({"uri": uri, **small, **changes})


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set in a folder."""
    folder = tmp_path_factory.mktemp("local") / "shards"
    build_at(str(folder))
    return folder


@pytest.fixture(scope="module")
def epoch(local: Path) -> list[Batch]:
    """What must come, whatever happens on the way."""
    loader = Loader(settings(str(local)), seed=0)
    assert loader.steps_per_epoch == STEPS
    batches = list(islice(loader.batches(), STEPS))
    loader.close()
    return batches


@pytest.fixture(scope="module")
def in_bucket(s3_server: S3Server) -> str:
    """The same in the bucket."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment().items():
            patch.setenv(name, value)
        build_at(f"s3://{BUCKET}/faults")
    return f"s3://{BUCKET}/faults"


def same(left: Batch, right: Batch) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("data_shards")]


def test_an_epoch_through_faults_of_all_kinds_is_right_to_the_byte(
    s3: S3Server, in_bucket: str, epoch: list[Batch], faulty: Faulty
) -> None:
    proxy = faulty(delay=0.2)
    loader = Loader(settings(in_bucket), seed=0)
    proxy.rate = 0.1
    before = proxy.requests
    for expected, batch in zip(epoch, loader.batches(), strict=False):
        assert same(batch, expected)
    proxy.rate = 0.0
    assert loader.stats().samples == 16 * STEPS >= 2_000
    assert loader.stats().substituted == 0
    loader.close()
    assert proxy.requests - before > 400
    assert set(proxy.injected) == set(FAULTS)
    assert proxy.injected.total() > 20
    assert not our_threads()


def test_a_data_set_is_opened_through_faults(s3: S3Server, in_bucket: str, faulty: Faulty) -> None:
    proxy = faulty(rate=0.3, delay=0.05)
    while proxy.injected.total() < len(FAULTS):
        loader = Loader(settings(in_bucket), seed=0)
        assert loader.steps_per_epoch == STEPS
        loader.close()


@pytest.mark.slow
def test_a_server_that_is_away_for_twenty_seconds_is_waited_for(
    s3: S3Server, in_bucket: str, epoch: list[Batch], caplog: pytest.LogCaptureFixture
) -> None:
    loader = Loader(settings(in_bucket), seed=0)
    begins_again = threading.Timer(20.0, s3.start)
    for step, (expected, batch) in enumerate(zip(epoch, loader.batches(), strict=False)):
        if step == 20:
            s3.stop()
            begins_again.start()
        assert same(batch, expected)
    begins_again.join()
    loader.close()
    assert "waiting for s3://" in caplog.text, "nobody noticed"
    assert not our_threads()


def test_a_server_that_stays_away_ends_the_stream_in_one_line(s3: S3Server, in_bucket: str) -> None:
    loader = Loader(settings(f"{in_bucket}?retry_seconds=3"), seed=0)
    batches = loader.batches()
    next(batches)
    s3.stop()
    began = time.monotonic()
    try:
        with pytest.raises(DataError) as caught:
            list(islice(batches, STEPS))
        assert time.monotonic() - began < HANG
        assert not our_threads()
        loader.close()
    finally:
        s3.start()
    line = str(caught.value)
    assert line.startswith(f"cannot read {in_bucket}/")
    assert "\n" not in line
    assert "(tried for" in line


def test_closing_does_not_wait_for_a_server_that_is_away(s3: S3Server, in_bucket: str) -> None:
    loader = Loader(settings(f"{in_bucket}?retry_seconds=3600", read_ahead_mib=1), seed=0)
    batches = loader.batches()
    next(batches)
    s3.stop()
    try:
        time.sleep(1.0)  # by now all threads that read are trying again
        assert our_threads()
        began = time.monotonic()
        loader.close()
        assert time.monotonic() - began < HANG
        assert not our_threads()
    finally:
        s3.start()


def test_a_shard_that_is_replaced_is_noticed(s3: S3Server) -> None:
    uri = f"s3://{BUCKET}/replaced"
    manifest = build_at(uri)
    shard = manifest.split("b", "train").shards[0]
    loader = Loader(settings(uri), seed=0)
    batches = loader.batches()
    next(batches)
    open_store(uri).put(shard.path, bytes(shard.bytes))
    with pytest.raises(DataError, match="the object was replaced after the data set was built") as caught:
        list(islice(batches, STEPS))
    assert f"cannot read {uri}/{shard.path} bytes=" in str(caught.value)
    assert not our_threads()
    loader.close()


def test_a_bucket_that_goes_ends_the_stream_of_every_rank_in_one_line(s3: S3Server) -> None:
    client = s3.client()
    client.create_bucket(Bucket="short-lived")
    build_at("s3://short-lived/data")
    gone, all_started = threading.Event(), threading.Barrier(3)

    def stream(rank: int) -> str:
        loader = Loader(settings("s3://short-lived/data"), seed=0, rank=rank, world_size=2)
        batches = loader.batches()
        next(batches)
        all_started.wait(HANG)
        gone.wait(HANG)
        try:
            list(islice(batches, 2 * STEPS))
        except DataError as error:
            return str(error)
        finally:
            loader.close()
        return "no error"

    with ThreadPoolExecutor(2) as pool:
        ranks = [pool.submit(stream, rank) for rank in (0, 1)]
        all_started.wait(HANG)
        client.delete_bucket(Bucket="short-lived")
        gone.set()
        lines = [rank.result(timeout=HANG) for rank in ranks]
    for line in lines:
        assert line.startswith("cannot read s3://short-lived/data/")
        assert "there is no such" in line
        assert "(HTTP 404 " in line
        assert "\n" not in line
    assert not our_threads()
