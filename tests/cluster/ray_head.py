"""A real Ray head for tests: on loopback, in token mode, in a session and a folder of its own."""

import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import requests

from benchmarks.processes import marked

from ..s3.server import is_free

START_SECONDS = 90.0
# Above those that Ray gives to its workers, below those that the system gives to outgoing connections.
PORTS = range(22_000, 32_000)


class RayHead:
    """One node that takes jobs at ``address`` from whoever has ``token``, and other nodes."""

    def __init__(self, cpus=2):
        self._cpus = cpus
        self.token = secrets.token_hex(32)
        # Ray makes unix sockets in there, whose paths may have about 100 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self._ports = [port for port in random.sample(PORTS, 100) if is_free(port)][:4]
        self.address = f"http://127.0.0.1:{self._ports[1]}"
        self._process = None

    def driver_environment(self):
        """What a program needs that joins."""
        return {**self.client_environment(), "RAY_ADDRESS": f"127.0.0.1:{self._ports[0]}"}

    def client_environment(self):
        """What a client needs."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def start(self):
        """Start and wait until it answers."""
        beside = Path(sys.executable).parent
        gcs, dashboard, agent, client = self._ports
        words = [
            *(beside / "ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}"),
            *("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
            *(f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"),
            *(
                f"--temp-dir={self._folder}",
                f"--num-cpus={self._cpus}",
                f"--object-store-memory={100 * 2**20}",
            ),
        ]
        log = self._folder / "head.log"
        self._process = self._ray(words, log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                told = log.read_text()
                self.stop()
                raise RuntimeError(f"Ray does not start: {told}")
            time.sleep(0.2)

    def add_node(self, cpus=1):
        """Another machine of the cluster, as far as Ray can tell. Kill it by its process group."""
        agent = next(port for port in random.sample(PORTS, 100) if is_free(port))
        words = [
            *(
                Path(sys.executable).parent / "ray",
                "start",
                f"--address=127.0.0.1:{self._ports[0]}",
                "--block",
            ),
            *("--node-ip-address=127.0.0.1", f"--dashboard-agent-listen-port={agent}", f"--num-cpus={cpus}"),
            f"--object-store-memory={100 * 2**20}",
        ]
        return self._ray(words, self._folder / "node.log")

    def _ray(self, words, log):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment |= self.client_environment() | {
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            # Where jobs find `python`.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
        }
        with log.open("wb") as file:
            return subprocess.Popen(words, env=environment, stdout=file, stderr=file, start_new_session=True)

    def _answers(self):
        """Whether the list of jobs can be had, which needs more of the head than its version does."""
        headers = {"Authorization": f"Bearer {self.token}"}
        with suppress(requests.RequestException):
            return requests.get(f"{self.address}/api/jobs/", headers=headers, timeout=5).ok
        return False

    def stop(self):
        """End it and all it has started."""
        # Only the head itself: where its children get the signal, too, it waits for them in vain.
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def processes(self):
        """Ids of all that live, known by the token in their environment."""
        return list(marked(f"RAY_AUTH_TOKEN={self.token}"))
