"""A command of a room as a process of its own, which tests may kill, with all that it starts."""

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

from benchmarks.processes import marked

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 180.0


class Command:
    """`python -m cluster train` in a session of its own; every process it starts carries a mark."""

    room, verb = "cluster", "train"

    def __init__(self, *words, environment=None):
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.room, self.verb, *map(str, words)],
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {}), "GMVAE_TEST_MARK": self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait(self, seconds=START_SECONDS):
        """(exit code, lines of output)."""
        try:
            output, _ = self.process.communicate(timeout=seconds)
        finally:
            self.kill()
        return self.process.returncode, output.splitlines()

    def wait_for(self, path):
        deadline = time.monotonic() + START_SECONDS
        while not path.exists():
            assert self.process.poll() is None, self.process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def interrupt(self):
        """What a terminal does on Ctrl-C: the whole process group gets it."""
        os.killpg(self.process.pid, signal.SIGINT)

    def processes(self):
        """(pid, command line) of all that live, by the mark in their environment."""
        return list(marked(f"GMVAE_TEST_MARK={self.mark}").items())

    def all_gone(self, seconds=30):
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return not left

    def kill(self, processes=None):
        for pid, _ in self.processes() if processes is None else processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
