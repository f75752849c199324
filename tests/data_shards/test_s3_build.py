"""From a bucket into a bucket and out again, by the commands that a user types."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from data_shards.__main__ import app
from data_shards.config import DataSettings
from data_shards.loader import Loader
from data_shards.manifest import Manifest
from data_shards.samples import read_split
from data_shards.store import open_store

from ..conftest import Faulty
from ..s3.server import BUCKET, S3Server

BUILD = ("--resize", "32", "--format", "png", "--shard-samples", "3", "--processes")


def run(*words: object) -> tuple[int, list[str]]:
    """Exit code and lines of a command."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output.splitlines()


def succeed(*words: object) -> list[str]:
    code, lines = run(*words)
    assert code == 0, "\n".join(lines)
    return lines


def digest(uri: str) -> str:
    return Manifest.read(open_store(uri)).digest


@pytest.fixture
def photos_in_bucket(s3: S3Server, photos: Path, request: pytest.FixtureRequest) -> str:
    """The same photos as in the folder."""
    store = open_store(f"s3://{BUCKET}/photos/{request.node.name}")
    for path in photos.rglob("*"):
        if path.is_file():
            store.put(path.relative_to(photos).as_posix(), path)
    return store.uri


def test_what_is_built_into_a_bucket_streams_as_from_a_folder(
    s3: S3Server, photos: Path, tmp_path: Path
) -> None:
    local, bucket = str(tmp_path / "shards"), f"s3://{BUCKET}/built/from-folder"
    succeed("build", photos, local, *BUILD, 1)
    succeed("build", photos, bucket, *BUILD, 2)
    assert f"{bucket} is as it was built" in succeed("verify", bucket, "--deep")
    assert f"{bucket} is up to date" in succeed("build", photos, bucket, *BUILD, 1)
    assert digest(bucket) == digest(local)
    assert {entry.path for entry in open_store(bucket).list()} == {
        entry.path for entry in open_store(local).list()
    }
    manifest = Manifest.read(open_store(bucket))
    assert all(file.etag for file in manifest.files()), "a replaced shard must be noticed"
    for domain in "AB":
        for split in ("train", "test"):
            pairs = zip(read_split(bucket, split, domain), read_split(local, split, domain), strict=True)
            for ours, theirs in pairs:
                assert (ours.key, ours.meta) == (theirs.key, theirs.meta)
                assert torch.equal(ours.image, theirs.image)
    streams = []
    for uri in (bucket, local):
        data = DataSettings(uri=uri, global_batch=4, crop=20, chunk=2, window=1)
        loader = Loader(data, seed=0)
        streams.append(list(islice(loader.batches(), 20)))
        loader.close()
    for ours, theirs in zip(*streams, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_source_in_a_bucket_gives_the_shards_of_the_same_files_in_a_folder(
    photos: Path, photos_in_bucket: str, tmp_path: Path, faulty: Faulty
) -> None:
    local, bucket = str(tmp_path / "shards"), f"s3://{BUCKET}/built/from-bucket"
    succeed("build", photos, local, *BUILD, 1)
    proxy = faulty(rate=0.3, delay=0.1)
    succeed("build", photos_in_bucket, bucket, *BUILD, 1)
    assert proxy.injected.total() > 0
    proxy.rate = 0.0
    assert digest(bucket) == digest(local)
    assert f"{bucket} is as it was built" in succeed("verify", bucket, "--deep")


def test_places_that_are_none_are_refused_in_one_line(s3: S3Server, photos: Path) -> None:
    nowhere = "s3://no-such-bucket/data"
    for words in (
        ("build", photos, nowhere),
        ("build", nowhere, f"s3://{BUCKET}/built/nothing"),
        ("verify", nowhere),
        ("stat", nowhere),
    ):
        code, lines = run(*words)
        assert code == 1
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        assert "there is no such bucket" in lines[0]
    assert not list(open_store(f"s3://{BUCKET}/built/nothing").list())
