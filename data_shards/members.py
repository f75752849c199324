"""A shard against the rows of its index: the members of the tar one after the other, each looked at.

Between the members that the index names there may be nothing, and each of them must be what its row says.
"""

import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import google_crc32c
import numpy as np

from data_shards.index import Column
from data_shards.manifest import File
from data_shards.reader import decode
from data_shards.store import Store

PIECE = 4 * 2**20  # bytes read at once
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Rows:
    """The rows of one shard, a column each (`data_shards.index.COLUMNS`)."""

    key: Sequence[str]
    data_offset: Column
    size: Column
    crc32c: Column
    meta_offset: Column
    meta_size: Column
    width: Column
    height: Column


class Tape:
    """A file read once from its beginning to its end, and digested on the way."""

    def __init__(self, store: Store, file: File, etag: str | None, watch: Callable[[int], None]) -> None:
        self._store, self._file, self._etag, self._watch = store, file, etag, watch
        self._piece, self._used, self._read = b"", 0, 0
        self._digest = sha256()

    @property
    def position(self) -> int:
        """Bytes taken."""
        return self._read - len(self._piece) + self._used

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes; fewer at the end of the file."""
        parts: list[bytes] = []
        while length > 0 and (self._used < len(self._piece) or self._next_piece()):
            part = self._piece[self._used : self._used + length]
            self._used += len(part)
            length -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def skip_to(self, position: int) -> None:
        """Go on at ``position``, or at the end if that comes first."""
        while (step := min(position - self.position, PIECE)) > 0 and self.take(step):
            pass

    def sha256(self) -> str:
        """The digest of the whole file, whose rest is read for it."""
        self.skip_to(self._file.bytes)
        return self._digest.hexdigest()

    def _next_piece(self) -> bool:
        length = min(PIECE, self._file.bytes - self._read)
        if length == 0:
            return False
        self._piece = self._store.read(self._file.path, self._read, length, etag=self._etag)
        self._used = 0
        self._read += length
        self._digest.update(self._piece)
        self._watch(length)
        return True


def member_faults(rows: Rows, length: int, tape: Tape) -> Iterator[str]:
    """How a shard of ``length`` bytes differs from ``rows``."""
    count = len(rows.key)
    offsets = np.concatenate([rows.data_offset, rows.meta_offset])
    sizes = np.concatenate([rows.size, rows.meta_size])
    for place in np.argsort(offsets, kind="stable").tolist():
        row, is_image = place % count, place < count
        start, size = int(offsets[place]) - BLOCK, int(sizes[place])
        sample = f"sample {rows.key[row]}, {'image' if is_image else 'metadata'}"
        if start < 0 or start + BLOCK + size > length:
            yield f"{sample}: the index places it at byte {start + BLOCK}, with {size} bytes, out of the shard"
            continue
        yield from _strangers(tape, start)
        if tape.position > start:
            yield f"{sample}: the index places it at byte {start + BLOCK}, within another member"
            continue
        header, data = _header(tape.take(BLOCK)), tape.take(size)
        tape.skip_to(start + BLOCK + _padded(size))
        if header is None:
            yield f"{sample}: no tar header before byte {start + BLOCK}"
        elif not _is_named(header.name, rows.key[row], is_image) or header.size != size:
            yield f"{sample}: the tar has {header.name} of {header.size} bytes in its place of {size} bytes"
        if fault := _image_fault(rows, row, data) if is_image else _meta_fault(data):
            yield f"{sample}: {fault}"
    yield from _strangers(tape, length)


def _strangers(tape: Tape, until: int) -> Iterator[str]:
    """Members before the byte ``until`` or the end of the tar."""
    while (position := tape.position) < until:
        block = tape.take(BLOCK)
        header = _header(block)
        if header is not None:
            yield f"{header.name} at byte {position} of the tar is missing from the index"
            tape.skip_to(min(position + BLOCK + _padded(header.size), until))
        else:
            at_the_end = block.count(0) == len(block) and tape.position < until
            tape.skip_to(until)
            if not at_the_end:
                yield f"no tar header at byte {position}"


def _header(block: bytes) -> tarfile.TarInfo | None:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _is_named(name: str, key: str, is_image: bool) -> bool:
    start, _, extension = name.partition(".")
    return start == key and (extension != "json") == is_image


def _image_fault(rows: Rows, row: int, data: bytes) -> str | None:
    if google_crc32c.value(data) != rows.crc32c[row]:
        return "it is not what was built (CRC-32C)"
    try:
        height, width, _ = decode(data).shape
    except ValueError as error:
        return f"it cannot be decoded: {error}"
    if (height, width) != (rows.height[row], rows.width[row]):
        return f"it has {width}x{height} pixels, the index says {rows.width[row]}x{rows.height[row]}"
    return None


def _meta_fault(data: bytes) -> str | None:
    try:
        meta = json.loads(data)
    except ValueError:
        meta = None
    return None if isinstance(meta, dict) else "it is not a JSON object"
