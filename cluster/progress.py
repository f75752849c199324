"""What a person sees while a run trains: one moving line on a terminal, a short line now and then elsewhere."""

import logging
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cluster.notes import Note, Row

SHOWN_SCALARS = 4
SECONDS_BETWEEN_LINES = 10.0
ENGINE_KEYS = {"step", "epoch", "images_per_second", "data_wait", "skipped"}


class ProgressLine:
    """Shows rows and notes; a context manager, because it owns the terminal's last line meanwhile."""

    def __init__(self, name: str, steps: int) -> None:
        self._console = Console(stderr=True)
        self._steps = steps
        self._bar = Progress(
            TextColumn(f"[bold]{name}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=steps, figures="starting")
        self._next_line = 0.0
        self._first: tuple[float, int] | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def row(self, row: Row) -> None:
        """Show how far the run is."""
        self._bar.update(self._task, completed=row["step"], figures=summarize(row))
        now = time.monotonic()
        self._first = self._first or (now, row["step"])
        if not self._console.is_terminal and (now >= self._next_line or row["step"] == self._steps):
            self._next_line = now + SECONDS_BETWEEN_LINES
            self.say(
                f"step {row['step']}/{self._steps} · {summarize(row)}{self._time_left(now, row['step'])}"
            )

    def note(self, note: Note) -> None:
        """Show a line of log."""
        style = "yellow" if note.level >= logging.WARNING else None
        self._console.print(note.text, style=style, markup=False, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Show a line of the driver's own."""
        self.note(Note(logging.INFO, text))

    def _time_left(self, now: float, step: int) -> str:
        assert self._first is not None
        begin, first_step = self._first
        if step == first_step or step == self._steps:
            return ""
        seconds = round((now - begin) / (step - first_step) * (self._steps - step))
        return f" · {seconds // 60}:{seconds % 60:02d} left"


def summarize(row: Row) -> str:
    """Speed, the first scalars of the model in its own order, and the temperature if it has one."""
    scalars = {
        k: v for k, v in row.items() if k not in ENGINE_KEYS and not k.startswith(("lr/", "held_out/"))
    }
    temperature = scalars.pop("temperature", None)
    words = [f"{row['images_per_second']:.3g} images/s"]
    words += [f"{name} {value:.3g}" for name, value in list(scalars.items())[:SHOWN_SCALARS]]
    if temperature is not None:
        words.append(f"temperature {temperature:.2f}")
    if row["skipped"]:
        words.append(f"{row['skipped']} steps skipped")
    return " · ".join(words)
