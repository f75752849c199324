"""Is a data set what its manifest says? Every fault is one line."""

import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator

from data_shards.errors import DataError
from data_shards.manifest import Manifest, Shard
from data_shards.reader import decode
from data_shards.store import Store

PIECE = 8 * 2**20  # bytes read at once while hashing


def faults(store: Store, manifest: Manifest, *, deep: bool) -> Iterator[str]:
    """The faults of a data set: length and digest of every shard; with ``deep``, also every sample in it."""
    for splits in manifest.domains.values():
        for shards in splits.values():
            for shard in shards:
                try:
                    yield from _shard_faults(store, shard, deep)
                except DataError as error:
                    yield str(error)


def _shard_faults(store: Store, shard: Shard, deep: bool) -> Iterator[str]:
    where = f"{store.uri}/{shard.path}"
    if (size := store.size(shard.path)) != shard.bytes:
        yield f"{where}: {size} bytes instead of {shard.bytes}"
    else:
        digest = hashlib.sha256()
        for start in range(0, size, PIECE):
            digest.update(store.read(shard.path, start, min(PIECE, size - start)))
        if digest.hexdigest() != shard.sha256:
            yield f"{where}: its SHA-256 is {digest.hexdigest()[:12]}..., not {shard.sha256[:12]}..."
    if deep:
        for place in range(shard.count):
            try:
                yield from _sample_faults(store, shard, place)
            except DataError as error:
                yield str(error)


def _sample_faults(store: Store, shard: Shard, place: int) -> Iterator[str]:
    where = f"{store.uri}/{shard.path}: sample {shard.key[place]}"
    offset, size = shard.data_offset[place], shard.size[place]
    block = store.read(shard.path, offset - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE + size)
    try:
        header = tarfile.TarInfo.frombuf(block[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        yield f"{where}: no tar header before the image ({error})"
    else:
        if header.name.split(".")[0] != shard.key[place] or header.size != size:
            yield f"{where}: the tar has {header.name} of {header.size} bytes there, not {size} bytes"
    image = block[tarfile.BLOCKSIZE :]
    if zlib.crc32(image) != shard.crc32[place]:
        yield f"{where}: the image is not what was built (CRC-32)"
    else:
        height, width, _ = decode(image, where).shape
        if (height, width) != (shard.height[place], shard.width[place]):
            yield f"{where}: {width}x{height} pixels, not {shard.width[place]}x{shard.height[place]}"
    try:
        meta = json.loads(store.read(shard.path, shard.meta_offset[place], shard.meta_size[place]))
    except ValueError:
        meta = None
    if not isinstance(meta, dict):
        yield f"{where}: its metadata is not a JSON object"
