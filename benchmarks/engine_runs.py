"""Runs of the demo for `benchmarks/engine.py`, under Ray Train and under torchrun, watched from outside.

What a run did is read from its rows; its processes are found by a mark in their environment.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.processes import marked, stat
from cluster.notes import Row

CONFIG = "cluster/configs/demo.yaml"
MARK = "GMVAE_BENCHMARK_MARK"
POLL_SECONDS = 0.1
LONGEST = 1800.0
WORKER = "RayTrainWorker"
"""In the title of a process that trains under Ray."""


def under_ray(settings: Mapping[str, object]) -> list[str]:
    """The command of the demo as people start it."""
    return [sys.executable, "-m", "cluster", "train", *words(settings)]


def under_torchrun(settings: Mapping[str, object]) -> list[str]:
    """The same training without Ray."""
    count = settings.get("scaling.workers", 1)
    starter = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return [sys.executable, *starter, "-m", "benchmarks.engine_torchrun", *words(settings)]


def words(settings: Mapping[str, object]) -> list[str]:
    """The demo with other settings."""
    return [CONFIG, *(f"{key}={value}" for key, value in settings.items())]


@dataclass
class Run:
    """A command that trains, with all that it starts; ended at the end of the block."""

    command: list[str]
    folder: Path
    """Of the run."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.mark = uuid.uuid4().hex
        self.log = self.folder.with_suffix(".log")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **self.environment, MARK: self.mark}
        with self.log.open("wb") as log:
            self.began = time.time()
            self.process = subprocess.Popen(
                self.command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def processes(self) -> dict[int, str]:
        """Titles of all that live, by their numbers."""
        return marked(f"{MARK}={self.mark}")

    def workers(self) -> list[int]:
        """Those that train under Ray, in the order in which they were started."""
        return sorted(pid for pid, title in self.processes().items() if WORKER in title)

    def cpu(self) -> float:
        """CPU seconds of all that live."""
        ticks = [sum(map(int, found[11:13])) for pid in self.processes() if (found := stat(pid))]
        return sum(ticks) / os.sysconf("SC_CLK_TCK")

    def rows(self) -> list[Row]:
        """Those written so far."""
        return self._lines("metrics.jsonl")

    def events(self) -> list[dict[str, Any]]:
        """Those written so far."""
        return self._lines("events.jsonl")

    def wait(self, until: Callable[[], object]) -> None:
        """Until it is true. Raises where the command ends before."""
        deadline = time.monotonic() + LONGEST
        while not until():
            if self.process.poll() is not None and not until():
                raise RuntimeError(
                    f"{self.process.args!r} ended with {self.process.returncode}: {self.told()}"
                )
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.process.args!r}: {self.told()}")
            time.sleep(POLL_SECONDS)

    def wait_for_row(self, step: int) -> None:
        """Until the row of ``step`` is there."""
        self.wait(lambda: any(row["step"] >= step for row in self.rows()[-1:]))

    def stop(self) -> None:
        """As Ctrl-C does, and wait for the end."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(60)

    def told(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-2000:]

    def _lines(self, name: str) -> list[dict[str, Any]]:
        try:
            text = (self.folder / name).read_text()
        except OSError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
