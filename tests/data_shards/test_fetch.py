"""Downloads from a server that cuts off, refuses, forgets and changes; what arrives is whole or not there."""

import hashlib
import io
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from data_shards import download as downloading
from data_shards.__main__ import app
from data_shards.fetch import KNOWN, Archive

NAMES = ("trainA/1.jpg", "trainB/2.jpg", "testA/3.jpg", "testB/4.jpg")


def archive(*names: str, size: int = 250_000) -> bytes:
    """A zip that does not shrink what it holds."""
    buffer = io.BytesIO()
    noise = random.Random(0)
    with zipfile.ZipFile(buffer, "w") as packed:
        for name in names:
            packed.writestr(name, b"" if name.endswith("/") else noise.randbytes(size))
    return buffer.getvalue()


WRAPPED = archive("fruit/", *(f"fruit/{name}" for name in NAMES))


class FileServer(ThreadingHTTPServer):
    """Serves ``content`` under every path that ends with ``fruit.zip``; faults are used up one per request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = WRAPPED
        self.etag: str | None = '"one"'
        self.ranges = True
        self.states: list[int] = []
        self.cuts: list[int] = []
        self.pause = 0.0
        self.hold: int | None = None
        """Stop after so many bytes until ``go_on`` is set."""
        self.go_on = threading.Event()
        self.asked: list[tuple[str | None, str | None]] = []
        """Range and If-Range of each request."""
        self.sent: list[int] = []
        """Bytes of the body of each answer."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/sets"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news."""


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        server = self.server
        extent, condition = self.headers["Range"], self.headers["If-Range"]
        server.asked.append((extent, condition))
        server.sent.append(0)
        answer = len(server.sent) - 1
        if server.states:
            self.send_error(server.states.pop(0))
            return
        if not self.path.endswith("/sets/fruit.zip"):
            self.send_error(404)
            return
        total, start = len(server.content), 0
        if server.ranges and extent and condition in (None, server.etag):
            start = int(re.fullmatch(r"bytes=(\d+)-", extent)[1])
        if start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        end = start + server.cuts.pop(0) if server.cuts else total
        for position in range(start, min(end, total), 2**14):
            if position == server.hold:
                server.go_on.wait(60)
            self.wfile.write(server.content[position : min(position + 2**14, end)])
            server.sent[answer] += min(2**14, end - position, total - position)
            time.sleep(server.pause)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "DATA_SHARDS_FETCH_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloading, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(downloading, "LONGEST_PAUSE", 0.02)
    with FileServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def command(server: FileServer, dest: Path, *more: str) -> list[str]:
    digest = hashlib.sha256(server.content).hexdigest()
    return ["fetch", "fruit", str(dest), "--base-url", server.url, "--sha256", digest, *more]


def run(*arguments: str) -> tuple[int, str, list[str]]:
    """Exit code, stdout, lines of stderr."""
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr.splitlines()


def refused(*arguments: str) -> str:
    """The one line of a command that fails."""
    code, said, lines = run(*arguments)
    assert (code, said) == (1, "")
    assert len(lines) == 1
    return lines[0]


def is_complete(dest: Path, content: bytes = WRAPPED) -> bool:
    """Whether ``dest`` holds what the archive does and nothing is left beside it."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        expected = {name: packed.read(f"fruit/{name}") for name in NAMES}
    found = {
        path.relative_to(dest).as_posix(): path.read_bytes() for path in dest.rglob("*") if path.is_file()
    }
    return found == expected and [path.name for path in dest.parent.iterdir()] == [dest.name]


def test_a_data_set_is_fetched_and_the_next_command_told(server: FileServer, tmp_path: Path) -> None:
    dest = tmp_path / "my sets" / "fruit"
    code, said, lines = run(*command(server, dest))
    assert (code, lines) == (0, [])
    assert is_complete(dest)
    assert f"build '{dest}' data/fruit --resize 256" in said
    assert server.asked == [(None, None)]
    (dest / "trainA" / "1.jpg").write_text("mine")
    code, said, _ = run(*command(server, dest))
    assert code == 0
    assert "there already" in said
    assert (dest / "trainA" / "1.jpg").read_text() == "mine"
    assert len(server.asked) == 1


