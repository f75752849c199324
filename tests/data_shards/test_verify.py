"""Every kind of damage is found, named once, and not repaired unasked."""

import hashlib
import io
import json
import shutil
import signal
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from typer.testing import CliRunner

from data_shards import members
from data_shards import verify as verifying
from data_shards.__main__ import app
from data_shards.errors import DataError
from data_shards.index import COLUMNS, SampleIndex, encode_index
from data_shards.manifest import File, Manifest, Split
from data_shards.s3 import S3Store
from data_shards.samples import read_split
from data_shards.store import Entry, LocalStore, Store, open_store

from ..s3.server import BUCKET, S3Server

Made = Callable[..., str]


def verify(uri: str, *options: str) -> tuple[int, list[str], list[str]]:
    """Exit code, faults, notes."""
    done = CliRunner().invoke(app, ["verify", uri, *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    lines = done.stderr.splitlines()
    notes = [line for line in lines if line.startswith("note: ")]
    assert (done.exit_code == 0) == ("is as it was built" in done.stdout)
    return done.exit_code, [line for line in lines if line not in notes], notes


class Damaged:
    """The training split of domain a, to be damaged, and published again where the manifest shall agree."""

    def __init__(self, uri: str, store: Store | None = None) -> None:
        self.uri = uri
        self.store = store or LocalStore(Path(uri))
        self.manifest = Manifest.read(self.store)
        self.split = self.manifest.split("a", "train")
        index = SampleIndex(self.store, self.split)
        names = [name for name in COLUMNS if name != "key"]
        self.columns: dict[str, list[Any]] = {
            "key": index.keys(),
            **{name: column.tolist() for name, column in zip(names, index.numbers(*names), strict=True)},
        }

    def shard(self, number: int = 0) -> Path:
        return Path(self.uri, self.split.shards[number].path)

    def publish(self, shard: bytes | None = None) -> None:
        """Write the first shard, the index and a manifest that agrees with both."""
        shards = list(self.split.shards)
        if shard is not None:
            shards[0] = shards[0].model_copy(update=self._put(shards[0].path, shard))
        index = File(
            path=self.split.index.path, **self._put(self.split.index.path, encode_index(self.columns))
        )
        changed = Split(shards=tuple(shards), index=index)
        domains = {**self.manifest.domains, "a": {**self.manifest.domains["a"], "train": changed}}
        self.manifest.model_copy(update={"domains": domains}).write(self.store)

    def _put(self, path: str, content: bytes) -> dict[str, Any]:
        self.store.put(path, content)
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_a_whole_data_set_has_no_faults(make: Made) -> None:
    uri = make({"a": 30, "b": 3, "c d": 1})
    assert verify(uri) == (0, [], [])
    assert verify(uri, "--deep") == (0, [], [])


def test_a_file_is_read_once_and_in_pieces(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "PIECE", 1000)  # smaller than a sample and no multiple of a block
    uri = make({"a": 30, "b": 10})
    store = LocalStore(Path(uri))
    manifest = Manifest.read(store)
    longest, total = 0, 0
    read = store.read

    def watched(path: str, start: int = 0, length: int | None = None, *, etag: str | None = None) -> bytes:
        nonlocal longest, total
        content = read(path, start, length, etag=etag)
        if path.endswith(".tar"):
            longest, total = max(longest, len(content)), total + len(content)
        return content

    monkeypatch.setattr(store, "read", watched)
    heard: list[int] = []
    assert list(verifying.findings(store, manifest, deep=True, watch=heard.append)) == []
    assert longest == 1000
    assert total == sum(split.bytes for splits in manifest.domains.values() for split in splits.values())
    assert sum(heard) == sum(file.bytes for file in manifest.files())


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "remove", "swap"])
@pytest.mark.parametrize("which", ["shard", "index"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_damaged_file_is_named_once(make: Made, damage: str, which: str, deep: bool) -> None:
    uri = make({"a": 30, "b": 10})
    damaged = Damaged(uri)
    path = damaged.shard(1) if which == "shard" else Path(uri, damaged.split.index.path)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1  # of a shard: padding, so that no sample is hurt
    said = {
        "flip": "its SHA-256 is",
        "cut": f"{len(data) - 1} bytes instead of {len(data)}",
        "grow": f"{len(data) + 512} bytes instead of {len(data)}",
        "remove": "it is missing",
        "swap": "bytes instead of" if which == "index" else "its SHA-256 is",
    }[damage]
    if damage == "remove":
        path.unlink()
    elif damage == "swap":
        other = damaged.manifest.split("b", "train")
        shutil.copyfile(damaged.shard(2) if which == "shard" else Path(uri, other.index.path), path)
    else:
        path.write_bytes({"cut": data[:-1], "grow": data + bytes(512)}.get(damage, data))
    code, faults, notes = verify(uri, *(["--deep"] if deep else []))
    assert code == 1
    assert notes == []
    assert all(str(path) in fault for fault in faults)
    assert said in faults[0]
    assert "restore it from a copy or build again" in faults[0]
    assert len(faults) == 1 or (deep and damage == "swap" and which == "shard")


def test_several_faults_are_several_lines_in_order(make: Made) -> None:
    damaged = Damaged(make({"a": 30, "b": 10}))
    for number in (2, 0):
        damaged.shard(number).unlink()
    _, faults, _ = verify(damaged.uri)
    assert [str(damaged.shard(number)) in faults[place] for place, number in enumerate((0, 2))] == [
        True,
        True,
    ]
    assert len(faults) == 2


def test_deep_names_the_samples_that_are_hurt(make: Made) -> None:
    damaged = Damaged(make({"a": 30, "b": 10}))
    image, text = (damaged.columns[name][3] for name in ("data_offset", "meta_offset"))
    path = damaged.shard()
    data = bytearray(path.read_bytes())
    data[image + 50] ^= 1
    data[text] = ord("[")
    path.write_bytes(data)
    assert len(verify(damaged.uri)[1]) == 1
    _, faults, _ = verify(damaged.uri, "--deep")
    assert len(faults) == 3
    assert "SHA-256" in faults[0]
    key = damaged.columns["key"][3]
    assert f"{path}: sample {key}, image: it is not what was built (CRC-32C)" in faults[1]
    assert f"{path}: sample {key}, metadata: it is not a JSON object" in faults[2]


def test_a_shard_torn_to_pieces_is_not_told_at_length(make: Made) -> None:
    damaged = Damaged(make({"a": 30, "b": 10}, shard_samples=30))
    path = damaged.shard()
    path.write_bytes(bytes(path.stat().st_size))
    _, faults, _ = verify(damaged.uri, "--deep")
    assert len(faults) == 1 + verifying.TOLD + 1
    assert "no tar header before byte 512" in faults[1]
    # Each image and each metadata lacks its header and its content.
    assert f"{30 * 4 - verifying.TOLD} more faults within" in faults[-1]


def tar_of(samples: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in samples.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def members_of(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


def test_a_member_that_the_index_lacks(make: Made) -> None:
    damaged = Damaged(make({"a": 30, "b": 10}))
    tar = members_of(damaged.shard())
    damaged.publish(tar_of({**tar, "stranger.png": bytes(700), "another.png": b"x"}))
    assert verify(damaged.uri) == (0, [], [])
    _, faults, _ = verify(damaged.uri, "--deep")
    assert len(faults) == 2
    assert "stranger.png at byte" in faults[0]
    assert "another.png at byte" in faults[1]
    # In the middle: the rows of what follows are moved along.
    middle = dict(list(tar.items())[:4])
    damaged.publish(tar_of({**middle, "stranger.png": bytes(700), **tar}))
    for name in ("data_offset", "meta_offset"):
        for row in range(2, damaged.split.shards[0].count):
            damaged.columns[name][row] += 512 + 1024
    damaged.publish(tar_of({**middle, "stranger.png": bytes(700), **dict(list(tar.items())[4:])}))
    _, faults, _ = verify(damaged.uri, "--deep")
    assert len(faults) == 1
    assert "stranger.png at byte" in faults[0]


def test_something_that_is_no_member(make: Made) -> None:
    damaged = Damaged(make({"a": 30, "b": 10}))
    content = bytearray(damaged.shard().read_bytes())
    content[-300:] = b"x" * 300
    damaged.publish(bytes(content))
    assert verify(damaged.uri, "--deep") == (0, [], [])  # behind the end of the tar, where no reader looks
    start = max(damaged.columns["meta_offset"][: damaged.split.shards[0].count]) + 512
    content[start : start + 512] = b"x" * 512
    damaged.publish(bytes(content))
    _, faults, _ = verify(damaged.uri, "--deep")
    assert len(faults) == 1
    assert f"no tar header at byte {start}" in faults[0]


@pytest.mark.parametrize(
    ("column", "change", "messages"),
    [
        ("width", lambda value: value + 1, ["it has 14x12 pixels, the index says 15x12"]),
        ("height", lambda value: value - 1, ["it has 14x12 pixels, the index says 14x11"]),
        ("crc32c", lambda value: value ^ 1, ["it is not what was built (CRC-32C)"]),
        ("key", lambda value: "other", ["the tar has 0", "the tar has 0"]),
        ("size", lambda value: value - 1, ["bytes in its place of", "(CRC-32C)"]),
        ("data_offset", lambda value: 10**12, ["out of the shard", "from the index"]),
        ("data_offset", lambda value: 3, ["out of the shard", "from the index"]),
        (
            "data_offset",
            lambda value: value + 512,
            ["from the index", "no tar header before", "(CRC-32C)", "within", "no tar header at"],
        ),
    ],
)
def test_a_row_that_disagrees_with_the_tar(
    make: Made, column: str, change: Callable[[Any], Any], messages: list[str]
) -> None:
    damaged = Damaged(make({"a": 30, "b": 10}))
    damaged.columns[column][4] = change(damaged.columns[column][4])
    damaged.publish()
    assert verify(damaged.uri) == (0, [], [])
    code, faults, _ = verify(damaged.uri, "--deep")
    assert code == 1
    assert len(faults) == len(messages)
    assert all(str(damaged.shard()) in fault for fault in faults)
    for message in messages:
        assert any(message in fault for fault in faults)


def test_an_image_that_was_never_one(make: Made) -> None:
    damaged = Damaged(make({"a": 30, "b": 10}))
    tar = members_of(damaged.shard())
    key = damaged.columns["key"][2]
    size = len(tar[f"{key}.png"])
    tar[f"{key}.png"] = b"x" * size
    damaged.columns["crc32c"][2] = google_crc32c.value(b"x" * size)
    damaged.publish(tar_of(tar))
    _, faults, _ = verify(damaged.uri, "--deep")
    assert len(faults) == 1
    assert f"sample {key}, image: it cannot be decoded" in faults[0]


def test_keys_that_occur_twice_and_a_wrong_number_of_rows(make: Made) -> None:
    damaged = Damaged(make({"a": 30, "b": 10}))
    key = damaged.columns["key"][20]
    damaged.columns["key"][29] = key
    damaged.publish()
    _, faults, _ = verify(damaged.uri, "--deep")
    assert f"1 keys occur twice, such as {key}" in " ".join(faults)
    for column in damaged.columns.values():
        column.pop()
    damaged.publish()
    _, faults, _ = verify(damaged.uri, "--deep")
    assert len(faults) == 1
    assert "has 29 rows for 30 samples" in faults[0]


def test_files_beside_the_data_set_are_noted(make: Made) -> None:
    uri = make({"a": 30, "b": 10})
    Path(uri, "notes.txt").write_text("mine")
    code, faults, notes = verify(uri)
    assert (code, faults) == (0, [])
    assert len(notes) == 1
    assert "1 files, 0.0 MiB, are not of this data set and may be removed: notes.txt" in notes[0]
    Path(uri, ".building").mkdir()
    Path(uri, ".building", "record.json").write_text("{}")
    code, _, notes = verify(uri, "--deep")
    assert code == 0
    assert "holds 1 files of a build that is under way" in notes[0]
    assert "may be of that build: notes.txt" in notes[1]


def test_a_manifest_that_leads_elsewhere_is_refused(make: Made) -> None:
    uri = make({"a": 3, "b": 3})
    content = json.loads(Path(uri, "manifest.json").read_text())
    content["domains"]["a"]["train"]["shards"][0]["path"] = "../../etc/passwd"
    Path(uri, "manifest.json").write_text(json.dumps(content))
    code, faults, _ = verify(uri)
    assert code == 1
    assert len(faults) == 1
    assert "leads out of the data set" in faults[0]


def test_ctrl_c_does_not_wait_for_a_store_that_is_away(make: Made) -> None:
    class Away(LocalStore):
        closed = threading.Event()

        def head(self, path: str) -> Entry:
            assert self.closed.wait(30)
            raise DataError("the store was closed")

        def close(self) -> None:
            self.closed.set()

    uri = make({"a": 30, "b": 10})
    manifest = Manifest.read(LocalStore(Path(uri)))
    main = threading.main_thread().ident
    threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(verifying.findings(Away(Path(uri)), manifest, deep=False))
    assert time.monotonic() - began < 20


def copied_to_bucket(uri: str, prefix: str) -> str:
    """The address of a copy."""
    target = S3Store(BUCKET, prefix)
    for entry in LocalStore(Path(uri)).list():
        target.put(entry.path, Path(uri, entry.path))
    return target.uri


def test_etags_of_a_copy_are_taken_over_on_demand(make: Made, s3: S3Server, tmp_path: Path) -> None:
    local = make({"a": 30, "b": 10})
    remote = copied_to_bucket(local, "verify/copy")
    digest = Manifest.read(open_store(local)).digest
    count = len(Manifest.read(open_store(local)).files())

    code, faults, notes = verify(remote, "--deep")
    assert (code, faults) == (0, [])
    assert len(notes) == 1
    assert f"for {count} files, because the data set was copied; it can be read" in notes[0]
    assert verify(remote, "--deep", "--update-etags") == (0, [], [])
    store = open_store(remote)
    updated = Manifest.read(store)
    assert all(file.etag for file in updated.files())
    assert updated.digest == digest
    assert verify(remote) == (0, [], [])

    # The same contents put again, under another ETag: S3 gives such to copies of large objects.
    found = [verifying.OtherEtag(file, f'"{"f" * 32}"') for file in updated.files()[:2]]
    verifying.update_etags(store, updated, found)
    code, faults, notes = verify(remote, "--deep")
    assert (code, len(faults), notes) == (1, 1, [])
    assert "and 1 more files: other ETags than in the manifest" in faults[0]
    assert "--deep --update-etags" in faults[0]
    assert verify(remote, "--deep", "--update-etags") == (0, [], [])
    assert len(list(read_split(remote, "train", "a"))) == 30

    # Back in a folder, which has no ETags, nobody minds.
    back = tmp_path / "back"
    for entry in store.list():
        LocalStore(back).put(entry.path, store.read(entry.path))
    code, faults, notes = verify(str(back))
    assert (code, faults, len(notes)) == (0, [], 1)
    assert verify(str(back), "--deep", "--update-etags") == (0, [], [])
    assert not any(file.etag for file in Manifest.read(LocalStore(back)).files())


def test_etags_are_not_taken_over_from_what_is_damaged(make: Made, s3: S3Server) -> None:
    local = make({"a": 30, "b": 10})
    damaged = Damaged(local)
    data = bytearray(damaged.shard().read_bytes())
    data[damaged.columns["data_offset"][0] + 40] ^= 1
    damaged.shard().write_bytes(data)
    remote = copied_to_bucket(local, "verify/damaged")
    before = open_store(remote).read("manifest.json")
    code, faults, notes = verify(remote, "--deep", "--update-etags")
    assert code == 1
    assert len(faults) == 2
    assert "(CRC-32C)" in faults[1]
    assert len(notes) == 1
    assert open_store(remote).read("manifest.json") == before

    done = CliRunner().invoke(app, ["verify", remote, "--update-etags"])
    assert done.exit_code == 2
    assert "needs --deep" in done.stderr


def test_a_bucket_is_verified(make: Made, s3: S3Server) -> None:
    local = make({"a": 30, "b": 10})
    remote = copied_to_bucket(local, "verify/bucket")
    assert verify(remote, "--deep", "--update-etags")[0] == 0
    store = open_store(remote)
    damaged = Damaged(local)
    path, gone = (damaged.split.shards[number].path for number in (0, 1))
    data = bytearray(store.read(path))
    data[damaged.columns["data_offset"][0] + 40] ^= 1
    store.put(path, bytes(data))
    store.delete(gone)
    code, faults, notes = verify(remote, "--deep")
    assert (code, len(faults), notes) == (1, 3, [])
    assert f"{remote}/{path}: its SHA-256" in faults[0]
    assert "(CRC-32C)" in faults[1]
    assert f"{remote}/{gone}: it is missing" in faults[2]


def test_bits_that_flip_on_the_way_are_no_faults(make: Made) -> None:
    reads: Counter[str] = Counter()

    class Noisy(LocalStore):
        def read(
            self, path: str, start: int = 0, length: int | None = None, *, etag: str | None = None
        ) -> bytes:
            data = bytearray(super().read(path, start, length, etag=etag))
            reads[path] += 1
            if path.endswith(".tar") and reads[path] <= 2:
                data[700] ^= 1
            return bytes(data)

    uri = make({"a": 30, "b": 10})
    store = Noisy(Path(uri))
    assert list(verifying.findings(store, Manifest.read(store), deep=True)) == []
    assert 3 in reads.values()
