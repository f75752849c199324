"""Ray jobs: sent to a cluster by its dashboard's address, found again, watched and stopped.

Whatever goes wrong on the way there is one `RunError`.
"""

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from textwrap import shorten
from typing import Any, Self

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from cluster.config import Experiment
from cluster.errors import RunError
from cluster.job_package import STOP_WAIT_SECONDS, entrypoint, packed

CONNECT_SECONDS, FIRST_ANSWER_SECONDS, ANSWER_SECONDS = 5.0, 8.0, 60.0
SILENCE_SECONDS = 120.0
"""A log that is followed says nothing for so long: look whether the connection is still one."""
POLL_SECONDS = 0.5
RECONNECTS = 20
"""Connections in a row that bring nothing, before following a log is given up."""
ENDED = {"SUCCEEDED", "FAILED", "STOPPED"}
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"

# Ray tells of every upload and closed connection, which is not what was asked for.
for _chatty in (
    "dashboard.modules.dashboard_sdk",
    "dashboard.modules.job.sdk",
    "_private.runtime_env.packaging",
):
    logging.getLogger(f"ray.{_chatty}").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Job:
    """What the cluster knows of a job."""

    id: str
    run: str | None
    """Name of the run; None where the job was not sent by `Jobs.submit`."""
    state: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    begin: datetime | None
    end: datetime | None
    exit_code: int | None
    message: str
    """Why it failed, in Ray's words and on several lines."""
    is_ours: bool

    @classmethod
    def of(cls, details: JobDetails) -> Self:
        """From Ray's description of a submitted job."""
        run = (details.metadata or {}).get("run")
        return cls(
            id=details.submission_id or "",
            run=run,
            state=str(details.status.value),
            begin=_time(details.start_time),
            end=_time(details.end_time),
            exit_code=details.driver_exit_code,
            message=details.message or "",
            is_ours=run is not None or "-m cluster" in details.entrypoint,
        )

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED


