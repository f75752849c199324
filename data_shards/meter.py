"""How fast a stream of batches flows, and how long it has been waited for."""

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class LoaderStats:
    """Totals since a loader was made."""

    samples: int
    """Images given out."""
    bytes: int
    """Encoded bytes of the images read."""
    seconds: float
    """Since the first batch was asked for."""
    waited: float
    """Seconds of those in which the consumer waited for a batch."""
    substituted: int
    """Samples in whose place another was given, being corrupt."""

    @property
    def samples_per_second(self) -> float:
        """Images given out per second."""
        return self.samples / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Encoded bytes read per second."""
        return self.bytes / self.seconds if self.seconds else 0.0


class Meter:
    """Counts for `LoaderStats`; threads may report to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began: float | None = None
        self._samples, self._bytes, self._waited = 0, 0, 0.0

    def asked(self) -> float:
        """A batch is asked for; returns the time."""
        now = time.monotonic()
        with self._lock:
            self._began = self._began or now
        return now

    def given(self, asked: float, samples: int) -> None:
        """A batch of ``samples`` was given out that had been asked for at ``asked``."""
        with self._lock:
            self._waited += time.monotonic() - asked
            self._samples += samples

    def read(self, length: int) -> None:
        """``length`` bytes were read."""
        with self._lock:
            self._bytes += length

    def stats(self, substituted: int) -> LoaderStats:
        """The totals by now."""
        with self._lock:
            seconds = time.monotonic() - self._began if self._began else 0.0
            return LoaderStats(self._samples, self._bytes, seconds, self._waited, substituted)
