"""The folder of a run: what lies where, and writes that are whole or absent.

STORAGE/NAME/ holds config.yaml, metrics.jsonl, tensorboard/, previews/, checkpoints/ and export/.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cluster.errors import RunError


class RunFolder:
    """Paths inside the folder of one run."""

    def __init__(self, storage: str, name: str) -> None:
        self.root = Path(storage, name)
        self.config = self.root / "config.yaml"
        self.metrics = self.root / "metrics.jsonl"
        self.tensorboard = self.root / "tensorboard"
        self.previews = self.root / "previews"
        self.checkpoints = self.root / "checkpoints"
        self.export = self.root / "export"
        self.ray = self.root / ".ray"

    def preview(self, step: int) -> Path:
        """The preview picture after ``step`` steps."""
        return self.previews / f"step-{step:06d}.png"

    def create(self) -> None:
        """Make the folder and prove that it can be written to, or raise one clear line."""
        try:
            for folder in (self.root, self.previews, self.checkpoints):
                folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise RunError(f"{self.root}: cannot be written to: {error.strerror}; set run.storage") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Refuse a second process that would train the same run. The lock goes when its process does."""
        with (self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError(f"{self.root}: another process is training this run") from error
            yield


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