def test_known_names_need_no_digest(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_shards.fetch.KNOWN", {"fruit": Archive(len(WRAPPED), sha(WRAPPED))})
    monkeypatch.setenv("DATA_SHARDS_FETCH_URL", f"{server.url}/")
    monkeypatch.chdir(tmp_path)
    assert run("fetch", "fruit")[0] == 0
    assert is_complete(tmp_path / "datasets" / "fruit")
    line = refused("fetch", "apple2pear")
    assert "no known data set 'apple2pear': there are fruit; for another" in line
    server.content = b"<html>Please log in</html>"
    assert "has 26 bytes, not the 1,000," in refused("fetch", "fruit", "again")


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_the_help_lists_the_known_data_sets() -> None:
    _, said, _ = run("fetch", "--help")
    assert set(KNOWN) <= set(re.findall(r"\w+", said))
    assert all(re.fullmatch("[0-9a-f]{64}", known.sha256) for known in KNOWN.values())


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from data_shards.__main__ import app\n"
        "for name in ('verify', 'stat', 'fetch'): assert CliRunner().invoke(app, [name, '--help']).exit_code == 0\n"
        "print(*sorted({'torch', 'numpy', 'cv2', 'pyarrow', 'PIL', 'boto3', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_body_that_is_cut_off_is_continued(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [300_000, 0, 5_000]
    assert run(*command(server, tmp_path / "fruit"))[0] == 0
    assert is_complete(tmp_path / "fruit")
    assert server.asked == [(None, None), *[("bytes=300000-", '"one"')] * 2, ("bytes=305000-", '"one"')]
    assert sum(server.sent) == len(WRAPPED)


def test_a_server_that_is_busy_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.states = [503, 500]
    assert run(*command(server, tmp_path / "fruit"))[0] == 0
    assert len(server.asked) == 3
    assert is_complete(tmp_path / "fruit")


def test_one_that_stays_busy_is_given_up_and_resumed_later(server: FileServer, tmp_path: Path) -> None:
    server.cuts, server.states = [400_000], []
    server.cuts += [0] * 5
    line = refused(*command(server, tmp_path / "fruit"))
    assert "(tried 6 times); 400,000 bytes are kept" in line
    assert len(server.asked) == 6
    assert run(*command(server, tmp_path / "fruit"))[0] == 0
    assert server.asked[-1] == ("bytes=400000-", '"one"')
    assert is_complete(tmp_path / "fruit")


def test_progress_earns_more_tries(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "ENOUGH", 50_000)
    server.cuts = [60_000] * 12
    assert run(*command(server, tmp_path / "fruit"))[0] == 0
    assert len(server.asked) == 13


def test_a_server_without_ranges_starts_again(server: FileServer, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [300_000]
    assert run(*command(server, tmp_path / "fruit"))[0] == 0
    assert is_complete(tmp_path / "fruit")
    assert server.sent == [300_000, len(WRAPPED)]
    # One that always cuts at the same place would go on for ever if starting again counted as progress.
    server.cuts = [900_000] * 100
    assert "tried 6 times" in refused(*command(server, tmp_path / "again"))


@pytest.mark.parametrize("etag", ['"two"', None, 'W/"two"'])
def test_a_file_that_changed_in_between_is_fetched_anew(
    server: FileServer, tmp_path: Path, etag: str | None
) -> None:
    # The right content replaces a wrong one: without If-Range, the halves would be glued together.
    wanted = command(server, tmp_path / "fruit")
    server.content, server.cuts = bytes(len(WRAPPED)), [300_000, *[0] * 5]
    refused(*wanted)
    server.content, server.etag = WRAPPED, etag
    assert run(*wanted)[0] == 0
    assert is_complete(tmp_path / "fruit")
    assert server.sent[-1] == len(WRAPPED)


def test_a_file_that_became_shorter_is_fetched_anew(server: FileServer, tmp_path: Path) -> None:
    wanted = command(server, tmp_path / "fruit")
    server.etag = None
    server.content, server.cuts = bytes(2 * len(WRAPPED)), [len(WRAPPED) + 5, *[0] * 5]
    refused(*wanted)
    server.content = WRAPPED
    assert run(*wanted)[0] == 0
    assert is_complete(tmp_path / "fruit")


def test_a_download_that_ended_with_its_last_byte_is_not_repeated(server: FileServer, tmp_path: Path) -> None:
    partial = tmp_path / f"fruit.{sha(WRAPPED)[:8]}.zip.part"
    partial.write_bytes(WRAPPED)
    assert run(*command(server, tmp_path / "fruit"))[0] == 0
    assert server.sent == [0]
    assert is_complete(tmp_path / "fruit")


def test_a_wrong_checksum_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    wanted = command(server, tmp_path / "fruit")
    server.content = bytes(1000)
    line = refused(*wanted)
    assert f"its SHA-256 is {sha(bytes(1000))}, not {sha(WRAPPED)}" in line
    assert list(tmp_path.iterdir()) == []
    server.content = WRAPPED
    assert run(*wanted)[0] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            archive("fruit/trainA/1.jpg", "fruit/../../../escaped"),
            "'fruit/../../../escaped' would lie outside",
        ),
        (archive("/escaped"), "'/escaped' would lie outside"),
        (archive("fruit/..\\escaped"), "would lie outside"),
        (archive("fruit/"), "holds no files"),
        (b"not a zip" * 100, "not a zip file"),
        (WRAPPED[:2000] + bytes(1000) + WRAPPED[3000:], "Bad CRC-32"),
    ],
)
def test_an_archive_that_cannot_be_unpacked_leaves_nothing(
    server: FileServer, tmp_path: Path, content: bytes, message: str
) -> None:
    server.content = content
    line = refused(*command(server, tmp_path / "sets" / "fruit"))
    assert message in line
    assert "removed" in line
    assert list(tmp_path.rglob("*")) == [tmp_path / "sets"]


