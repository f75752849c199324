"""The S3 store against a real server: what it does, and what it says when it cannot."""

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from data_shards.errors import DataError, Missing
from data_shards.manifest import Manifest
from data_shards.s3 import PART, S3Store
from data_shards.store import Entry, open_store

from ..conftest import Faulty
from ..s3.server import BUCKET, S3Server, free_ports

HANG = 30.0  # seconds; far more than anything here should take


@pytest.fixture
def store(s3: S3Server, request: pytest.FixtureRequest) -> S3Store:
    """A store of its own for each test, patient for two seconds."""
    name = re.sub(r"\W+", "-", request.node.name)
    return S3Store.from_uri(f"s3://{BUCKET}/store/{name}?retry_seconds=2")


def refused(call: Callable[[], object], kind: type[DataError] = DataError) -> str:
    """The one line in which ``call`` fails, soon."""
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        call()
    assert time.monotonic() - began < HANG
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_put_can_be_read_in_parts(store: S3Store) -> None:
    content = bytes(range(256)) * 300
    etag = store.put("folder/name with spaces & ümlaut.tar", content)
    path = "folder/name with spaces & ümlaut.tar"
    assert store.head(path) == Entry(path, len(content), etag)
    assert store.read(path) == content
    assert store.read(path, 1000) == content[1000:]
    assert store.read(path, 1000, 700) == content[1000:1700]
    assert store.read(path, 0, len(content), etag=etag) == content
    assert store.read(path, len(content) - 1, 1) == content[-1:]
    assert store.read(path, 5, 0) == b""
    assert store.put(path, b"") != etag
    assert store.read(path) == b""


def test_a_file_is_put(store: S3Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3_000_000))
    store.put("file", file)
    assert store.read("file") == file.read_bytes()
    assert file.exists()


