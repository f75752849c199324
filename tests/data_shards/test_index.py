"""The index of ten million samples is small, and opens in little time and memory."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_shards.errors import DataError
from data_shards.index import COLUMNS, SampleIndex, encode_index
from data_shards.manifest import File, Shard, Split
from data_shards.store import LocalStore

SAMPLES, PER_SHARD = 10_000_000, 2048

OPEN = """
import sys, time
from pathlib import Path
from data_shards.index import SampleIndex
from data_shards.manifest import Split
from data_shards.store import LocalStore
split = Split.model_validate_json(Path(sys.argv[1], "split.json").read_text())
began = time.monotonic()
names = ("data_offset", "size", "crc32c", "width", "height")
columns = SampleIndex(LocalStore(Path(sys.argv[1])), split).numbers(*names)
seconds = time.monotonic() - began
assert {len(column) for column in columns} == {10_000_000}
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(seconds, int(peak.split()[1]) / 1024)
"""


def rows(count: int) -> dict[str, object]:
    """Columns as a build makes them of JPEGs of some 40 KB."""
    random = np.random.default_rng(0)
    size = random.integers(20_000, 60_000, count)
    meta = random.integers(60, 110, count)
    padded = [-(-part // 512) * 512 for part in (size, meta)]
    begin = np.cumsum(1024 + padded[0] + padded[1]) - (1024 + padded[0] + padded[1])
    offset = begin - begin[np.arange(count) // PER_SHARD * PER_SHARD] + 512
    return {
        "key": [f"{index:08d}" for index in range(count)],
        "data_offset": offset,
        "size": size,
        "crc32c": random.integers(0, 2**32, count),
        "meta_offset": offset + padded[0] + 512,
        "meta_size": meta,
        "width": np.full(count, 256),
        "height": random.integers(256, 400, count),
    }


def written(folder: Path, count: int) -> Split:
    content = encode_index(rows(count))
    (folder / "index.parquet").write_bytes(content)
    index = File(path="index.parquet", bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    counts = [PER_SHARD] * (count // PER_SHARD) + ([count % PER_SHARD] if count % PER_SHARD else [])
    shards = [Shard(path=f"{i}.tar", bytes=1, sha256="0" * 64, count=n) for i, n in enumerate(counts)]
    return Split(shards=tuple(shards), index=index)


@pytest.mark.slow
def test_ten_million_samples(tmp_path: Path) -> None:
    split = written(tmp_path, SAMPLES)
    assert split.index.bytes < 300e6
    (tmp_path / "split.json").write_text(split.model_dump_json())
    command = [sys.executable, "-c", OPEN, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, mebibytes = map(float, said.split())
    assert seconds < 10
    assert mebibytes < 600


def test_columns_come_back_as_they_were(tmp_path: Path) -> None:
    made, split = rows(5000), written(tmp_path, 5000)
    index = SampleIndex(LocalStore(tmp_path), split)
    for name in COLUMNS:
        if name == "key":
            assert index.keys() == made["key"]
        else:
            np.testing.assert_array_equal(index.numbers(name)[0], made[name])


def test_an_index_that_is_not_what_was_built_is_refused(tmp_path: Path) -> None:
    split = written(tmp_path, 50)
    content = bytearray((tmp_path / "index.parquet").read_bytes())
    content[100] ^= 1
    (tmp_path / "index.parquet").write_bytes(content)
    with pytest.raises(DataError, match="is not what was built"):
        SampleIndex(LocalStore(tmp_path), split).keys()
