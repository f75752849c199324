"""What driver and workers of a run tell each other while it runs.

Ray Train's own `report` waits for the controller on every call, so metrics take this way instead.
"""

import os
import threading
from typing import Any

import ray

from cluster.notes import Note, Row

POLL_SECONDS = 0.5


class Relay:
    """A mailbox, and the flags that end a run. An actor beside the driver, which reads it."""

    def __init__(self) -> None:
        self._mail: list[Row | Note] = []
        self._stopping = False
        self._fault: str | None = None

    def post(self, item: Row | Note) -> None:
        """Leave something for the driver."""
        self._mail.append(item)

    def collect(self) -> list[Row | Note]:
        """Everything since the last time, in order."""
        mail, self._mail = self._mail, []
        return mail

    def request_stop(self) -> None:
        """Ask the workers to stop with a checkpoint."""
        self._stopping = True

    def stopping(self) -> bool:
        """Whether they were asked to."""
        return self._stopping

    def fail(self, line: str) -> None:
        """End the run for a reason that a restart would not change. The first reason counts."""
        self._fault = self._fault or line

    def fault(self) -> str | None:
        """That reason."""
        return self._fault


class RelayWatcher:
    """The engine's `Watcher` in a worker; a thread asks for the stop flag, so that a step never waits for Ray."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay
        self._stop, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._poll, name="stop-flag", daemon=True)
        self._thread.start()

    def row(self, row: Row) -> None:
        """Send a row of metrics."""
        self._relay.post.remote(row)

    def stop_requested(self) -> bool:
        """Whether the driver wants the run to stop."""
        return self._stop.is_set()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._closed.wait(POLL_SECONDS):
            try:
                stopping = ray.get(self._relay.stopping.remote())
            except ray.exceptions.RayError:
                # The driver is gone, and the relay with it: whoever resumes the run must not meet us in its
                # folder.
                os._exit(1)
            if stopping:
                self._stop.set()
                return
