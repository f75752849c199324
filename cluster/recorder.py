"""Rank 0 writes a run's record: rows, pictures and checkpoints, all in a thread of its own.

Training never waits for the storage. A checkpoint counts as saved once it is whole there; one that cannot be
stored is told and tried again with the next, and only several in a row end the run.
"""

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from cluster.checkpoint import Checkpoint
from cluster.checkpoints import Checkpoints
from cluster.config import TrainSettings
from cluster.errors import RunError
from cluster.metrics import MetricsLog
from cluster.notes import Row
from cluster.run_folder import RunFolder
from data_shards.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NewestCheckpoint:
    """Store the newest one, whichever it is by then: so that only one is kept in memory, however slow the storage."""


@dataclass(frozen=True)
class Pictures:
    """Previews, uint8 (3, H, W), by name."""

    step: int
    by_name: Mapping[str, Tensor]


class Recorder:
    """The record of one run from ``resumed_at`` on. Its methods return at once but for `flush` and `close`."""

    def __init__(
        self,
        folder: RunFolder,
        settings: TrainSettings,
        resumed_at: int,
        saved: Callable[[int], None],
        session: str | None = None,
    ) -> None:
        """``saved`` hears of each step whose checkpoint is stored. A ``session`` must own the run to store any."""
        self._folder, self._settings, self._saved, self._session = folder, settings, saved, session
        self._checkpoints = Checkpoints(folder)
        self._log = MetricsLog(folder, resumed_at)
        self._queue: queue.Queue[Row | Pictures | NewestCheckpoint | None] = queue.Queue()
        self._waiting = threading.Lock()
        self._newest: Checkpoint | None = None
        self._failures: list[str] = []
        self._fault: Exception | None = None
        self._told = ""
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def row(self, row: Row) -> None:
        """Record a row."""
        self._queue.put(row)

    def pictures(self, step: int, by_name: Mapping[str, Tensor]) -> None:
        """Record previews."""
        self._queue.put(Pictures(step, by_name))

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Store a checkpoint, which nobody may change any more. One that still waits for its turn gives way."""
        with self._waiting:
            if self._newest is not None:
                logger.warning(
                    "the storage is slower than train.checkpoint_every: the checkpoint of step %d is left out",
                    self._newest.step,
                )
            self._newest = checkpoint
        self._queue.put(NewestCheckpoint())

    def check(self) -> None:
        """Raise what the run cannot go on with."""
        if self._fault is not None:
            raise self._fault
        if len(self._failures) >= self._settings.max_unsaved:
            raise RunError(
                f"{len(self._failures)} checkpoints in a row could not be stored (train.max_unsaved); "
                f"the last: {self._failures[-1]}"
            )

    def flush(self) -> None:
        """Wait until everything is stored. Raises RunError where the newest checkpoint is not."""
        self._queue.join()
        if self._fault is not None:
            raise self._fault
        if self._failures:
            raise RunError(f"the last checkpoint could not be stored: {self._failures[-1]}")

    def close(self) -> None:
        """Finish what is under way and end the thread."""
        self._queue.put(None)
        self._thread.join()
        self._log.close()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._record(item)
            except Exception as error:  # a fault of the program: the engine raises it
                self._fault = error
            finally:
                self._queue.task_done()

    def _record(self, item: Row | Pictures | NewestCheckpoint) -> None:
        try:
            if isinstance(item, NewestCheckpoint):
                self._store()
            elif isinstance(item, Pictures):
                self._log.write_previews(item.step, item.by_name)
            else:
                self._log.write(item)
        except (DataError, RunError, OSError) as error:
            if str(error) != self._told:
                logger.warning("%s", error)
            self._told = str(error)

    def _store(self) -> None:
        with self._waiting:
            checkpoint, self._newest = self._newest, None
        if checkpoint is None:
            return
        try:
            if self._session is not None:
                self._folder.check_owner(self._session)
            self._log.publish()
            self._checkpoints.save(checkpoint)
        except RunError as error:
            self._fault = error
            return
        except (DataError, OSError) as error:
            self._failures.append(str(error))
            logger.warning("checkpoint of step %d is not stored: %s", checkpoint.step, error)
            return
        self._failures.clear()
        self._saved(checkpoint.step)
        s = self._settings
        self._checkpoints.prune(s.keep_checkpoints, s.best_metric, s.best_is)
