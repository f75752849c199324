"""What the job commands do before and without a cluster: what they send, what they refuse, what they say."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import pytest
import typer
import yaml
from typer.testing import CliRunner

import cluster.jobs
from cluster.__main__ import app
from cluster.config import load
from cluster.errors import ConfigError
from cluster.job_commands import _end, _follow
from cluster.job_package import environment, packed
from cluster.jobs import Job, Jobs, choose
from cluster.notes import NoteHandler
from cluster.ray_session import _tell_what_is_missing

from ..s3.server import free_ports
from .command import REPOSITORY

DEMO = REPOSITORY / "cluster" / "configs" / "demo.yaml"
PLACES = ("run.storage=/shared/runs", "data.uri=s3://bucket/digits")


@pytest.fixture(autouse=True)
def no_cluster_in_the_environment(monkeypatch):
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def refusal(*words):
    """The lines of a command that fails without a traceback."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    return result.output.splitlines()


@contextmanager
def server(status=200, body=b"<html>hello</html>"):
    """A web server that gives one answer; (address, paths that were asked for)."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{http.server_port}", asked
        finally:
            http.shutdown()


def test_a_closed_port_is_one_line_at_once():
    (port,) = free_ports(1)
    begin = time.monotonic()
    address = f"http://127.0.0.1:{port}"
    assert refusal("list", "--address", address) == [
        f"error: {address}: cannot be reached; is the cluster up, the address right?"
    ]
    assert time.monotonic() - begin < 10


def test_an_address_that_never_answers_is_given_up(monkeypatch):
    assert cluster.jobs.CONNECT_SECONDS + cluster.jobs.FIRST_ANSWER_SECONDS < 15
    monkeypatch.setattr(cluster.jobs, "FIRST_ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begin = time.monotonic()
        assert refusal("list", "--address", address) == [f"error: {address}: does not answer in time"]
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>hello</html>"), (200, b"{}"), (200, b"[1]"), (404, b""), (502, b"Bad gateway")],
)
def test_another_server_is_told_from_a_dashboard(status, body):
    with server(status, body) as (address, _):
        (line,) = refusal("status", "demo", "--address", address)
    assert line.startswith(f"error: {address}: not a Ray dashboard")


def test_a_wanted_token_is_named():
    with server(401, b"Unauthorized: Missing authentication token") as (address, _):
        (line,) = refusal("list", "--address", address)
    assert "Missing authentication token" in line
    assert line.endswith("set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH")


def test_the_address_is_asked_for_and_looked_at():
    assert refusal("list") == [
        "error: which cluster? Give --address http://HOST:8265 or set RAY_API_SERVER_ADDRESS"
    ]
    (line,) = refusal("list", "--address", "ray://host:10001")
    assert line.startswith("error: ray://host:10001: not the address of a Ray dashboard")


def test_the_address_given_goes_before_the_environment(monkeypatch):
    with server() as (address, asked), server() as (other, asked_other):
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", other)
        monkeypatch.setenv("RAY_ADDRESS", other)
        refusal("list", "--address", address)
        assert (len(asked), asked_other) == (1, [])
        refusal("list")
        assert (len(asked), len(asked_other)) == (1, 1)


@pytest.mark.parametrize(
    ("words", "reasons"),
    [
        (("train.step=5",), ["train.step"]),
        (("nonsense",), ["nonsense: not an override"]),
        (
            ("run.storage=runs", "data.uri=data/digits"),
            ["run.storage = runs: a relative path", "data.uri = data/digits: a relative path"],
        ),
        (("--env", "GMVAE_NOT_SET"), ["--env GMVAE_NOT_SET: is not set here"]),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(words, reasons):
    with server() as (address, asked):
        lines = refusal("submit", DEMO, *PLACES, *words, "--address", address)
    assert len(lines) == len(reasons), lines
    for line, reason in zip(lines, reasons, strict=True):
        assert line.startswith("error: ")
        assert reason in line
    assert asked == []


def test_the_package_holds_the_rooms_and_the_resolved_experiment_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.py").touch()
    experiment = load(DEMO, {"train.steps": 7, "run.name": "seven"})
    with packed(experiment) as folder:
        files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        assert {name.split("/")[0] for name in files} == {
            "gmvae_drit",
            "data_shards",
            "cluster",
            "seven.yaml",
        }
        assert {"cluster/__main__.py", "cluster/evaluation/network.py", "data_shards/s3.py"} <= files.keys()
        assert not [name for name in files if "__pycache__" in name]
        assert sum(path.stat().st_size for path in files.values()) < 2**20
        assert load(files["seven.yaml"]) == experiment
        assert yaml.safe_load(files["seven.yaml"].read_text())["train"]["steps"] == 7
    assert not folder.exists()


def test_only_the_variables_that_are_named_are_sent(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert environment([]) == {"RAY_JOB_STOP_WAIT_TIME_S": "120"}
    assert environment(["AWS_REGION", "A=b=c", "RAY_JOB_STOP_WAIT_TIME_S=9"]) == {
        "RAY_JOB_STOP_WAIT_TIME_S": "9",
        "AWS_REGION": "eu-north-1",
        "A": "b=c",
    }
    with pytest.raises(ConfigError, match="write NAME or NAME=VALUE"):
        environment(["=b"])


def job(job_id, run=None, state="RUNNING"):
    return Job(job_id, run, state, datetime.now(), None, None, "", True)


def test_a_job_is_found_by_its_id_its_run_or_its_beginning():
    newest_first = [job("demo-2", "demo"), job("demo-1", "demo"), job("other-1", "other"), job("raysubmit_x")]
    assert choose(newest_first, "demo-1").id == "demo-1"
    assert choose(newest_first, "demo").id == "demo-2"
    assert choose(newest_first, "ray").id == "raysubmit_x"
    with pytest.raises(LookupError, match="de begins the ids of demo-2, demo-1"):
        choose(newest_first, "de")
    with pytest.raises(LookupError, match="no job absent"):
        choose(newest_first, "absent")


class Flaky:
    """A client whose connection breaks in the middle of a log, and at times goes silent."""

    def __init__(self):
        self.connections = [
            ["one\n", "two\n", aiohttp.ClientError()],
            ["one\ntwo\nth", None],
            ["one\ntwo\nthree\n"],
        ]

    async def tail_job_logs(self, job_id):
        for piece in self.connections.pop(0):
            if piece is None:
                await asyncio.sleep(60)
            if isinstance(piece, Exception):
                raise piece
            yield piece


def test_a_log_is_followed_past_lost_connections_and_shown_once(monkeypatch):
    monkeypatch.setattr(cluster.jobs, "SILENCE_SECONDS", 0.1)
    jobs, client, pieces = Jobs.__new__(Jobs), Flaky(), []
    jobs._client = client
    jobs.look = lambda job_id: job(job_id, state="RUNNING" if client.connections else "SUCCEEDED")
    assert jobs.follow("demo-1", pieces.append).state == "SUCCEEDED"
    assert "".join(pieces) == "one\ntwo\nthree\n"


def test_ctrl_c_leaves_the_job_running_and_says_how_to_look_again(capsys):
    class Interrupted:
        address = "http://host:8265"

        def follow(self, job_id, show):
            raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as left:
        _follow(Interrupted(), "demo-1")
    assert left.value.exit_code == 130
    assert capsys.readouterr().err == (
        "The job goes on. Look again: python -m cluster logs -f demo-1 --address http://host:8265\n"
    )


@pytest.mark.parametrize(
    ("state", "exit_code", "last", "told"),
    [
        ("FAILED", 1, "error: no data set", "failed with exit code 1: no data set"),
        ("STOPPED", None, "Stopped after step 5 of 9", "stopped: Stopped after step 5 of 9"),
        (
            "STOPPED",
            None,
            "Starting Ray.",
            "stopped, without word of a checkpoint; its last line: Starting Ray.",
        ),
    ],
)
def test_the_end_of_a_job_is_told_as_it_was(state, exit_code, last, told):
    ended = Job("demo-1", "demo", state, None, None, exit_code, "", True)
    assert _end(ended, last) == told


def test_a_cluster_that_is_too_small_is_told():
    scaling = load(DEMO, {"scaling.workers": 4, "scaling.threads": 2}).scaling
    needs = {"CPU": scaling.cpus, "GPU": scaling.gpus}
    notes = []
    handler = NoteHandler(notes.append)
    try:
        _tell_what_is_missing({"CPU": 8.0}, needs)
        assert notes == []
        _tell_what_is_missing({"CPU": 2.0}, needs)
    finally:
        handler.close()
    assert [note.text for note in notes] == [
        "The cluster has 2 of the 8 CPUs that scaling asks for: waiting until it grows."
    ]
