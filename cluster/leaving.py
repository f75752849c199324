"""SIGTERM to a worker, as machines get that are taken away: a checkpoint first, then the worker leaves."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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


def catch_sigterm() -> None:
    """Call in the main thread of a worker."""
    signal.signal(signal.SIGTERM, _on_sigterm)