@pytest.mark.slow
def test_a_large_file_goes_up_in_parts(store: S3Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    size = 2 * PART + 12_345
    with file.open("wb") as target:
        for start in range(0, size, 2**20):
            target.write(os.urandom(min(2**20, size - start)))
    etag = store.put("file", file)
    assert etag.rstrip('"').endswith("-3"), "three parts"
    assert store.head("file").size == size
    across = slice(PART - 500, PART + 500)
    assert store.read("file", across.start, 1000, etag=etag) == file.read_bytes()[across]


def test_a_prefix_is_a_root(s3: S3Server, store: S3Store) -> None:
    for path in ("b/two", "b/one", "a", "bc"):
        store.put(path, path.encode())
    store_of_b = S3Store.from_uri(f"{store.uri}/b/")
    assert [entry.path for entry in store.list()] == ["a", "b/one", "b/two", "bc"]
    assert [entry.path for entry in store.list("b")] == ["b/one", "b/two", "bc"]
    assert list(store_of_b.list()) == [store_of_b.head("one"), store_of_b.head("two")]
    assert store_of_b.read("one") == b"b/one"
    assert "store/" in {entry.path[:6] for entry in S3Store.from_uri(f"s3://{BUCKET}").list()}
    store.delete("b/one")
    store.delete("b/one")
    assert [entry.path for entry in store_of_b.list()] == ["two"]
    assert list(S3Store.from_uri(f"{store.uri}/nowhere").list()) == []


@pytest.mark.slow
def test_a_list_of_many_pages_is_whole(s3: S3Server, store: S3Store) -> None:
    store.put("a", b"")  # makes the client before there are threads
    names = [f"{number:04d}" for number in range(2_100)]
    put_all(store, names)
    assert [entry.path for entry in store.list()] == [*names, "a"]


def put_all(store: S3Store, names: list[str]) -> None:
    threads = [
        threading.Thread(target=lambda part=names[start::8]: [store.put(name, b"") for name in part])
        for start in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_replaced_object_is_refused(store: S3Store) -> None:
    etag = store.put("shard", b"old content")
    store.put("shard", b"new content")
    line = refused(lambda: store.read("shard", 0, 3, etag=etag))
    assert f"cannot read {store.uri}/shard bytes=0-2: the object was replaced after" in line
    assert "(HTTP 412" in line


def test_a_range_beyond_the_end_is_refused_without_retries(store: S3Store) -> None:
    store.put("shard", b"0123456789")
    for start, length in ((8, 5), (10, 1), (100, 5)):
        line = refused(lambda start=start, length=length: store.read("shard", start, length))
        assert f"{store.uri}/shard" in line
        assert "build it again" in line
        assert "tried for" not in line


def test_what_is_missing_is_named(store: S3Store) -> None:
    line = refused(lambda: store.read("shard", 10, 5), Missing)
    assert line.startswith(f"cannot read {store.uri}/shard bytes=10-14: there is no such object (HTTP 404 ")
    assert refused(lambda: store.head("shard"), Missing).startswith(
        f"cannot ask for {store.uri}/shard: there"
    )
    elsewhere = S3Store.from_uri("s3://no-such-bucket/prefix")
    for call in (
        lambda: elsewhere.read("shard"),
        lambda: elsewhere.put("shard", b"content"),
        lambda: list(elsewhere.list()),
    ):
        line = refused(call, Missing)
        assert "s3://no-such-bucket/prefix/" in line
        assert ": there is no such bucket (HTTP 404 NoSuchBucket)" in line
    assert "there is no such object or bucket" in refused(lambda: elsewhere.head("shard"), Missing)
    line = refused(lambda: Manifest.read(elsewhere), Missing)
    assert line.startswith(
        "no data set at s3://no-such-bucket/prefix (cannot read s3://no-such-bucket/prefix/man"
    )


def test_credentials_that_do_not_work_are_explained(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("object", b"content")
    uri = store.uri

    def line_of(uri: str) -> str:
        line = refused(lambda: S3Store.from_uri(uri).read("object"))
        assert line.startswith(f"cannot read {store.uri}/object: ")
        return line

    assert "may not do this" in line_of(f"{uri}?anonymous=true")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        assert "the secret key is wrong (HTTP 403 SignatureDoesNotMatch)" in line_of(uri)
        assert "the credentials in use may not do this" in refused(
            lambda: S3Store.from_uri(uri).head("object")
        )
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "wrong")
        assert "the access key is unknown" in line_of(uri)
    with monkeypatch.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID")
        assert "AWS_SECRET_ACCESS_KEY" in line_of(uri)
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        assert "no credentials: set AWS_ACCESS_KEY_ID" in line_of(uri)
        patch.setenv("AWS_PROFILE", "nobody")
        assert "nobody" in line_of(uri)


def test_a_server_that_cannot_be_reached_is_given_up_in_time(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    store = S3Store.from_uri(f"s3://{BUCKET}/prefix?retry_seconds=1")
    line = refused(lambda: store.read("object", 5, 7))
    assert f"cannot read s3://{BUCKET}/prefix/object bytes=5-11: " in line
    assert f"127.0.0.1:{port}" in line
    assert re.search(r"\(tried for \d s\)$", line)


@pytest.mark.parametrize("kind", ["slow down", "internal error", "cut off", "short", "reset"])
def test_a_fault_that_passes_is_not_seen_and_one_that_stays_is_named(
    store: S3Store, faulty: Faulty, kind: str
) -> None:
    content = os.urandom(10_000)
    store.put("object", content)
    proxy = faulty(rate=0.5, kinds=(kind,))
    patient = S3Store.from_uri(f"{store.uri}?retry_seconds=60")
    for start in range(0, 10_000, 1_000):
        assert patient.read("object", start, 1_000) == content[start : start + 1_000]
    assert proxy.injected[kind] > 0
    proxy.rate = 1.0
    line = refused(lambda: S3Store.from_uri(f"{store.uri}?retry_seconds=0.5").read("object", 0, 1_000))
    assert line.startswith(f"cannot read {store.uri}/object bytes=0-999: ")
    assert "(tried for" in line


def test_closing_ends_a_wait(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    store = S3Store.from_uri(f"s3://{BUCKET}/prefix?retry_seconds=3600")
    lines: list[str] = []
    thread = threading.Thread(target=lambda: lines.append(refused(lambda: store.read("object"))))
    thread.start()
    time.sleep(1.0)
    assert thread.is_alive()
    store.close()
    thread.join(HANG)
    assert lines == [f"cannot read s3://{BUCKET}/prefix/object: the store was closed"]


def test_leftovers_are_swept(s3: S3Server, store: S3Store) -> None:
    client, key = s3.client(), store.uri.removeprefix(f"s3://{BUCKET}/")
    inside = client.create_multipart_upload(Bucket=BUCKET, Key=f"{key}/shard")
    foreign = client.create_multipart_upload(Bucket=BUCKET, Key=f"{key}/somebody's")
    outside = client.create_multipart_upload(Bucket=BUCKET, Key=f"{key}-other/shard")
    client.upload_part(
        Bucket=BUCKET, Key=f"{key}/shard", UploadId=inside["UploadId"], PartNumber=1, Body=b"part"
    )
    store.workspace.mkdir(parents=True, exist_ok=True)
    (store.workspace / "unfinished").write_bytes(b"")
    store.put("kept", b"content")
    store.sweep(re.compile("shard"))
    uploads = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    left = {foreign["UploadId"], outside["UploadId"]}
    assert {upload["UploadId"] for upload in uploads} == left
    assert not list(store.workspace.glob("*"))
    assert [entry.path for entry in store.list()] == ["kept"]
    with pytest.raises(ClientError):
        client.list_parts(Bucket=BUCKET, Key=f"{key}/shard", UploadId=inside["UploadId"])
    for upload in (foreign, outside):
        client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3://bucket/prefix?region=eu", "after the prefix go only"),
        ("s3://bucket/prefix?anonymous=yes", "after the prefix go only"),
        ("s3://bucket/prefix#part", "after the prefix go only"),
        ("s3://bucket/prefix?retry_seconds=long", "retry_seconds='long' is not a number"),
        ("s3://bucket/prefix?retry_seconds=nan", "retry_seconds='nan' is not a number"),
        ("s3://bucket/prefix?retry_seconds=-1", "retry_seconds='-1' is not a number"),
        ("s3://Not A Bucket/prefix", "is no name of a bucket"),
        ("s3://user:word@bucket/prefix", "is no name of a bucket"),
        ("S3://bucket/prefix", "neither a folder nor s3://"),
    ],
)
def test_uris_that_name_no_place_are_refused(uri: str, message: str) -> None:
    line = refused(lambda: open_store(uri))
    assert message in line
    assert uri in line


def test_options_of_a_uri() -> None:
    assert (
        open_store("s3://bucket/some/prefix/?anonymous=true&retry_seconds=600").uri
        == "s3://bucket/some/prefix"
    )
    assert open_store("s3://bucket").uri == "s3://bucket"
