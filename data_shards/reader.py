"""Samples by index: the shards of one split of one domain as a sequence.

Indices that are neighbours in a shard are read as one byte range. Images are checked against the manifest.
"""

import io
import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_shards.errors import DataError
from data_shards.manifest import Shard
from data_shards.store import Store

Pixels = npt.NDArray[np.uint8]


class SplitReader:
    """Random access to the samples of one split of one domain. Safe to use from several threads."""

    def __init__(self, store: Store, shards: Sequence[Shard]) -> None:
        self._store, self._shards = store, tuple(shards)
        self._first_of_shard = np.cumsum([0, *(shard.count for shard in shards)])
        for shard in shards:
            if (size := store.size(shard.path)) != shard.bytes:
                raise changed(store, shard.path, f"it has {size} bytes, not {shard.bytes}")

    def __len__(self) -> int:
        return int(self._first_of_shard[-1])

    def sizes(self) -> set[tuple[int, int]]:
        """All (height, width) that occur."""
        return {size for shard in self._shards for size in zip(shard.height, shard.width, strict=True)}

    def images(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> list[bytes]:
        """The encoded images of these samples, in the given order."""
        wanted = np.asarray(indices, dtype=np.int64)
        found: dict[int, bytes] = {}
        for shard, first, last, base in self._ranges(np.unique(wanted)):
            start = shard.data_offset[first]
            block = self._store.read(shard.path, start, shard.data_offset[last] + shard.size[last] - start)
            for place in range(first, last + 1):
                offset = shard.data_offset[place] - start
                image = block[offset : offset + shard.size[place]]
                if zlib.crc32(image) != shard.crc32[place]:
                    raise changed(self._store, shard.path, f"sample {shard.key[place]} is not what was built")
                found[base + place] = image
        return [found[index] for index in wanted.tolist()]

    def locate(self, index: int) -> tuple[Shard, int]:
        """The shard of a sample and its place in it."""
        shard = int(np.searchsorted(self._first_of_shard, index, side="right")) - 1
        return self._shards[shard], index - int(self._first_of_shard[shard])

    def meta(self, index: int) -> dict[str, Any]:
        """The metadata of a sample."""
        shard, place = self.locate(index)
        text = self._store.read(shard.path, shard.meta_offset[place], shard.meta_size[place])
        try:
            meta = json.loads(text)
        except ValueError:
            meta = None
        if not isinstance(meta, dict):
            raise changed(self._store, shard.path, f"the metadata of sample {shard.key[place]} is unreadable")
        return meta

    def describe(self, index: int) -> str:
        """Where a sample lies, for messages."""
        shard, place = self.locate(index)
        return f"sample {shard.key[place]} of {self._store.uri}/{shard.path}"

    def _ranges(self, ascending: npt.NDArray[np.int64]) -> Iterator[tuple[Shard, int, int, int]]:
        """(shard, first place, last place, index of the shard's first sample) of each run of neighbours."""
        shards = np.searchsorted(self._first_of_shard, ascending, side="right") - 1
        breaks = np.flatnonzero((np.diff(ascending) != 1) | (np.diff(shards) != 0)) + 1
        for run in np.split(ascending, breaks):
            shard, first = self.locate(int(run[0]))
            yield shard, first, first + len(run) - 1, int(run[0]) - first


def changed(store: Store, path: str, how: str) -> DataError:
    """The error of a shard that no longer fits its manifest."""
    return DataError(
        f"{store.uri}/{path} changed after it was built: {how}; "
        f"run `python -m data_shards verify` or build again"
    )


def decode(data: bytes, where: str) -> Pixels:
    """Encoded image to (H, W, 3) uint8."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"cannot decode {where}: {error}; build the data set again") from None
