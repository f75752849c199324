"""SIGTERM to a worker, as machines get that are taken away: a checkpoint first, then the worker leaves.

Ray runs a train function in a thread, where no signal handler can be set, so the handler is set by the backend
that Ray starts on each worker.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray.train.torch import TorchConfig

_asked, _training = threading.Event(), threading.Event()


class AskedToLeaveError(Exception):
    """A worker was told to go, and every rank has stopped after a checkpoint."""


def asked_to_leave() -> bool:
    """Whether this process got SIGTERM while it trained."""
    return _asked.is_set()


@contextmanager
def training() -> Iterator[None]:
    """While this lasts, SIGTERM asks; before and after, it ends the process."""
    _training.set()
    try:
        yield
    finally:
        _training.clear()


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    if not _training.is_set():
        os._exit(128 + number)
    _asked.set()


def _set_handler() -> None:
    signal.signal(signal.SIGTERM, _on_sigterm)


class GracefulTorchConfig(TorchConfig):
    """Ray's `TorchConfig`, with workers that leave in order."""

    @property
    def backend_cls(self) -> type[Any]:
        """What Ray starts on the workers."""
        return _GracefulBackend


class _GracefulBackend(TorchConfig().backend_cls):  # type: ignore[misc]  # Ray's class is untyped
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(_set_handler)
        super().on_start(worker_group, backend_config)
