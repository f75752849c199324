"""Whoever watches a run: what the engine tells it, and what it may ask of the engine."""

from cluster.notes import Row


class Watcher:
    """Hears of everything and asks for nothing. No method may wait."""

    def started(self, step: int, workers: int) -> None:
        """Training goes on from ``step``; rank 0 only."""

    def at(self, step: int, doing: str) -> None:
        """Where this rank is; called several times a step."""

    def row(self, row: Row) -> None:
        """A row of metrics; rank 0 only."""

    def saved(self, step: int) -> None:
        """The checkpoint after ``step`` steps is whole in the storage; rank 0 only, from any thread."""

    def stop_requested(self) -> bool:
        """Whether this rank should stop with a checkpoint."""
        return False
