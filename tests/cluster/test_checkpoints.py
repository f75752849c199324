"""Checkpoints that are damaged, cut off or cannot be written: what is left of a run, and what is said."""

import json
import logging
import os
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest
import torch
from toy import Watching, engine, experiment

from cluster.checkpoint import Checkpoint, Identity
from cluster.checkpoints import Checkpoints, index_name
from cluster.errors import RunError
from cluster.recorder import Recorder
from cluster.run_folder import RunFolder
from data_shards.errors import DataError

from ..s3.server import BUCKET

IDENTITY = Identity({"kind": "toy"}, {"digest": "x"}, 0)


def checkpoint_of(step, size=100, **metrics):
    weights = torch.full((size,), float(step))
    return Checkpoint(step, 100, 0, IDENTITY, {"model/weights": weights}, metrics)


def place(tmp_path, where):
    return str(tmp_path) if where == "folder" else f"s3://{BUCKET}/{tmp_path.name}?retry_seconds=1"


@pytest.fixture(params=["folder", "bucket"])
def checkpoints(request, tmp_path):
    """Those of steps 5 and 10, in a folder and in a bucket."""
    if request.param == "bucket":
        request.getfixturevalue("s3")
    folder = RunFolder(place(tmp_path, request.param), "run")
    folder.create()
    found = Checkpoints(folder)
    for step in (5, 10):
        found.save(checkpoint_of(step))
    return folder, found


def files(folder):
    return sorted(entry.path for entry in folder.store.list("checkpoints/"))


def spoil(folder, name, change):
    folder.store.put(name, change(folder.store.read(name)))


def flip(content, place):
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def test_what_is_saved_comes_back_bit_for_bit(checkpoints):
    folder, found = checkpoints
    saved = found.newest()
    assert saved.step == 10
    assert torch.equal(saved.tensors["model/weights"], torch.full((100,), 10.0))
    assert (saved.identity, saved.total_steps) == (IDENTITY, 100)
    assert len(files(folder)) == 4


