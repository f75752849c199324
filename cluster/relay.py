"""What driver and workers of a run tell each other while it runs.

Ray Train's own `report` waits for the controller on every call, so metrics take this way instead.
"""

import time
from dataclasses import dataclass

from cluster.notes import Event, Note, Row
from cluster.watchdog import Beat, Watchdog

Mail = Row | Note | Event


@dataclass(frozen=True)
class Orders:
    """What a worker hears in answer to its beat."""

    stop: bool
    """Stop with a checkpoint."""
    leave: bool
    """Somebody hangs: end this process at once, so that all are started anew."""
    restarts: int = 0
    """Of the workers so far, in all."""


class Relay:
    """A mailbox, and the flags that end a run. An actor beside the driver, which reads it."""

    def __init__(self, hang_seconds: float, max_failures: int) -> None:
        self._mail: list[Mail] = []
        self._watchdog = Watchdog(hang_seconds)
        self._max_failures = max_failures
        self._stopping = False
        self._fault: str | None = None
        self._failures = self._restarts = 0
        self._last_beat = time.monotonic()
        self._leaving: set[int] = set()
        self._hung: dict[str, None] = {}
        self._invitation: str | None = None

    def invite(self, address: str) -> None:
        """Rank 0 of a team waits for the others at this address."""
        self._invitation = address

    def invitation(self) -> str | None:
        """That address; None until there is one."""
        return self._invitation

    def post(self, item: Mail) -> None:
        """Leave something for the driver."""
        self._mail.append(item)

    def collect(self) -> list[Mail]:
        """Everything since the last time, in order."""
        mail, self._mail = self._mail, []
        return mail

    def beat(self, beat: Beat) -> Orders:
        """A worker is alive, and asks for orders."""
        self._last_beat = time.monotonic()
        if beat.process in self._hung:
            return Orders(stop=False, leave=True)
        verdict = self._watchdog.hear(beat)
        if verdict is not None:
            self._mail.append(Event("warning", f"{verdict} (train.hang_seconds): starting anew", beat.step))
            self._hung = dict.fromkeys(self._watchdog.processes())
            self._watchdog.forget()
            return Orders(stop=False, leave=True)
        return Orders(self._stopping, leave=False, restarts=self._restarts)

    def silence(self) -> float:
        """Seconds since any worker was heard of."""
        return time.monotonic() - self._last_beat

    def request_stop(self) -> None:
        """Ask the workers to stop with a checkpoint."""
        self._stopping = True

    def stopping(self) -> bool:
        """Whether they were asked to."""
        return self._stopping

    def saved(self, step: int) -> None:
        """A checkpoint is stored: what failed before is made good."""
        self._failures = 0

    def leaving(self, rank: int) -> None:
        """A worker was told to go, and goes after a checkpoint."""
        self._leaving.add(rank)

    def lost(self, lines: list[str], workers: int) -> str | None:
        """Workers died or left. The reason to give up, if there is one; None if they shall be started anew."""
        if self._fault is not None:
            return self._fault
        self._watchdog.forget()
        self._invitation = None
        self._restarts += 1
        told = "; ".join(lines)
        if self._leaving:
            told = f"worker {', '.join(map(str, sorted(self._leaving)))} was told to leave"
            self._leaving.clear()
        else:
            self._failures += 1
        self._mail.append(Event("lost", told, workers=workers))
        if self._failures > self._max_failures:
            self.fail(
                f"gave up after {self._failures} failures with no new checkpoint between them "
                f"(train.max_failures = {self._max_failures}): {told}"
            )
        return self._fault

    def fail(self, line: str) -> None:
        """End the run for a reason that a restart would not change. The first reason counts."""
        self._fault = self._fault or line

    def fault(self) -> str | None:
        """That reason."""
        return self._fault
