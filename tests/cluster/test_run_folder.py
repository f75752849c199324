"""Where a run lies: in a folder or in a bucket, named by one word; who owns it; what is fetched."""

import pytest

from cluster.errors import RunError
from cluster.events import EventLog
from cluster.notes import Event
from cluster.run_folder import RunFolder

from ..s3.server import BUCKET


@pytest.mark.parametrize(
    ("word", "uri", "root"),
    [
        ("runs/demo", "runs/demo", "runs/demo"),
        ("runs/demo/", "runs/demo", "runs/demo"),
        ("demo", "./demo", "demo"),
        ("/demo", "/demo", "/demo"),
        ("/data/runs/demo", "/data/runs/demo", "/data/runs/demo"),
        ("s3://bucket/runs/demo?retry_seconds=5", "s3://bucket/runs/demo", None),
        ("s3://bucket/demo", "s3://bucket/demo", None),
    ],
)
def test_a_run_is_named_by_one_word(word, uri, root):
    folder = RunFolder.at(word)
    assert folder.uri == uri
    assert folder.is_remote == (root is None)
    assert folder.store.uri == str(folder.root) if root else uri
    if root:
        assert str(folder.root) == root


def test_a_run_in_a_bucket_is_read_on_another_machine(s3, tmp_path, monkeypatch):
    def on_machine(name):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
        folder = RunFolder(f"s3://{BUCKET}/folders", "run")
        folder.create()
        return folder

    ours = on_machine("a")
    ours.write(ours.config, b"one")
    ours.metrics.write_bytes(b"rows")
    ours.publish(ours.metrics)
    ours.tensorboard.mkdir()
    (ours.tensorboard / "events").write_bytes(b"board")
    ours.publish(ours.tensorboard)
    theirs = on_machine("b")
    assert theirs.root != ours.root
    theirs.export.mkdir()
    (theirs.export / "config.yaml").write_bytes(b"stale")
    assert not theirs.fetch(theirs.export / "config.yaml"), "what the bucket has not is not there"
    theirs.fetch_all("config", "metrics", "tensorboard/")
    assert theirs.config.read_bytes() == b"one"
    assert theirs.metrics.read_bytes() == b"rows"
    assert (theirs.tensorboard / "events").read_bytes() == b"board"


def test_the_last_to_claim_a_run_owns_it(tmp_path):
    folder = RunFolder(str(tmp_path), "run")
    folder.claim("first")
    folder.check_owner("first")
    folder.claim("second")
    with pytest.raises(RunError, match=r"run: another process has taken this run over"):
        folder.check_owner("first")


def test_events_of_several_drivers_follow_each_other(s3, tmp_path):
    for storage in (str(tmp_path), f"s3://{BUCKET}/events"):
        folder = RunFolder(storage, "run")
        folder.create()
        EventLog(folder).add(Event("start", "one", 0, 2))
        EventLog(folder).add(Event("resume", "two", 5, 1))
        folder.fetch(folder.events)
        assert [line.count('"time"') for line in folder.events.read_text().splitlines()] == [1, 1]
