"""``events.jsonl``: what befell a run, one line per event, written by its driver."""

import json
import logging
from dataclasses import asdict

from cluster.notes import Event
from cluster.run_folder import RunFolder
from data_shards.errors import DataError

logger = logging.getLogger(__name__)


class EventLog:
    """Appends to the events of a run, which may have lived through several drivers."""

    def __init__(self, folder: RunFolder) -> None:
        """Raises DataError where the storage cannot be read."""
        self._folder = folder
        self._lines = ""
        if folder.fetch(folder.events):
            self._lines = folder.events.read_text(encoding="utf-8")

    def add(self, event: Event) -> None:
        """Write an event down. Where that fails it is told, and written with the next."""
        self._lines += json.dumps(asdict(event)) + "\n"
        try:
            self._folder.write(self._folder.events, self._lines.encode())
        except DataError as error:
            logger.warning("%s", error)
