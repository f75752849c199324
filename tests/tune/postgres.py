"""A real PostgreSQL server for tests: on loopback, with a password, in a folder of its own."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from ..s3.server import free_ports

START_SECONDS = 60.0
USER, PASSWORD = "sweeper", "not-a-secret"
UNPRIVILEGED = ("postgres", "nobody")
"""The server refuses to run as root."""


def find_programs():
    """The folder of `initdb` and `postgres`; None without them."""
    beside = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found = shutil.which("initdb")
    return beside[-1] if beside else Path(found).parent if found else None


class PostgresServer:
    """One server with empty databases. It may be stopped and started again: port and data stay."""

    def __init__(self):
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
        self._programs = find_programs()
        (self.port,) = free_ports(1)
        self._process = None
        self._as = {}
        if os.geteuid() == 0:
            import pwd

            known = {entry.pw_name for entry in pwd.getpwall()}
            user = next(name for name in UNPRIVILEGED if name in known)
            shutil.chown(self._folder, user)
            self._as = {"user": user}
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        words = (
            "--auth=scram-sha-256",
            f"--pwfile={secret}",
            f"--username={USER}",
            "--no-sync",
            "--encoding=UTF8",
        )
        self._call("initdb", *words, f"--pgdata={self._folder}/data")

    def url(self, database):
        """What a sweep's file holds: no password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self):
        """Start, and wait until it answers."""
        words = [
            *(str(self._programs / "postgres"), "-D", f"{self._folder}/data", "-p", str(self.port)),
            *(
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                f"unix_socket_directories={self._folder}",
                "-c",
                "fsync=off",
            ),
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(words, cwd=self._folder, stdout=log, stderr=log, **self._as)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect("postgres").close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"postgres does not start: {error}") from None
                time.sleep(0.05)

    def stop(self):
        """End it and all connections at once, as for a restart."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            self._process.wait(START_SECONDS)
            self._process = None

    def remove(self):
        """Stop, and leave nothing."""
        self.stop()
        shutil.rmtree(self._folder)

    def connect(self, database):
        """A connection that does not depend on the environment."""
        where = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD}
        return psycopg.connect(dbname=database, connect_timeout=5, autocommit=True, **where)

    def create(self, database):
        """An empty database."""
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {database}")

    def _call(self, program, *words):
        subprocess.run(
            [str(self._programs / program), *words],
            cwd=self._folder,
            check=True,
            capture_output=True,
            **self._as,
        )
