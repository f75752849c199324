"""What a person sees while a run trains: a panel of a few lines on a terminal, a short line now and then elsewhere."""

import logging
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner

from cluster.notes import Note, Row
from cluster.panel import SLOW_DATA, duration, panel
from cluster.row_parts import scalars_of

SHOWN_SCALARS = 4
SECONDS_BETWEEN_LINES = 10.0
REFRESHES_PER_SECOND = 4


class ProgressLine:
    """Shows rows and notes; a context manager, because it owns the terminal's last lines meanwhile."""

    def __init__(self, name: str, steps: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._name, self._steps = name, steps
        self._row: Row | None = None
        self._clock = Clock(steps)
        self._waiting = Spinner("dots", text=f"{name}: no step yet", style="dim")
        self._live = live_on(self._console, self._render)
        self._next_line = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.transient = self._row is None  # a spinner must not stay
            self._live.stop()

    def row(self, row: Row) -> None:
        """Show how far the run is."""
        self._clock.row(row)
        held_out = {k: v for k, v in (self._row or {}).items() if k.startswith("held_out/")}
        self._row = held_out | row  # measured now and then, shown until measured again
        now = time.monotonic()
        if self._live is None and (now >= self._next_line or row["step"] == self._steps):
            self._next_line = now + SECONDS_BETWEEN_LINES
            left = self._clock.seconds_left()
            words = [f"step {row['step']}/{self._steps}", summarize(row)]
            words += [f"{duration(left)} left"] if left is not None else []
            self.say(" · ".join(words))

    def note(self, note: Note) -> None:
        """Show a line of log; on a terminal above the panel."""
        style = "yellow" if note.level >= logging.WARNING else None
        self._console.print(note.text, style=style, markup=False, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Show a line of the driver's own."""
        self.note(Note(logging.INFO, text))

    def _render(self) -> RenderableType:
        if self._row is None:
            return self._waiting
        return panel(self._name, self._steps, self._row, self._clock.seconds_left())


def live_on(console: Console, render: Callable[[], RenderableType]) -> Live | None:
    """Something that is drawn over and over at the end of a terminal; None where the console is none."""
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    return Live(console=console, get_renderable=render, refresh_per_second=REFRESHES_PER_SECOND)


class Clock:
    """How long the run still takes, at the speed of its latest rows."""

    ROWS = 20

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._seen: deque[tuple[float, int]] = deque(maxlen=self.ROWS)

    def row(self, row: Row) -> None:
        """Take the time and the step of a row. A run that goes back to a checkpoint is measured anew."""
        if self._seen and row["step"] <= self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((row.get("seconds", time.time()), row["step"]))

    def seconds_left(self) -> float | None:
        """From now on; None as long as nothing can be said, and at the end."""
        if len(self._seen) < 2 or self._seen[-1][1] >= self._steps:
            return None
        (begin, first), (end, last) = self._seen[0], self._seen[-1]
        left = (end - begin) / (last - first) * (self._steps - last)
        return max(0.0, left - max(0.0, time.time() - end))


def summarize(row: Row) -> str:
    """Speed, the first scalars of the model in its own order, and the temperature if it has one."""
    scalars = scalars_of(row)
    temperature = scalars.pop("temperature", None)
    words = [f"{row['images_per_second']:.3g} images/s"]
    if row["data_wait"] >= SLOW_DATA:
        words.append(f"data wait {row['data_wait']:.0%}")
    words += [f"{name} {value:.3g}" for name, value in list(scalars.items())[:SHOWN_SCALARS]]
    if temperature is not None:
        words.append(f"temperature {temperature:.2f}")
    if row["skipped"]:
        words.append(f"{row['skipped']} steps skipped")
    return " · ".join(words)
