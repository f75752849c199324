"""The units of a build: a fixed number of source images of one split, which become one shard.

A finished unit leaves a record beside the data set to be, named by a hash of all that decides the bytes of its
shard. A later build with a unit of the same name takes it over.
"""

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path

import PIL
from PIL import Image

from data_shards.ahead import under_way
from data_shards.convert import LARGEST_FILE, Unusable, encode
from data_shards.errors import DataError
from data_shards.manifest import Shard, Skip
from data_shards.shards import ShardWriter
from data_shards.sources import BuildOptions, SourceImage, fingerprint, name_hash, printable
from data_shards.store import WORKSPACE, Entry, Store

FORMAT = 1  # of shards and records; raised whenever the same source would give other bytes
FETCHES = 8  # files of the source that one process reads at once
FETCH_AHEAD = 32 * 2**20  # bytes of the source that one process reads before they are converted

DANGLING = "dangling link"  # version that a local store gives to such

Content = bytes | Image.Image | Unusable


@dataclass(frozen=True)
class Unit:
    """Some images that become one shard."""

    key: str
    domain: str
    split: str
    number: int
    """Place of the unit in its split."""
    first: int
    """Number of its first image in the split."""
    images: Sequence[SourceImage]

    @property
    def record(self) -> str:
        """Where the record lies."""
        return f"{WORKSPACE}/{self.key}.json"


@dataclass(frozen=True)
class Record:
    """What a unit has become."""

    shard: Shard | None
    """None if none of its images can be used."""
    numbers: list[int]
    """Number of each sample of the shard among the images of its split."""
    rows: dict[str, list[int]]
    """The other columns of the samples in the index."""
    skipped: list[Skip]

    def to_json(self) -> bytes:
        """As bytes; the inverse of ``from_json``."""
        shard = None if self.shard is None else self.shard.model_dump(mode="json")
        skipped = [skip.model_dump(mode="json") for skip in self.skipped]
        return json.dumps({**asdict(self), "shard": shard, "skipped": skipped}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Record":
        """From the bytes of ``to_json``."""
        content = json.loads(text)
        shard = None if content["shard"] is None else Shard.model_validate(content["shard"])
        skipped = [Skip.model_validate(skip) for skip in content["skipped"]]
        return cls(shard, content["numbers"], content["rows"], skipped)


def plan(images: Sequence[SourceImage], options: BuildOptions) -> Iterator[Unit]:
    """The units of ``images``, which are in the order of `in_shard_order`."""
    for (domain, split), group in groupby(images, key=lambda image: (image.domain, image.split)):
        part = list(group)
        for number, first in enumerate(range(0, len(part), options.shard_samples)):
            members = part[first : first + options.shard_samples]
            stored = [FORMAT, PIL.__version__, options.resize, options.encoding, options.quality]
            place = [domain, split, number, first]
            digest = hashlib.sha256(json.dumps([stored, place]).encode())
            for image in members:
                digest.update(b"\n" + fingerprint(image).encode())
            yield Unit(digest.hexdigest(), domain, split, number, first, members)


def in_shard_order(images: Iterable[SourceImage]) -> list[SourceImage]:
    """Within a split by a hash of names, so that neighbours in a shard have nothing in common."""
    ordered = sorted(images, key=lambda one: (one.domain, one.split, name_hash(one.name), one.name))
    for one, next_one in pairwise(ordered):
        if (one.domain, one.split, one.name) == (next_one.domain, next_one.split, next_one.name):
            raise DataError(f"two images are named {one.name!r} in split {one.split!r} of {one.domain!r}")
    return ordered


def build_unit(
    unit: Unit, source: Store | None, dest: Store, options: BuildOptions, count: Callable[[], None]
) -> None:
    """Make the shard of a unit and its record; ``count`` is called after each image."""
    file = dest.workspace / f"{unit.key}.{os.getpid()}.tar"
    try:
        dest.workspace.mkdir(parents=True, exist_ok=True)
        with ShardWriter(file) as writer, closing(_fetched(unit, source)) as fetched:
            skipped = list(_pack(writer, fetched, options, count))
        shard = _publish(unit, file, len(writer.numbers), dest) if writer.numbers else None
    except OSError as error:
        raise DataError(f"cannot write {file}: {error.strerror or error}") from None
    except MemoryError:
        raise DataError(f"not enough memory for {unit.domain}/{unit.split}: use fewer --processes") from None
    finally:
        file.unlink(missing_ok=True)
    dest.put(unit.record, Record(shard, writer.numbers, writer.rows, skipped).to_json())


def _pack(
    writer: ShardWriter,
    fetched: Iterable[tuple[int, SourceImage, Content]],
    options: BuildOptions,
    count: Callable[[], None],
) -> Iterator[Skip]:
    """Convert images and write them; yields those that cannot be used."""
    for number, image, content in fetched:
        try:
            if isinstance(content, Unusable):
                raise content
            encoded = encode(content, options)
        except Unusable as reason:
            if options.strict:
                raise refusal(image.origin, str(reason)) from None
            yield Skip(path=image.origin, reason=printable(str(reason)))
        else:
            width, height = encoded.original_size
            own = {"name": printable(image.name), "width": width, "height": height}
            writer.add(number, encoded, {**image.meta, **own})
        count()


def refusal(path: str, reason: str) -> DataError:
    """What a strict build says of an image that it cannot use."""
    return DataError(f"cannot use {path}: {reason}; repair it, remove it or build without --strict")


def _fetched(unit: Unit, source: Store | None) -> Generator[tuple[int, SourceImage, Content], None, None]:
    """(number, image, what there is of it) of each image of a unit, read ahead in threads."""
    with ThreadPoolExecutor(FETCHES, thread_name_prefix="data_shards") as pool:
        futures = under_way(pool, partial(_fetch, source), unit.images, ahead=FETCH_AHEAD, cost=_cost)
        try:
            for number, (image, future) in enumerate(zip(unit.images, futures, strict=True), unit.first):
                yield number, image, future.result()
        except BaseException:
            if source is not None:
                source.close()  # or the pool would wait for requests that are tried again and again
            raise
        finally:
            futures.close()


def _fetch(source: Store | None, image: SourceImage) -> Content:
    entry = image.image
    if not isinstance(entry, Entry):
        return entry
    if entry.version == DANGLING:
        return Unusable("it is a link to nothing")
    if entry.size == 0:
        return Unusable("it is empty")
    if entry.size > LARGEST_FILE:
        return Unusable(f"it has {entry.size} bytes, more than {LARGEST_FILE}")
    assert source is not None, "files come with the store they lie in"
    content = source.read(entry.path, etag=entry.version)
    if len(content) != entry.size:
        raise DataError(f"{source.uri}/{image.origin} changed while it was read: build again")
    return content


def _cost(image: SourceImage) -> int:
    return image.image.size if isinstance(image.image, Entry) else 1


def _publish(unit: Unit, file: Path, samples: int, dest: Store) -> Shard:
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        length = content.seek(0, os.SEEK_END)
    path = f"{unit.domain}/{unit.split}-{unit.number:05d}-{sha256[:8]}.tar"
    etag = dest.put(path, file)
    return Shard(path=path, bytes=length, sha256=sha256, etag=etag, count=samples)
