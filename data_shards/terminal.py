"""What the commands show while they work, and how they end when told to."""

import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_EVERY = 30.0  # seconds between two lines of progress where there is no terminal


def clean_up_when_terminated() -> None:
    """Let SIGTERM unwind the command as Ctrl-C does, so that it ends in order."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def byte_progress() -> "Progress":
    """Bars of bytes with speed and time left on stderr, where stderr is a terminal."""
    from rich import progress as rich
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.DownloadColumn(binary_units=True),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    return rich.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class Bar:
    """Progress with the time left on stderr: a bar on a terminal, a line now and then in the log of a job."""

    moved = False
    """Whether there was anything to do."""

    def __init__(self, what: str) -> None:
        from rich import progress as rich
        from rich.console import Console

        console = Console(stderr=True)
        parts = (rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeRemainingColumn())
        columns = (rich.TextColumn(what), *parts)
        self._bar = rich.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(what, total=None)
        self._what, self._lines = what, not console.is_terminal
        self._began = self._said = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def move(self, done: int, total: int) -> None:
        """So many of ``total`` are done."""
        self.moved = True
        self._bar.update(self._task, completed=done, total=total)
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if self._lines and done > self._first and now - self._said > LINE_EVERY:
            left = (now - self._began) / (done - self._first) * (total - done)
            sys.stderr.write(f"{self._what}: {done:,} of {total:,}, {left / 60:.0f} minutes left\n")
            self._said = now
