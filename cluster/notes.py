"""What is told to the person who watches a run: rows of metrics, events, and lines of log."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Row = dict[str, Any]
"""`step`, `epoch`, `seconds` (Unix time), `images_per_second`, `data_wait`, `skipped`, `samples`, `workers` (of each
rank: `images_per_second`, `data_wait`, `memory_mib`), `components` (their shares by domain), `lr/NETWORK`, the
model's scalars, and `held_out/NAME` where it was evaluated."""
ROOMS = ("cluster", "data_shards", "gmvae_drit")


@dataclass(frozen=True)
class Note:
    """One line."""

    level: int
    text: str


@dataclass(frozen=True)
class Event:
    """A line of ``events.jsonl``: what befell the run."""

    kind: Literal["start", "resume", "lost", "warning", "stop", "finish", "error"]
    text: str
    step: int | None = None
    workers: int | None = None
    time: float = field(default_factory=time.time)


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
