"""The folder of a run: what lies where, in a folder or in a bucket, and writes that are whole or absent.

STORAGE/NAME/ holds config.yaml, environment.json, events.jsonl, metrics.jsonl, tensorboard/, previews/,
checkpoints/ and export/. Of a run in a bucket, `root` is a working copy on this machine.
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cluster.errors import RunError
from data_shards.errors import Missing
from data_shards.store import Store, open_store

OWNER = "owner.json"
PICTURES = ("translations.png", "interpolation.png", "attributes.png", "nearest.png")
"""What an evaluation draws, beside its evaluation.json."""


class RunFolder:
    """Paths inside the folder of one run, and the storage behind it."""

    def __init__(self, storage: str, name: str) -> None:
        place, _, options = storage.partition("?")
        self.uri = f"{place.rstrip('/')}/{name}"
        self.is_remote = "://" in place
        self.root = _working_copy(self.uri) if self.is_remote else Path(place, name)
        self.store: Store = open_store(f"{self.uri}?{options}" if options else self.uri)
        """Names in it are paths relative to `root`. Its methods raise DataError."""
        self._published: dict[Path, tuple[int, int]] = {}
        self.config = self.root / "config.yaml"
        self.environment = self.root / "environment.json"
        self.events = self.root / "events.jsonl"
        self.metrics = self.root / "metrics.jsonl"
        self.tensorboard = self.root / "tensorboard"
        self.previews = self.root / "previews"
        self.checkpoints = self.root / "checkpoints"
        self.export = self.root / "export"

    @classmethod
    def at(cls, uri: str) -> "RunFolder":
        """That of a run given as one word: ``runs/demo``, ``s3://bucket/runs/demo?anonymous=true``."""
        place, question, options = uri.partition("?")
        storage, _, name = place.rstrip("/").rpartition("/")
        return cls((storage or ("/" if place.startswith("/") else ".")) + question + options, name)

    def preview(self, step: int) -> Path:
        """The preview picture after ``step`` steps."""
        return self.previews / f"step-{step:06d}.png"

    def create(self) -> None:
        """Make the folder and prove that it can be written to, or raise one clear line."""
        for folder in (self.root, self.previews, self.checkpoints):
            make_folder(folder, "run.storage")

    def write(self, path: Path, content: bytes) -> None:
        """Put ``content`` at ``path`` under `root` and into the storage, whole or not at all. Raises DataError."""
        if self.is_remote:
            write_atomically(path, lambda file: file.write(content))
        self.store.put(self._name(path), content)

    def publish(self, path: Path) -> None:
        """Bring a file under `root`, or all files of a folder, into the storage, if they changed since. Raises
        DataError."""
        if not self.is_remote:
            return
        files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        for file in files:
            status = file.stat()
            version = status.st_size, status.st_mtime_ns
            if self._published.get(file) != version:
                self.store.put(self._name(file), file)
                self._published[file] = version

    def fetch(self, path: Path) -> bool:
        """Make ``path`` under `root` what the storage holds; whether there is any. Raises DataError."""
        if not self.is_remote:
            return path.exists()
        try:
            content = self.store.read(self._name(path))
        except Missing:
            path.unlink(missing_ok=True)
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))
        return True

    def fetch_all(self, *beginnings: str) -> None:
        """Make a working copy of all files whose names begin so. Raises DataError."""
        if self.is_remote:
            for beginning in beginnings:
                for entry in self.store.list(beginning):
                    self.fetch(self.root / entry.path)

    def claim(self, session: str) -> None:
        """From now on the run belongs to ``session``: whoever trained it before stops at its next checkpoint."""
        self.store.put(OWNER, json.dumps({"session": session}).encode())

    def check_owner(self, session: str) -> None:
        """Raise where another session has claimed the run since."""
        if json.loads(self.store.read(OWNER))["session"] != session:
            raise RunError(f"{self.uri}: another process has taken this run over, and goes on with it")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Refuse a second process on this machine that would train the same run. The lock goes with its process."""
        with (self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError(f"{self.uri}: another process is training this run") from error
            yield

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _working_copy(uri: str) -> Path:
    name = uri.partition("://")[2].replace("/", "--")
    return Path(tempfile.gettempdir(), f"gmvae-drit-{os.getuid()}", name)


def make_folder(path: Path, setting: str) -> None:
    """Make a folder and prove that it can be written to, or raise one clear line that names the ``setting``."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise RunError(f"{path}: cannot be written to: {error.strerror}; set {setting}") from error


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in place: readers see all of it or nothing.

    The bytes are on disk before the name is, so that a power cut cannot leave an empty file under it.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error
