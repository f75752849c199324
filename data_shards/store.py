"""Where files lie: named files under one root, on a file system or in an S3 bucket.

Everything else of this room goes through ``Store``: images on their way in, shards, manifests. Another kind of
storage is one more class with these methods and one more line in ``open_store``.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from data_shards.errors import DataError, Missing

WORKSPACE = ".building"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a store."""

    path: str
    """Name relative to the root, with forward slashes."""
    size: int
    """Bytes."""
    version: str
    """Changes whenever the content does: the ETag on S3, the time of the last change on a file system."""


class Store(Protocol):
    """The files under one root. Safe to use from several threads; a process opens its own."""

    uri: str

    def head(self, path: str) -> Entry:
        """What is known of file ``path``; ``Missing`` if there is none."""

    def read(self, path: str, start: int = 0, length: int | None = None, *, etag: str | None = None) -> bytes:
        """Exactly ``length`` bytes of file ``path`` from ``start``, or all up to its end.

        A file that ends before is an error, and so is one that is no longer the one with this ``etag``.
        """

    def put(self, path: str, content: bytes | Path) -> str | None:
        """Store ``content`` as ``path``, whole or not at all; a file of ``workspace`` may be moved there.

        Returns the ETag where the store has such.
        """

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All files whose path begins with ``prefix``."""

    def delete(self, path: str) -> None:
        """Remove file ``path`` if it is there."""

    @property
    def workspace(self) -> Path:
        """A folder of this machine for files that are about to be ``put``. It may have to be made."""

    def sweep(self, pattern: re.Pattern[str]) -> None:
        """Remove what interrupted ``put``s have left: the files in ``workspace`` and, of paths that match
        ``pattern`` wholly, unfinished uploads."""

    def close(self) -> None:
        """Let go of connections; reads under way that would try again fail instead."""


class LocalStore:
    """A folder of this machine, or of a file system that it mounts."""

    def __init__(self, root: Path) -> None:
        self.uri = str(root)
        self._root = root

    @property
    def workspace(self) -> Path:
        """Inside the root, so that a finished file is moved and not copied."""
        return self._root / WORKSPACE

    def head(self, path: str) -> Entry:
        """What is known of file ``path``."""
        try:
            return self._entry(path)
        except OSError as error:
            raise self._failed("read", path, error) from None

    def read(self, path: str, start: int = 0, length: int | None = None, *, etag: str | None = None) -> bytes:
        """Exactly ``length`` bytes of file ``path`` from ``start``, or all up to its end."""
        parts: list[bytes] = []
        try:
            descriptor = os.open(self._root / path, os.O_RDONLY)
            try:
                if length is None:
                    length = max(os.fstat(descriptor).st_size - start, 0)
                while length > 0:
                    part = os.pread(descriptor, length, start)
                    if not part:
                        raise DataError(f"{self._root / path} ends at byte {start}, too early")
                    parts.append(part)
                    start, length = start + len(part), length - len(part)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._failed("read", path, error) from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def put(self, path: str, content: bytes | Path) -> None:
        """Store ``content`` as ``path``: written beside it, flushed to disk, renamed."""
        target = self._root / path
        unfinished: Path | None = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self.workspace.mkdir(exist_ok=True)
            if isinstance(content, Path) and content.is_relative_to(self.workspace):
                unfinished = content
            else:
                descriptor, name = tempfile.mkstemp(dir=self.workspace)
                unfinished = Path(name)
                with os.fdopen(descriptor, "wb") as file:
                    if isinstance(content, Path):
                        with content.open("rb") as original:
                            shutil.copyfileobj(original, file)
                    else:
                        file.write(content)
                unfinished.chmod(0o644)
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
            unfinished.replace(target)
        except OSError as error:
            if unfinished not in (None, content):  # on a full disk it would be in the way of the next try
                unfinished.unlink(missing_ok=True)
            raise self._failed("write", path, error) from None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All files whose path begins with ``prefix``, in no order. Links are followed, each folder once."""
        start = prefix.rpartition("/")[0]
        if not (self._root / start).is_dir():
            raise self._failed("read", start, NotADirectoryError("it is not a folder"))
        seen: set[tuple[int, int]] = set()
        for folder, below, names in os.walk(self._root / start, followlinks=True, onerror=self._refuse):
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                below.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            below.sort()  # so that of several links to a folder always the same is taken
            for name in names:
                path = (Path(folder) / name).relative_to(self._root).as_posix()
                if path.startswith(prefix):
                    try:
                        yield self._entry(path)
                    except FileNotFoundError:
                        yield Entry(path, 0, "dangling link")

    def delete(self, path: str) -> None:
        """Remove file ``path`` if it is there, and folders that this leaves empty."""
        try:
            (self._root / path).unlink(missing_ok=True)
        except OSError as error:
            raise self._failed("remove", path, error) from None
        for folder in (self._root / path).parents:
            if folder == self._root:
                break
            try:
                folder.rmdir()
            except OSError:  # it is not empty, or another thread was faster
                break

    def sweep(self, pattern: re.Pattern[str]) -> None:
        """Remove ``workspace``: a folder has no unfinished uploads."""
        shutil.rmtree(self.workspace, ignore_errors=True)

    def close(self) -> None:
        """Nothing is held open."""

    def _entry(self, path: str) -> Entry:
        status = (self._root / path).stat()
        return Entry(path, status.st_size, str(status.st_mtime_ns))

    def _refuse(self, error: OSError) -> None:
        raise self._failed("read", Path(error.filename).relative_to(self._root).as_posix(), error)

    def _failed(self, what: str, path: str, error: OSError) -> DataError:
        kind = Missing if isinstance(error, FileNotFoundError | NotADirectoryError) else DataError
        return kind(f"cannot {what} {self._root / path}: {error.strerror or error}")


def open_store(uri: str) -> Store:
    """The store at ``uri``: ``s3://bucket/prefix`` (`data_shards.s3`) or a folder. Reads nothing yet."""
    if uri.startswith("s3://"):
        from data_shards.s3 import S3Store

        return S3Store.from_uri(uri)
    if "://" in uri:
        raise DataError(f"{uri!r} is neither a folder nor s3://bucket/prefix")
    return LocalStore(Path(uri))
