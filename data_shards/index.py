"""The index of a split: where each sample lies in the shards, as a Parquet file of one row per sample.

Ten million samples take some 130 MB. Any Parquet reader shows it: ``pandas.read_parquet("…/train-….parquet")``.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from data_shards.errors import DataError
from data_shards.manifest import Split
from data_shards.store import Store

COLUMNS: Mapping[str, pa.DataType] = {
    "key": pa.string(),  # WebDataset key: the name of the sample's members up to the first dot
    "data_offset": pa.int64(),  # where the bytes of the image begin in the shard, after the tar header
    "size": pa.uint32(),  # bytes of the encoded image
    "crc32c": pa.uint32(),  # CRC-32C (Castagnoli) of the encoded image
    "meta_offset": pa.int64(),  # where the bytes of the metadata (JSON) begin in the shard
    "meta_size": pa.uint32(),  # bytes of the metadata
    "width": pa.uint16(),  # pixels
    "height": pa.uint16(),
}
READS = 4  # of an index whose checksum differs, before it and not the way is to blame
LARGEST_SIDE = 2**16 - 1  # pixels

Column = npt.NDArray[np.int64] | npt.NDArray[np.uint32] | npt.NDArray[np.uint16]


def encode_index(rows: Mapping[str, Sequence[str] | Sequence[int]]) -> bytes:
    """The columns of a split as a Parquet file; equal columns give equal bytes."""
    table = pa.table({name: pa.array(rows[name], kind) for name, kind in COLUMNS.items()})
    numbers = {name: "DELTA_BINARY_PACKED" for name, kind in COLUMNS.items() if pa.types.is_integer(kind)}
    encoding = {**numbers, "key": "DELTA_BYTE_ARRAY"}
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False, column_encoding=encoding)
    return buffer.getvalue()


class SampleIndex:
    """Columns of a split's index, each read when it is first asked for."""

    def __init__(self, store: Store, split: Split) -> None:
        self._store, self._split = store, split
        self._where = f"{store.uri}/{split.index.path}"

    def numbers(self, *names: str) -> list[Column]:
        """These columns, (N,) each, of the narrow types of ``COLUMNS``."""
        content = self._content()
        return [_as_numpy(self._column(content, name)) for name in names]

    def keys(self) -> list[str]:
        """The WebDataset keys."""
        keys: list[str] = self._column(self._content(), "key").to_pylist()
        return keys

    def _content(self) -> bytes:
        file = self._split.index
        for _ in range(READS):
            content = self._store.read(file.path, 0, file.bytes, etag=file.etag)
            if hashlib.sha256(content).hexdigest() == file.sha256:
                return content
        raise DataError(f"{self._where} is not what was built (SHA-256): build the data set again")

    def _column(self, content: bytes, name: str) -> pa.ChunkedArray:
        # One at a time: all columns of ten million samples at once would take twice the memory.
        # `ParquetFile`, because `read_table` would import pandas.
        try:
            file = pq.ParquetFile(pa.BufferReader(content))
            column = file.read(columns=[name], use_threads=False).column(name)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DataError(f"{self._where} cannot be read: {error}; build the data set again") from None
        if len(column) != self._split.count:
            raise DataError(f"{self._where} has {len(column)} rows for {self._split.count} samples")
        return column


def _as_numpy(column: pa.ChunkedArray) -> Column:
    """The numbers of a column. Its own ``to_numpy`` would import pandas: half of the time to the first batch."""
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks])
