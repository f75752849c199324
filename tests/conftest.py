"""An S3 server on loopback, for all rooms."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from .s3.proxy import FaultProxy
from .s3.server import S3Server

Faulty = Callable[..., FaultProxy]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running server. `s3` makes it the one that boto3 finds."""
    server = S3Server(tmp_path_factory.mktemp("s3") / "server")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with its keys and its endpoint in the environment of this process and those it starts."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def faulty(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """Puts a proxy between boto3 and the server: ``faulty(rate=0.1)``."""
    with ExitStack() as stack:

        def put_between(**options: Any) -> FaultProxy:
            proxy = stack.enter_context(FaultProxy(s3.address, **options))
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
            return proxy

        yield put_between
