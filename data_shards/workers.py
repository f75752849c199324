"""Units built in this process or in several, which end with it however it ends."""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from data_shards.errors import DataError
from data_shards.sources import BuildOptions
from data_shards.store import open_store
from data_shards.units import Unit, build_unit

REPORT_EVERY = 0.2  # seconds between two messages of a worker about its progress


@dataclass(frozen=True)
class Job:
    """What all units of a build have in common."""

    source: str | None
    """URI of the files that units name."""
    dest: str
    """URI of the data set."""
    options: BuildOptions


def build_units(job: Job, units: Iterable[Unit], processes: int, advance: Callable[[int], None]) -> None:
    """Build each unit, in this process or in new ones; ``advance`` hears how many images more are done."""
    if processes <= 1:
        _build_here(job, units, advance)
    else:
        _Workers(job, advance).build(iter(units), processes)


def _build_here(job: Job, units: Iterable[Unit], advance: Callable[[int], None]) -> None:
    with closing(open_store(job.dest)) as dest:
        if job.source is None:
            for unit in units:
                build_unit(unit, None, dest, job.options, lambda: advance(1))
        else:
            with closing(open_store(job.source)) as source:
                for unit in units:
                    build_unit(unit, source, dest, job.options, lambda: advance(1))


@dataclass(frozen=True)
class _Done:
    """A worker's word that it has converted so many images more, and whether this finished its unit."""

    images: int
    unit: bool


class _Workers:
    """Processes, each with one unit at a time."""

    def __init__(self, job: Job, advance: Callable[[int], None]) -> None:
        self._job, self._advance = job, advance
        self._processes: dict[Connection, SpawnProcess] = {}

    def build(self, units: Iterator[Unit], processes: int) -> None:
        """Build ``units`` in so many processes; whatever happens, they are gone afterwards."""
        try:
            busy: list[Connection] = []
            for unit in islice(units, processes):
                busy.append(self._start())
                self._give(busy[-1], unit)
            while busy:
                for connection in [each for each in wait(busy) if isinstance(each, Connection)]:
                    done = self._hear(connection)
                    self._advance(done.images)
                    if done.unit:
                        following = next(units, None)
                        if following is None:
                            busy.remove(connection)
                        else:
                            self._give(connection, following)
        finally:
            for process in self._processes.values():
                process.terminate()
            for process in self._processes.values():
                process.join()

    def _start(self) -> Connection:
        # Spawned and not forked, since connections to S3 do not survive a fork.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._job), daemon=True)
        with _interrupts_held():
            process.start()
        theirs.close()
        self._processes[ours] = process
        return ours

    def _give(self, connection: Connection, unit: Unit) -> None:
        try:
            connection.send(unit)
        except OSError:
            raise self._died(connection) from None

    def _hear(self, connection: Connection) -> _Done:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            raise self._died(connection) from None
        if isinstance(message, Exception):
            raise message
        assert isinstance(message, _Done)
        return message

    def _died(self, connection: Connection) -> DataError:
        process = self._processes[connection]
        process.join(10)
        code = process.exitcode or 0
        if code == -signal.SIGKILL:
            return DataError(
                "a worker process was killed, as systems do that run out of memory: use fewer --processes"
            )
        return DataError(f"a worker process ended by itself (exit code {code}): try again with --processes 1")


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C reaches workers, too, who shall leave it to this process: what they inherit is a blocked SIGINT."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, job: Job) -> None:
    """The life of a worker: units from ``connection``, until there is no other end."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        reports = _Reports(connection)
        _build_here(job, reports.units(), reports.advance)
    except EOFError:
        pass  # the other end is closed: there is nothing more to do
    except DataError as error:
        connection.send(error)
    except Exception:
        connection.send(RuntimeError(f"in a worker process:\n{traceback.format_exc()}"))


class _Reports:
    """The worker's end of the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._images, self._told = 0, time.monotonic()

    def units(self) -> Iterator[Unit]:
        """The units to build; asking for another one says that the last is finished."""
        while True:
            yield self._connection.recv()
            self._tell(unit=True)

    def advance(self, images: int) -> None:
        """Count images that are done, and tell now and then."""
        self._images += images
        if time.monotonic() - self._told > REPORT_EVERY:
            self._tell(unit=False)

    def _tell(self, *, unit: bool) -> None:
        self._connection.send(_Done(self._images, unit))
        self._images, self._told = 0, time.monotonic()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
