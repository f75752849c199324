"""For all rooms: an S3 server on loopback, a small data set and an experiment that trains on it in seconds."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from .s3.proxy import FaultProxy
from .s3.server import S3Server

REPOSITORY = Path(__file__).parents[1]
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


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of two tints as a data set of 12 + 4 images per domain."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for domain, tint in (("A", 90), ("B", 160)):
            folder = root / "source" / f"{split}{domain}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = random.normal(tint, 40, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    words = [sys.executable, "-m", "data_shards", "build", str(root / "source"), str(root / "shards")]
    subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True)
    return root / "shards"


@pytest.fixture(scope="session")
def config(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten steps of small networks on `shards`, on two workers."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    small = {"width": 16, "residual_blocks": 1}
    content = {
        "run": {"name": "tiny", "seed": 5},
        "data": {"uri": str(shards), "global_batch": 16},
        "model": {
            "content": small,
            "attribute": {"width": 16, "downsamplings": 2},
            "generator": {"kind": "adain", "residual_blocks": 1},
            "discriminator": {"conditioning": "select", "width": 16, "downsamplings": 3},
            "content_discriminator": None,
        },
        "train": {
            "steps": 10,
            "precision": "fp32",
            "log_every": 2,
            "checkpoint_every": 5,
            "preview_every": 5,
            "evaluate_every": 5,
        },
        "scaling": {"workers": 2},
    }
    path.write_text(yaml.safe_dump(content))
    return path
