"""What takes the place of a corrupt sample, where that is allowed."""

import logging
import threading

from data_shards.augment import Pixels
from data_shards.errors import CorruptSample, DataError
from data_shards.reader import SplitReader

logger = logging.getLogger(__name__)


class Substitutes:
    """Decodes samples; a corrupt one stops the run, or gives its place to the next good one of its split.

    Which one that is depends on the data alone, so that all epochs and all numbers of ranks agree.
    """

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed
        self._lock = threading.Lock()
        self._named: set[str] = set()
        self.count = 0
        """Times that a sample was replaced."""

    def pixels(self, reader: SplitReader, index: int, data: bytes) -> tuple[int, Pixels]:
        """The sample that is shown in the place of ``index``, mostly itself, and its (H, W, 3) pixels."""
        try:
            return index, reader.pixels(index, data)
        except CorruptSample as error:
            if not self._allowed:
                raise
            self._report(str(error))
        for ahead in range(1, len(reader)):
            other = (index + ahead) % len(reader)
            try:
                return other, reader.pixels(other, reader.images([other])[0])
            except CorruptSample as error:
                self._report(str(error))
        raise DataError(f"every sample beside {reader.describe(index)} is corrupt: build the data set again")

    def _report(self, what: str) -> None:
        with self._lock:
            self.count += 1
            if what not in self._named:
                self._named.add(what)
                logger.warning("another sample takes its place: %s", what)