@pytest.mark.parametrize(
    ("which", "change", "told"),
    [
        ("tensors", lambda c: c[: len(c) // 2], "damaged: 240 bytes instead of 480"),
        ("tensors", lambda c: flip(c, -7), "damaged: its SHA-256 is not that of the index"),
        ("tensors", lambda c: flip(c, 3), "damaged: its SHA-256 is not that of the index"),
        ("index", lambda c: c[: len(c) // 2], "damaged index"),
        ("index", lambda c: c.replace(b'"skipped": 0', b'"skipped": 1'), "damaged index"),
        ("index", lambda c: c.replace(b'"step": 10', b'"step": 12'), "damaged index"),
    ],
)
def test_a_damaged_newest_one_falls_back_to_the_one_before_and_says_so(
    checkpoints, caplog, which, change, told
):
    folder, found = checkpoints
    name = index_name(10) if which == "index" else found.index(10).file
    spoil(folder, name, change)
    assert found.newest().step == 5
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert told in line
    assert line.endswith("; going back to the one before")
    assert name in line


@pytest.mark.parametrize("missing", ["index", "tensors"])
def test_one_of_its_two_files_is_missing(checkpoints, caplog, missing):
    folder, found = checkpoints
    folder.store.delete(index_name(10) if missing == "index" else found.index(10).file)
    assert found.newest().step == 5
    told = "step 10 is without its index" if missing == "index" else "checkpoint of step 10: cannot read"
    assert told in caplog.text
    assert "going back to" in caplog.text


def test_none_left_is_an_error_and_not_a_new_beginning(checkpoints):
    folder, found = checkpoints
    for step in (5, 10):
        spoil(folder, found.index(step).file, lambda content: content[:-1])
    with pytest.raises(RunError, match=r"no checkpoint of 2 can be read; restore one or use a new run\.name"):
        found.newest()


def test_the_newest_and_the_best_are_kept(checkpoints):
    folder, found = checkpoints
    for step, value in ((20, 0.3), (30, 0.1), (40, 0.2), (50, 0.4)):
        found.save(checkpoint_of(step, cycle=value))
    assert found.best("cycle", "lowest") == 30
    assert found.best("cycle", "highest") == 50
    assert found.best("nothing", "lowest") is None
    found.prune(2, "cycle", "lowest")
    assert found.steps() == [50, 40, 30]
    assert len(files(folder)) == 6
    found.save(checkpoint_of(50, size=7))  # trained again, on another number of workers
    found.prune(2, "cycle", "lowest")
    assert len(files(folder)) == 6
    assert len(found.load(50).tensors["model/weights"]) == 7


@contextmanager
def small_disk(folder, kibibytes):
    """A file system of its own, as small as that."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "none", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting a small disk needs root: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_told_and_leaves_the_checkpoint_before_intact(tmp_path):
    with small_disk(tmp_path / "disk", 256):
        folder = RunFolder(str(tmp_path / "disk"), "run")
        folder.create()
        found = Checkpoints(folder)
        found.save(checkpoint_of(5, size=30_000))  # 120 KB
        with pytest.raises(DataError, match=r"cannot write the checkpoint of step 10: .*[Nn]o space left"):
            found.save(checkpoint_of(10, size=60_000))
        assert not list((folder.root / ".building").iterdir()), "what was begun is not in the way"
        assert found.newest().step == 5
        found.save(checkpoint_of(15, size=20_000))
        assert found.newest().step == 15


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # that of TensorBoard's writer
def test_a_run_whose_disk_fills_up_says_so_goes_on_and_ends_with_the_last_checkpoint(tmp_path, caplog):
    """The disk takes the first checkpoint; then a file of somebody else fills it."""
    with small_disk(tmp_path / "disk", 512):
        settings = experiment(tmp_path / "disk", 40, checkpoint_every=5, preview_every=0, max_unsaved=3)
        filler = tmp_path / "disk" / "filler"

        class Filling(Watching):
            def saved(self, step):
                super().saved(step)
                left = os.statvfs(filler.parent)
                filler.write_bytes(b"x" * (left.f_bavail * left.f_bsize))

            def row(self, row):
                super().row(row)
                while (
                    row["step"] == 6 and not self.saves
                ):  # or the toy would be done before the first is stored
                    time.sleep(0.01)
                time.sleep(0.1)  # so that each checkpoint is tried before the next

        watcher = Filling()
        with pytest.raises(
            RunError, match=r"3 checkpoints in a row could not be stored \(train.max_unsaved\); the"
        ):
            engine(settings, watcher=watcher).run()
        assert watcher.saves == [5]
        assert "checkpoint of step 10 is not stored" in caplog.text
        assert "o space left" in caplog.text
        filler.unlink()
        again = Watching()
        resumed = engine(settings, watcher=again)
        assert resumed.run()
        assert again.rows[0]["step"] == 6
        text = RunFolder(str(tmp_path / "disk"), "toy").metrics.read_text()
        assert [json.loads(line)["step"] for line in text.splitlines()][-1] == 40


def test_a_run_with_a_new_owner_stops(tmp_path):
    settings = experiment(tmp_path)
    trainer = engine(settings)
    trainer.session = "first"
    trainer.folder.claim("second")
    with pytest.raises(RunError, match=r"another process has taken this run over"):
        trainer.run()
    assert Checkpoints(trainer.folder).steps() == []


def test_a_waiting_checkpoint_gives_way_to_a_newer_one(tmp_path, monkeypatch, caplog):
    settings = experiment(tmp_path)
    folder = RunFolder(str(tmp_path), "toy")
    folder.create()
    go, begun, saved = threading.Event(), threading.Event(), []
    save = Checkpoints.save

    def slow(self, checkpoint):
        begun.set()
        assert go.wait(30)
        return save(self, checkpoint)

    monkeypatch.setattr(Checkpoints, "save", slow)
    recorder = Recorder(folder, settings.train, 0, saved.append)
    recorder.checkpoint(checkpoint_of(1))
    assert begun.wait(30)
    for step in (2, 3):
        recorder.checkpoint(checkpoint_of(step))
    assert saved == [], "only what is whole in the storage counts"
    go.set()
    recorder.flush()
    recorder.close()
    assert saved == [1, 3]
    assert "the checkpoint of step 2 is left out" in caplog.text


@pytest.mark.parametrize("ends", [True, False])
def test_a_bucket_that_is_away_does_not_end_a_run(s3, tmp_path, caplog, ends):
    """It comes back before the run ends, or does not: then the run fails, but only at its end."""
    storage = f"s3://{BUCKET}/away-{ends}?retry_seconds=0.2"
    settings = experiment(storage, 30, checkpoint_every=10, preview_every=0, max_unsaved=9)

    class Away(Watching):
        def saved(self, step):
            super().saved(step)
            if step == 10:
                s3.stop()

        def row(self, row):
            super().row(row)
            while row["step"] == 12 and not self.saves:  # or the toy would be done before the first is stored
                time.sleep(0.01)
            if row["step"] == 28 and ends:
                s3.start()

    watcher = Away()
    try:
        if ends:
            assert engine(settings, watcher=watcher).run()
            assert Checkpoints(RunFolder(storage, "toy")).newest().step == 30
        else:
            with pytest.raises(RunError, match="the last checkpoint could not be stored: cannot"):
                engine(settings, watcher=watcher).run()
        assert 10 in watcher.saves
        assert watcher.rows[-1]["step"] == 30
    finally:
        if not ends:
            s3.start()
