"""A machine that is taken away: what trains on it is asked to store its step and leave, and is waited for.

A pod that goes sends SIGTERM to its first process alone, and with that one the workers die. So this runs before it, as
the pod's preStop hook: python -m cluster leave
"""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cluster.errors import RunError

logger = logging.getLogger(__name__)

CLUSTER_VARIABLE = "RAY_CLUSTER_NAME"
"""KubeRay sets it in every pod of a cluster; processes that Ray starts inherit it."""
WORKERS = ("ray::RayTrainWorker", "ray::Member")
"""Beginnings of the titles that Ray gives to workers of a run and of a sweep."""
DRIVERS = (["-m", "cluster", "train"], ["-m", "tune", "run"])
POLL_SECONDS = 0.2


def leave(seconds: float) -> int:
    """Ask workers and drivers on this machine to leave; how many were there still after ``seconds``."""
    cluster = os.environ.get(CLUSTER_VARIABLE)
    if not cluster:
        raise RunError(
            f"{CLUSTER_VARIABLE} is not set: this is for the pods of a cluster, where KubeRay sets it"
        )
    asked = dict(training_processes(f"{CLUSTER_VARIABLE}={cluster}"))
    for process, words in asked.items():
        logger.warning(f"{process} is asked to leave: {words}")
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while (left := [process for process in asked if _lives(process)]) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return len(left)


def training_processes(mark: str, root: Path = Path("/proc")) -> Iterator[tuple[int, str]]:
    """(pid, command line) of the workers and drivers of this user that have ``mark`` in their environment."""
    for folder in root.iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            environment = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # gone meanwhile, or of another user
            continue
        # Not the shell that a driver may have around it: Ray takes the end of that one for the end of the job.
        drives = Path(words[0]).name.startswith("python") and words[1:4] in DRIVERS
        if (drives or words[0].startswith(WORKERS)) and mark in environment:
            yield int(folder.name), " ".join(words)


def _lives(process: int) -> bool:
    """A zombie does not: nobody may be there to wait for it."""
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