class Jobs:
    """The jobs of one cluster."""

    def __init__(self, address: str) -> None:
        if not address.startswith(("http://", "https://")):
            raise RunError(f"{address}: not the address of a Ray dashboard; it is like http://HOST:8265")
        self.address = address.rstrip("/")
        try:
            with self._one_line(), _without_other_address(self.address):
                self._client = _Client(self.address)
        except (LookupError, TypeError) as error:  # from what the server says its version is
            raise RunError(f"{self.address}: not a Ray dashboard") from error

    def submit(self, experiment: Experiment, variables: Mapping[str, str]) -> str:
        """Send the experiment with the source that trains it; the id of the job."""
        name = experiment.run.name
        with packed(experiment) as folder, self._one_line():
            return self._client.submit_job(
                entrypoint=entrypoint(experiment),
                submission_id=f"{name}-{datetime.now():%Y%m%d-%H%M}-{secrets.token_hex(2)}",
                runtime_env={"working_dir": str(folder), "env_vars": dict(variables)},
                metadata={"run": name},
            )

    def list(self) -> list[Job]:
        """All submitted jobs, newest first."""
        with self._one_line():
            jobs = [Job.of(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(jobs, key=lambda job: job.begin.timestamp() if job.begin else 0.0, reverse=True)

    def find(self, word: str) -> Job:
        """The job that ``word`` stands for; see `choose`."""
        try:
            return choose(self.list(), word)
        except LookupError as error:
            raise RunError(f"{self.address}: {error.args[0]}") from error

    def look(self, job_id: str) -> Job:
        """The job of this id as it is now."""
        with self._one_line():
            return Job.of(self._client.get_job_info(job_id))

    def log(self, job_id: str) -> str:
        """All that the job has printed."""
        with self._one_line():
            return self._client.get_job_logs(job_id)

    def last_line(self, job: Job) -> str:
        """The last line that the job printed; Ray's words where it failed before it could print."""
        lines = [line for line in self.log(job.id).splitlines() if line.strip()]
        return lines[-1].strip() if lines else shorten(job.message, 400)

    def follow(self, job_id: str, show: Callable[[str], object]) -> Job:
        """Hand the log to ``show`` piece by piece as it is written; the job once it has ended.

        A lost connection is made anew, and the log goes on where it was.
        """
        tail, tries = _Tail(show), 0
        while True:
            before, broken = tail.shown, False
            try:
                asyncio.run(tail.read(self._client.tail_job_logs(job_id)))
            except (aiohttp.ClientError, RuntimeError, OSError) as error:
                broken = True
                tries = tries + 1 if tail.shown == before and not isinstance(error, TimeoutError) else 0
                if tries > RECONNECTS:
                    raise RunError(f"{job_id}: its log cannot be followed: {_core(error)}") from error
            job = self.look(job_id)
            if job.has_ended:
                if broken:
                    show(self.log(job_id)[tail.shown :])
                return job
            time.sleep(POLL_SECONDS)

    def stop(self, job_id: str) -> Job:
        """Ask the job to stop and wait until it has, or until Ray has killed it."""
        with self._one_line():
            self._client.stop_job(job_id)
        deadline = time.monotonic() + STOP_WAIT_SECONDS + ANSWER_SECONDS
        while not (job := self.look(job_id)).has_ended:
            if time.monotonic() > deadline:
                raise RunError(f"{job_id}: was asked to stop, and is {job.state} still")
            time.sleep(POLL_SECONDS)
        return job

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except AuthenticationError as error:
            told = str(error).partition(". Ensure")[0].splitlines()[0]
            raise RunError(
                f"{self.address}: {told}; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
            ) from error
        except requests.Timeout as error:
            raise RunError(f"{self.address}: does not answer in time") from error
        except (ConnectionError, requests.ConnectionError) as error:
            raise RunError(
                f"{self.address}: cannot be reached; is the cluster up, the address right?"
            ) from error
        except (requests.RequestException, RuntimeError, ValueError) as error:
            raise RunError(
                f"{self.address}: not a Ray dashboard, or one in trouble: {_core(error)}"
            ) from error


def choose(jobs: list[Job], word: str) -> Job:
    """Of ``jobs``, newest first: that of this id, else the newest of this run, else the only id that begins so."""
    for found in ([job for job in jobs if job.id == word], [job for job in jobs if job.run == word]):
        if found:
            return found[0]
    found = [job for job in jobs if job.id.startswith(word)]
    if not found:
        raise LookupError(f"no job {word}; `list --all` shows all jobs")
    if len(found) > 1:
        raise LookupError(f"{word} begins the ids of {', '.join(job.id for job in found)}")
    return found[0]


class _Tail:
    """A log as far as it has been shown."""

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show = show
        self.shown = 0
        """Characters."""

    async def read(self, pieces: AsyncIterator[str]) -> None:
        """Show what is new in ``pieces``, which begin at the beginning. `TimeoutError` after a long silence."""
        position = 0
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            begin, position = position, position + len(piece)
            if position > self.shown:
                self._show(piece[max(0, self.shown - begin) :])
                self.shown = position


class _Client(JobSubmissionClient):
    """Ray's client, but with a limit to how long it waits for an answer."""

    def _do_request(self, method: str, endpoint: str, **request: Any) -> requests.Response:
        answer = FIRST_ANSWER_SECONDS if endpoint == "/api/version" else ANSWER_SECONDS
        return super()._do_request(method, endpoint, timeout=(CONNECT_SECONDS, answer), **request)


@contextmanager
def _without_other_address(address: str) -> Iterator[None]:
    """Ray prefers the address in the environment to the one it is given."""
    before = os.environ.get(ADDRESS_VARIABLE)
    os.environ[ADDRESS_VARIABLE] = address
    try:
        yield
    finally:
        del os.environ[ADDRESS_VARIABLE]
        if before is not None:
            os.environ[ADDRESS_VARIABLE] = before


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000) if milliseconds else None


def _core(error: Exception) -> str:
    """The line of an error that says most: of a traceback the last one."""
    lines = [line for line in str(error).replace("\\n", "\n").splitlines() if line.strip(" \"'}")]
    return shorten(lines[-1] if lines else type(error).__name__, 300)
