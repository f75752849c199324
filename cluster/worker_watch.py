"""The engine's `Watcher` in a Ray worker. A thread talks to the relay, so that a step never waits for Ray."""

import os
import platform
import sys
import threading
import time
import traceback
from typing import Any

import ray

from cluster.leaving import asked_to_leave
from cluster.notes import Event, Note, Row
from cluster.prometheus import Gauges
from cluster.watchdog import Beat
from cluster.watcher import Watcher

POLL_SECONDS = 0.5


class RelayWatcher(Watcher):
    """Sends rows and events to the driver, tells the relay where this rank is, and hears its orders."""

    def __init__(self, relay: Any, run: str, steps: int, rank: int, workers: int) -> None:
        """``steps`` are those of the whole run."""
        self._relay, self._rank, self._workers = relay, rank, workers
        self._gauges: Gauges | None = None
        if rank == 0:
            self._gauges = Gauges(run)
            self._gauges.target(steps)
        self._process = f"{platform.node()} {os.getpid()}"
        self._step, self._doing, self._since = 0, "starting", time.monotonic()
        self._stop, self._closed = threading.Event(), threading.Event()
        self._train_thread = threading.get_ident()
        self._thread = threading.Thread(target=self._poll, name="relay", daemon=True)
        self._thread.start()

    def started(self, step: int, workers: int) -> None:
        """See `Watcher.started`."""
        text = f"training on {workers} worker{'s' if workers > 1 else ''} from step {step}"
        self._relay.post.remote(Event("resume" if step else "start", text, step, workers))

    def at(self, step: int, doing: str) -> None:
        """See `Watcher.at`."""
        self._step, self._doing, self._since = step, doing, time.monotonic()

    def row(self, row: Row) -> None:
        """See `Watcher.row`."""
        self._relay.post.remote(row)
        if self._gauges is not None:
            self._gauges.row(row)

    def saved(self, step: int) -> None:
        """See `Watcher.saved`."""
        self._relay.saved.remote(step)
        if self._gauges is not None:
            self._gauges.saved(step)

    def stop_requested(self) -> bool:
        """See `Watcher.stop_requested`: the driver wants it, or this worker was told to leave."""
        return self._stop.is_set() or asked_to_leave()

    @property
    def driver_asked(self) -> bool:
        """Whether the driver wants the run to stop."""
        return self._stop.is_set() or bool(ray.get(self._relay.stopping.remote()))

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()
        if self._gauges is not None:
            self._gauges.close()

    def _poll(self) -> None:
        while not self._closed.wait(POLL_SECONDS):
            beat = Beat(
                *(self._rank, self._workers, self._process, self._step, self._doing),
                seconds=time.monotonic() - self._since,
            )
            try:
                orders = ray.get(self._relay.beat.remote(beat))
                if orders.leave:
                    self._tell_where()
                    os._exit(1)
            except ray.exceptions.RayError:
                # The driver is gone, and the relay with it: whoever resumes the run must not meet us in its folder.
                os._exit(1)
            if orders.stop:
                self._stop.set()
            if self._gauges is not None:
                self._gauges.restarted(orders.restarts)

    def _tell_where(self) -> None:
        """Where in the program the training hangs."""
        frame = sys._current_frames().get(self._train_thread)
        if frame is not None:
            place = traceback.extract_stack(frame)[-1]
            text = f"worker {self._rank} was in step {self._step} at {place.filename}:{place.lineno}, {place.name}"
            ray.get(self._relay.post.remote(Note(30, text)), timeout=5)
