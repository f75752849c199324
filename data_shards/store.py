"""Where shards lie: byte ranges of named files under one root.

The reader, the manifest and the checks go through ``Store`` and nothing else; another kind of storage is one
more class with these two methods and one more line in ``open_store``.
"""

import os
from pathlib import Path
from typing import Protocol

from data_shards.errors import DataError


class Store(Protocol):
    """Read access to the files of one data set. Safe to use from several threads."""

    uri: str

    def size(self, path: str) -> int:
        """Bytes of file ``path``."""

    def read(self, path: str, start: int, length: int) -> bytes:
        """Exactly ``length`` bytes of file ``path`` from ``start``; a file that ends before is an error."""


class LocalStore:
    """A folder of this machine, or of a file system that it mounts."""

    def __init__(self, root: Path) -> None:
        self.uri = str(root)
        self._root = root

    def size(self, path: str) -> int:
        """Bytes of file ``path``."""
        try:
            return (self._root / path).stat().st_size
        except OSError as error:
            raise self._failed(path, error) from None

    def read(self, path: str, start: int, length: int) -> bytes:
        """Exactly ``length`` bytes of file ``path`` from ``start``."""
        parts: list[bytes] = []
        try:
            descriptor = os.open(self._root / path, os.O_RDONLY)
            try:
                while length > 0:
                    part = os.pread(descriptor, length, start)
                    if not part:
                        raise DataError(
                            f"{self._root / path} ends at byte {start}, too early: build it again"
                        )
                    parts.append(part)
                    start, length = start + len(part), length - len(part)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._failed(path, error) from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _failed(self, path: str, error: OSError) -> DataError:
        return DataError(f"cannot read {self._root / path}: {error.strerror or error}")


def open_store(uri: str) -> Store:
    """The store at ``uri``. Opening reads nothing yet."""
    if "://" in uri:
        raise DataError(
            f"cannot read {uri!r}: only folders of this machine are supported, not {uri.split(':')[0]}://"
        )
    return LocalStore(Path(uri))
