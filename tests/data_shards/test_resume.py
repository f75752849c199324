"""A build that is stopped, at whatever moment and by whatever, goes on where it was and ends as if it had not been."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from data_shards.build import BuildOptions
from data_shards.errors import DataError, Missing
from data_shards.manifest import Manifest
from data_shards.publish import are_there
from data_shards.store import LocalStore

from .conftest import build_folder, contents, noise_image

STOPS = 10


def folders(root: Path, count: int, side: int) -> Path:
    """Two domains of ``count`` images each, one of them broken."""
    for domain in (0, 1):
        folder = root / f"train{'AB'[domain]}"
        folder.mkdir(parents=True)
        for index in range(count):
            noise_image(side, side, domain, index).save(folder / f"{index}.bmp")
    (root / "trainA" / "broken.jpg").write_bytes(b"no image")
    return root


class Building:
    """`python -m data_shards build` as a process of its own, and all processes that come of it."""

    def __init__(self, source: Path, dest: Path, *more: str) -> None:
        self._mark = uuid.uuid4().hex
        words = [sys.executable, "-m", "data_shards", "build", str(source), str(dest), *more]
        self.process = subprocess.Popen(
            words,
            env={**os.environ, "BUILDING": self._mark},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def alive(self) -> list[int]:
        """Its processes."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def workers(self) -> list[int]:
        """Those that convert."""
        return [pid for pid in self.alive() if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def wait(self) -> tuple[int, str]:
        """Exit code and stderr of a build that must end soon, and with all its processes."""
        _, said = self.process.communicate(timeout=60)
        deadline = time.monotonic() + 10
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.alive() == []
        return self.process.returncode, said


def records(dest: Path) -> int:
    return len(list(dest.glob(".building/*.json")))


def whole_or_missing(dest: Path) -> bool:
    """Whether there is a data set; if so, it is whole."""
    store = LocalStore(dest)
    try:
        manifest = Manifest.read(store)
    except Missing:
        return False
    assert are_there(store, manifest.files())
    return True


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders(tmp_path_factory.mktemp("resume") / "source", 100, 240)


OPTIONS = BuildOptions(resize=100, encoding="png", shard_samples=4)
WORDS = ("--resize", "100", "--format", "png", "--shard-samples", "4")


@pytest.mark.slow
def test_killed_again_and_again(source: Path, tmp_path: Path) -> None:
    build_folder(source, tmp_path / "unbroken", OPTIONS)
    expected = contents(tmp_path / "unbroken")
    dest = tmp_path / "dest"
    moments = random.Random(20)
    killed = 0
    while killed < STOPS:
        building = Building(source, dest, *WORDS, "--processes", "2")
        goal = records(dest) + moments.randint(0, 3)
        while building.process.poll() is None and (records(dest) < goal or not dest.exists()):
            whole_or_missing(dest)
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        building.process.kill()
        code, said = building.wait()
        if code == -signal.SIGKILL:
            killed += 1
        else:  # it was faster than we
            assert code == 0, said
            assert contents(dest) == expected
            shutil.rmtree(dest)
    code, said = Building(source, dest, *WORDS, "--processes", "2").wait()
    assert code == 0, said
    assert contents(dest) == expected


@pytest.mark.parametrize("replacing", [False, True], ids=["new", "replacing"])
def test_dead_at_every_change_of_the_store(tmp_path: Path, replacing: bool) -> None:
    source = folders(tmp_path / "source", 5, 20)
    options = BuildOptions(shard_samples=2)
    build_folder(source, tmp_path / "unbroken", options)
    expected = contents(tmp_path / "unbroken")
    old = BuildOptions(resize=10)
    for left in range(100):
        dest = tmp_path / f"dest-{left}"
        if replacing:
            build_folder(source, dest, old)
        code = _die_after(left, source, dest, options)
        assert whole_or_missing(dest) or not replacing
        if (dest / "manifest.json").exists():
            assert Manifest.read(LocalStore(dest)).load_size in ((10, None) if replacing else (None,))
        build_folder(source, dest, options, overwrite=True)
        assert contents(dest) == expected
        if code == 0:
            break
    assert left > 12


def _die_after(left: int, source: Path, dest: Path, options: BuildOptions) -> int:
    """The exit code of a build in a process that ends without a word at its ``left``-th change of a store."""
    process = multiprocessing.get_context("fork").Process(target=_mortal, args=(left, source, dest, options))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _mortal(left: int, source: Path, dest: Path, options: BuildOptions) -> None:
    countdown = iter(range(left))
    for name in ("put", "delete", "sweep"):
        change = getattr(LocalStore, name)

        def or_die(*arguments: object, change: object = change) -> object:
            if next(countdown, None) is None:
                os._exit(9)
            return change(*arguments)

        setattr(LocalStore, name, or_die)
    build_folder(source, dest, options, overwrite=True)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("processes", [1, 2])
def test_stopped_by_hand(source: Path, tmp_path: Path, stop: signal.Signals, processes: int) -> None:
    dest = tmp_path / "dest"
    building = Building(source, dest, *WORDS, "--processes", str(processes))
    while building.process.poll() is None and records(dest) < 2:
        time.sleep(0.01)
    asked = time.monotonic()
    if stop == signal.SIGINT:
        os.killpg(building.process.pid, stop)  # Ctrl-C goes to all processes of the terminal
    else:
        building.process.send_signal(stop)
    code, said = building.wait()
    assert time.monotonic() - asked < 10
    assert code != 0
    assert "Traceback" not in said
    assert "the same command goes on from there" in said
    assert 0 < records(dest) < 51


def test_a_worker_that_the_system_kills(source: Path, tmp_path: Path) -> None:
    building = Building(source, tmp_path / "dest", *WORDS, "--processes", "2")
    while building.process.poll() is None and records(tmp_path / "dest") < 2:
        time.sleep(0.01)
    worker = building.workers()[0]
    assert b"libtorch" not in Path(f"/proc/{worker}/maps").read_bytes()
    os.kill(worker, signal.SIGKILL)
    code, said = building.wait()
    assert code == 1
    assert said.count("\n") == 1, said
    assert "a worker process was killed" in said
    assert "use fewer --processes" in said


def test_two_builds_at_once_into_one_place(source: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    building = Building(source, dest, *WORDS, "--processes", "1")
    while building.process.poll() is None and records(dest) < 1:
        time.sleep(0.01)
    try:
        with pytest.raises(DataError, match=r"another build into .* is under way"):
            build_folder(source, dest, OPTIONS)
    finally:
        building.process.kill()
        building.wait()


@pytest.fixture
def interrupted(source: Path, tmp_path: Path) -> Path:
    """A data set to be, some shards of which are there."""

    def watch(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_folder(source, tmp_path / "dest", OPTIONS, watch=watch)
    return tmp_path / "dest"


def test_only_the_rest_is_built(source: Path, interrupted: Path, tmp_path: Path) -> None:
    begun = records(interrupted)
    (next(interrupted.glob("A/*.tar"))).unlink()  # as if somebody had tidied up
    heard: list[int] = []
    build_folder(source, interrupted, OPTIONS, watch=lambda done, total: heard.append(done))
    assert heard[0] == 4 * (begun - 1)
    assert heard[-1] == 201
    build_folder(source, tmp_path / "unbroken", OPTIONS)
    assert contents(interrupted) == contents(tmp_path / "unbroken")


def test_with_other_options_nothing_old_is_taken_over(
    source: Path, interrupted: Path, tmp_path: Path
) -> None:
    other = BuildOptions(resize=50, shard_samples=50)
    build_folder(source, interrupted, other)
    build_folder(source, tmp_path / "unbroken", other)
    assert contents(interrupted) == contents(tmp_path / "unbroken")


def test_what_strict_refuses_is_refused_though_it_was_skipped_before(source: Path, interrupted: Path) -> None:
    strict = BuildOptions(resize=100, encoding="png", shard_samples=4, strict=True)
    for _ in range(2):
        with pytest.raises(DataError, match=r"cannot use trainA/broken\.jpg: it is none of"):
            build_folder(source, interrupted, strict)
        build_folder(source, interrupted, OPTIONS)
