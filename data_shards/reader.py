"""Samples by index: the shards of one split of one domain as a sequence.

Indices that are neighbours in a shard are read as one byte range. Images are checked against the index.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import cv2
import google_crc32c
import numpy as np
import numpy.typing as npt

from data_shards.errors import CorruptSample, DataError
from data_shards.index import Column, SampleIndex
from data_shards.manifest import Shard, Split
from data_shards.store import Store

Pixels = npt.NDArray[np.uint8]

READS = 4  # of a range in which a checksum differs, before the shard and not the way is to blame
HEADS = 16  # requests at once for the sizes of shards

cv2.setNumThreads(0)  # a decoder runs in the thread that calls it; the loader has threads enough


class SplitReader:
    """Random access to the samples of one split of one domain. Safe to use from several threads."""

    def __init__(self, store: Store, split: Split) -> None:
        self._store, self._shards = store, split.shards
        self._index = SampleIndex(store, split)
        self._first_of_shard = np.cumsum([0, *(shard.count for shard in split.shards)])
        self._check_lengths()
        names = ("data_offset", "size", "crc32c", "width", "height")
        self._offset, self._size, self._crc32c, self._width, self._height = self._index.numbers(*names)

    def __len__(self) -> int:
        return int(self._first_of_shard[-1])

    def sizes(self) -> set[tuple[int, int]]:
        """All (height, width) that occur."""
        both = np.unique(self._height.astype(np.int64) << 16 | self._width)
        return {(int(size) >> 16, int(size) & 0xFFFF) for size in both}

    def stored_bytes(self, indices: npt.NDArray[np.int64]) -> int:
        """Bytes of the encoded images of these samples."""
        return int(self._size[indices].sum())

    def images(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> list[bytes]:
        """The encoded images of these samples, in the given order.

        A range with an image that fails its checksum is read again some times, since bytes flip on the way, too.
        What stays wrong is returned as it is: `pixels` refuses it.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        found: dict[int, bytes] = {}
        for first, last in self._runs(np.unique(wanted)):
            for _ in range(READS):
                run = self._read_run(first, last)
                if all(self._is_as_built(first + place, image) for place, image in enumerate(run)):
                    break
            found.update(zip(range(first, last + 1), run, strict=True))
        return [found[index] for index in wanted.tolist()]

    def pixels(self, index: int, data: bytes) -> Pixels:
        """The image of a sample, (H, W, 3) uint8 RGB, from its encoded bytes; `CorruptSample` if they are wrong."""
        if not self._is_as_built(index, data):
            raise CorruptSample(
                f"{self.describe(index)} changed after it was built (CRC-32C); run "
                f"`python -m data_shards verify --deep`, build again, or set data.on_corrupt=substitute"
            )
        try:
            return decode(data)
        except ValueError as error:
            raise CorruptSample(f"cannot decode {self.describe(index)}: {error}; build again") from None

    def records(self, first: int, last: int) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
        """(WebDataset key, encoded image, metadata) of the samples ``first`` to ``last`` inclusive."""
        offset, size = self._metas
        for begin, end in self._runs(np.arange(first, last + 1)):
            shard = self.shard_of(begin)
            start = int(self._offset[begin])
            block = self._store.read(shard.path, start, int(offset[end] + size[end]) - start, etag=shard.etag)
            for index in range(begin, end + 1):
                image = int(self._offset[index]) - start
                text = int(offset[index]) - start
                meta = self._parsed(index, block[text : text + int(size[index])])
                yield self._keys[index], block[image : image + int(self._size[index])], meta

    def shard_of(self, index: int) -> Shard:
        """The shard that a sample lies in."""
        return self._shards[int(np.searchsorted(self._first_of_shard, index, side="right")) - 1]

    def describe(self, index: int) -> str:
        """Where a sample lies, for messages."""
        return f"sample {self._keys[index]} of {self._store.uri}/{self.shard_of(index).path}"

    @cached_property
    def _keys(self) -> list[str]:
        return self._index.keys()

    @cached_property
    def _metas(self) -> list[Column]:
        return self._index.numbers("meta_offset", "meta_size")

    def _parsed(self, index: int, text: bytes) -> dict[str, Any]:
        try:
            meta = json.loads(text)
        except ValueError:
            meta = None
        if not isinstance(meta, dict):
            raise DataError(f"the metadata of {self.describe(index)} is not a JSON object; build again")
        return meta

    def _is_as_built(self, index: int, data: bytes) -> bool:
        return bool(google_crc32c.value(data) == self._crc32c[index])

    def _runs(self, ascending: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """(first, last) of each run of neighbours within one shard."""
        shards = np.searchsorted(self._first_of_shard, ascending, side="right")
        breaks = np.flatnonzero((np.diff(ascending) != 1) | (np.diff(shards) != 0)) + 1
        for run in np.split(ascending, breaks):
            yield int(run[0]), int(run[-1])

    def _read_run(self, first: int, last: int) -> list[bytes]:
        shard = self.shard_of(first)
        offsets = self._offset[first : last + 1].tolist()
        ends = (self._offset[first : last + 1] + self._size[first : last + 1]).tolist()
        block = self._store.read(shard.path, offsets[0], ends[-1] - offsets[0], etag=shard.etag)
        return [
            block[offset - offsets[0] : end - offsets[0]] for offset, end in zip(offsets, ends, strict=True)
        ]

    def _check_lengths(self) -> None:
        """See that shards without an ETag to insist on have at least the length they were built with."""
        unsure = [shard for shard in self._shards if shard.etag is None]
        with ThreadPoolExecutor(HEADS, thread_name_prefix="data_shards") as pool:
            entries = pool.map(self._store.head, (shard.path for shard in unsure))
            for shard, entry in zip(unsure, entries, strict=True):
                if entry.size != shard.bytes:
                    raise DataError(
                        f"{self._store.uri}/{shard.path} changed after it was built: it has {entry.size} bytes, "
                        f"not {shard.bytes}; run `python -m data_shards verify` or build again"
                    )


def decode(data: bytes) -> Pixels:
    """Encoded JPEG or PNG to (H, W, 3) uint8 RGB; ValueError if it is neither or broken."""
    try:
        image = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error as error:
        raise ValueError(str(error)) from None
    if image is None:
        raise ValueError("it is not an image")
    return np.asarray(image, dtype=np.uint8)
