"""Shards: WebDataset tars whose bytes depend on nothing but the samples."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import google_crc32c

from data_shards.convert import Encoded


class ShardWriter:
    """Writes one tar, sample by sample."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self.numbers: list[int] = []
        """Number of each sample."""
        self.rows: dict[str, list[int]] = {
            name: []
            for name in ("data_offset", "size", "crc32c", "meta_offset", "meta_size", "width", "height")
        }
        """The columns of the samples in the index (`data_shards.index.COLUMNS`), but for the keys."""

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.close()

    def add(self, number: int, image: Encoded, meta: Mapping[str, object]) -> None:
        """Append one sample: its image, then its metadata as JSON."""
        text = json.dumps(meta, sort_keys=True, ensure_ascii=True).encode()
        row = {
            "data_offset": self._member(f"{key_of(number)}.{image.extension}", image.data),
            "size": len(image.data),
            "crc32c": google_crc32c.value(image.data),
            "meta_offset": self._member(f"{key_of(number)}.json", text),
            "meta_size": len(text),
            "width": image.width,
            "height": image.height,
        }
        self.numbers.append(number)
        for name, value in row.items():
            self.rows[name].append(value)

    def _member(self, name: str, data: bytes) -> int:
        # TarInfo starts with owner 0 and mtime 0: an integer, so that no PAX header moves the data.
        info = tarfile.TarInfo(name)
        info.size = len(data)
        info.mode = 0o644
        data_offset = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(info, io.BytesIO(data))
        return data_offset


def key_of(number: int) -> str:
    """The WebDataset key of a sample: its number among the images of its split."""
    return f"{number:08d}"