def test_only_what_wraps_everything_is_taken_off(server: FileServer, tmp_path: Path) -> None:
    for number, (names, expected) in enumerate(
        [
            (NAMES, NAMES),
            (("fruit/trainA/1.jpg", "__MACOSX/fruit/trainA/._1.jpg"), ("trainA/1.jpg",)),
            (("train/apple/1.jpg", "train/orange/2.jpg"), ("train/apple/1.jpg", "train/orange/2.jpg")),
        ]
    ):
        server.content = archive(*names, size=10)
        dest = tmp_path / str(number)
        assert run(*command(server, dest))[0] == 0
        found = {path.relative_to(dest).as_posix() for path in dest.rglob("*") if path.is_file()}
        assert found == set(expected)


def test_refusals_are_at_once_and_in_one_line(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = tmp_path / "fruit"
    digest = "0" * 64

    def line(name: str = "fruit", url: str = server.url, sha256: str = digest, where: Path = dest) -> str:
        return refused("fetch", name, str(where), "--base-url", url, "--sha256", sha256)

    assert "there is no such file" in line("vegetables")
    for state, said in ((401, "password"), (403, "forbidden"), (400, "refused (HTTP 400")):
        server.states = [state]
        assert said in line()
    assert len(server.asked) == 4
    for url in ("ftp://host/sets", "file:///etc", "nonsense", "http://", "http://host:port", "http://[x"):
        assert "is not a URL" in line(url=url)
    assert "cannot fetch http://a b/fruit.zip" in line(url="http://a b")
    assert "64 hexadecimal digits" in line(sha256="abc")
    assert "cannot name a data set" in line("../fruit")
    (tmp_path / "file").write_text("")
    assert "cannot write" in line(where=tmp_path / "file" / "fruit")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_500_000))
    needed = "not enough room in .* 2 MiB are needed, 1 MiB are free"
    assert re.search(needed, refused(*command(server, dest)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_an_unknown_host_and_a_closed_port(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = command(server, tmp_path / "fruit")
    server.server_close()
    assert "Connection refused (tried 6 times)" in refused(*wanted)

    def no_such_host(*_: object, **__: object) -> None:
        import socket

        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_such_host)
    assert "the host is unknown" in refused(*wanted)
    assert list(tmp_path.iterdir()) == []


def test_a_silent_server_is_asked_again(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "ANSWER_SECONDS", 0.3)
    server.pause = 1.0
    wanted = command(server, tmp_path / "fruit")
    assert "no answer for 0.3 s (tried 6 times); " in refused(*wanted)


def test_a_full_disk_is_said_and_what_came_is_kept(server: FileServer, tmp_path: Path) -> None:
    # A limit on the length of files stands in for the full disk.
    code = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)); "
        "runpy.run_module('data_shards', run_name='__main__')"
    )
    wanted = command(server, tmp_path / "fruit")
    done = subprocess.run([sys.executable, "-c", code, *wanted], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "File too large; 400,000 bytes are kept" in done.stderr
    assert run(*wanted)[0] == 0
    assert is_complete(tmp_path / "fruit")
    assert server.asked[-1] == ("bytes=400000-", '"one"')


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_process_is_continued_by_the_next(
    server: FileServer, tmp_path: Path, stop: signal.Signals
) -> None:
    server.hold = 20 * 2**14
    wanted = [sys.executable, "-m", "data_shards", *command(server, tmp_path / "fruit")]
    partial = tmp_path / f"fruit.{sha(WRAPPED)[:8]}.zip.part"
    process = subprocess.Popen(wanted, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (partial.exists() and partial.stat().st_size == server.hold):
        time.sleep(0.01)
    second = subprocess.run(wanted, capture_output=True, text=True, check=False)
    assert "another process is downloading" in second.stderr
    process.send_signal(stop)
    _, complaints = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "Traceback" not in complaints
    assert ("the same command goes on" in complaints) == (stop == signal.SIGINT)
    assert partial.stat().st_size == server.hold
    here, server.hold = server.hold, None
    server.go_on.set()

    done = subprocess.run(wanted, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert server.asked[-1] == (f"bytes={here}-", '"one"')
    assert server.sent[-1] == len(WRAPPED) - here
    assert is_complete(tmp_path / "fruit")
