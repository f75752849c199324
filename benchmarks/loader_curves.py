"""Images per second of this loader by the size of its GETs and by how much it reads ahead, at a latency of 40 ms.

`python -m benchmarks.loader --curves` calls it. Requests to the S3 server on loopback pass a proxy that delays each
(`tests/s3/proxy.py`). Every point is a process of its own; rounds go over all points in turn.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.loader_contestants import Measurement
from tests.s3.server import free_ports

LATENCY = 0.04  # seconds
CHUNKS = (8, 16, 32, 64, 128, 256)  # images
READ_AHEAD = (1, 4, 16, 64)  # MiB
WINDOW = 128  # images of a lane that are shuffled among themselves; as by default
FIGURE = Path("docs/loader_curves.png")

Run = Callable[..., str]
Point = tuple[int, int]


def curves(run: Run, folder: Path, server: str, rounds: int, seconds: float) -> tuple[str, str]:
    """Measure all points, draw `FIGURE`; Markdown of the table and what it shows."""
    rates: dict[Point, list[float]] = {(chunk, ahead): [] for chunk in CHUNKS for ahead in READ_AHEAD}
    ceilings: list[float] = []
    with slow_proxy(server):
        for number in range(rounds):
            words = "--seconds", str(seconds)
            ceilings.append(measured(run("decoding-threads", folder, *words)))
            for point, seen in rates.items():
                seen.append(
                    measured(run("curve", folder, *words, "--settings", json.dumps(settings(*point))))
                )
                print(f"{number + 1}/{rounds} {point}: {seen[-1]:.0f}", file=sys.stderr, flush=True)
    ceiling = statistics.median(ceilings)
    draw(rates, ceiling)
    return table(rates), f"{ceiling:.0f}"


def settings(chunk: int, read_ahead: int) -> dict[str, int]:
    """Of the data, for one point."""
    return {"chunk": chunk, "window": max(1, WINDOW // chunk), "read_ahead_mib": read_ahead}


def measured(said: str) -> float:
    """Images per second."""
    return Measurement(**json.loads(said)).images_per_second


@contextmanager
def slow_proxy(server: str) -> Iterator[None]:
    """Between boto3 and the server, for processes started from here."""
    (port,) = free_ports(1)
    command = [sys.executable, "tests/s3/proxy.py", server, "--port", str(port), "--latency", str(LATENCY)]
    direct = os.environ["AWS_ENDPOINT_URL_S3"]
    process = subprocess.Popen(command)
    try:
        wait_for(port)
        os.environ["AWS_ENDPOINT_URL_S3"] = f"http://127.0.0.1:{port}"
        yield
    finally:
        os.environ["AWS_ENDPOINT_URL_S3"] = direct
        process.terminate()
        process.wait()


def wait_for(port: int) -> None:
    """Return when something listens there."""
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise RuntimeError("the proxy does not start")


def table(rates: Mapping[Point, Sequence[float]]) -> str:
    """Markdown: a row per size of GET, a column per read-ahead."""
    lines = [
        f"| images per GET | {' | '.join(f'{ahead} MiB ahead' for ahead in READ_AHEAD)} |",
        f"|---|{'---|' * len(READ_AHEAD)}",
    ]
    for chunk in CHUNKS:
        cells = [rates[chunk, ahead] for ahead in READ_AHEAD]
        texts = [f"{statistics.median(seen):.0f} ({min(seen):.0f} to {max(seen):.0f})" for seen in cells]
        lines.append(f"| {chunk} | {' | '.join(texts)} |")
    return "\n".join(lines)


def draw(rates: Mapping[Point, Sequence[float]], ceiling: float) -> None:
    """The table as curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for ahead in READ_AHEAD:
        middle = [statistics.median(rates[chunk, ahead]) for chunk in CHUNKS]
        axes.plot(CHUNKS, middle, marker="o", label=f"{ahead} MiB read ahead")
    axes.axhline(ceiling, color="grey", linestyle="--", label="decoding alone")
    axes.set_xscale("log", base=2)
    axes.set_xticks(CHUNKS, [str(chunk) for chunk in CHUNKS])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images per GET (data.chunk; 40 kB each)")
    axes.set_ylabel("images per second")
    axes.set_title(f"Streaming from S3 at {1000 * LATENCY:.0f} ms per request, 2 cores", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=110)
