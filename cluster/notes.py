"""What is told to the person who watches a run: rows of metrics, and lines of log."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
"""`step`, `epoch`, `images_per_second`, `data_wait`, `skipped`, `lr/NETWORK`, then the model's scalars."""
ROOMS = ("cluster", "data_shards", "gmvae_drit")


@dataclass(frozen=True)
class Note:
    """One line."""

    level: int
    text: str


class NoteHandler(logging.Handler):
    """Hands the log of all rooms in this process to ``send``."""

    def __init__(self, send: Callable[[Note], object], prefix: str = "", level: int = logging.INFO) -> None:
        super().__init__(level)
        self._send, self._prefix = send, prefix
        for room in map(logging.getLogger, ROOMS):
            room.setLevel(logging.INFO)
            room.propagate = False
            room.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over one record, with its traceback if it has one."""
        self._send(Note(record.levelno, self._prefix + self.format(record)))

    def close(self) -> None:
        """Take no more."""
        for room in map(logging.getLogger, ROOMS):
            room.removeHandler(self)
        super().close()
