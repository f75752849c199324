"""How fast batches of photographs come: this loader against others and against decoding alone.

    python -m benchmarks.loader --out benchmarks/results/loader.md                       # 15 minutes
    python -m benchmarks.loader --curves --rounds 3 --seconds 3 --out benchmarks/results/loader_curves.md
    python -m benchmarks.loader --images 512 --rounds 1 --seconds 1                      # a quick look

Needs ``pip install -c constraints.txt -e '.[demo,dev,bench]'``. All contestants (`benchmarks/loader_contestants.py`)
read the same JPEGs (`benchmarks/loader_data.py`), each in a process of its own, in turn, round after round. S3 is
SeaweedFS on loopback, so that it takes CPU from the machine that it is measured on: there, CPU seconds of the client
say more than images per second. Files come from the page cache; the disk itself is not measured.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.loader_contestants import BUCKET, CEILINGS, STREAMS, Measurement
from benchmarks.loader_curves import FIGURE, LATENCY, curves
from benchmarks.loader_data import Data, make
from tests.s3.server import S3Server

PACKAGES = (
    "torch",
    "torchvision",
    "opencv-python-headless",
    "pillow",
    "webdataset",
    "mosaicml-streaming",
    "boto3",
)
LABELS = {
    "decoding-threads": "decoding alone, 2 threads (the ceiling)",
    "decoding-processes": "decoding alone, 2 processes",
    "ours": "this loader",
    "webdataset-cv2": "webdataset, cv2",
    "webdataset-pil": "webdataset, Pillow",
    "mosaic": "mosaicml-streaming",
    "imagefolder": "ImageFolder, Pillow",
}
CEILING = "decoding-threads"
Rounds = Mapping[str, Sequence[Measurement]]


def run(name: str, folder: Path, *words: str) -> str:
    """What one contestant prints, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.loader_contestants", name, str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return done.stdout


def measure(names: Sequence[str], folder: Path, rounds: int, seconds: float) -> Rounds:
    """All contestants in turn, ``rounds`` times."""
    results: dict[str, list[Measurement]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            result = Measurement(**json.loads(run(name, folder, "--seconds", str(seconds))))
            results[name].append(result)
            print(f"{number + 1}/{rounds} {name}: {result}", file=sys.stderr, flush=True)
    return results


def table(results: Rounds, place: str) -> str:
    """Markdown: the contestants that read from ``place``, ratios within each round."""
    mine = results[f"ours-{place}"]
    speed = ["images/s", "of the ceiling", "ours / this"]
    columns = ["loader", *speed, "CPU s per 1,000", "CPU: this / ours", "first batch, s", "memory, MiB"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for name in (*CEILINGS, *STREAMS):
        if name not in results or not (name in CEILINGS or name.endswith(f"-{place}")):
            continue
        own = results[name]
        streams = name in STREAMS
        cells = [
            LABELS[name.removesuffix(f"-{place}")],
            spread([one.images_per_second for one in own], "{:.0f}"),
            ratio(own, results[CEILING], rate),
            ratio(mine, own, rate),
            f"{statistics.median(one.cpu for one in own):.3f}",
            ratio(own, mine, lambda one: one.cpu),
            spread([one.first_batch for one in own], "{:.2f}") if streams else "",
            f"{statistics.median(one.memory for one in own):.0f}" if streams else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def rate(one: Measurement) -> float:
    """Images per second."""
    return one.images_per_second


def ratio(
    these: Sequence[Measurement], those: Sequence[Measurement], of: Callable[[Measurement], float]
) -> str:
    """Of neighbours in a round."""
    return spread([of(a) / of(b) for a, b in zip(these, those, strict=True)], "{:.2f}")


def spread(values: Sequence[float], form: str) -> str:
    """Median (min to max)."""
    middle, low, high = (form.format(f(values)) for f in (statistics.median, min, max))
    return f"{middle} ({low} to {high})"


@contextmanager
def server(folder: Path) -> Iterator[S3Server]:
    """S3 on loopback, which this process and those it starts find by their environment."""
    running = S3Server(folder)
    running.start()
    try:
        os.environ |= running.environment() | {"S3_ENDPOINT_URL": running.endpoint}
        yield running
    finally:
        running.stop()


def machine() -> str:
    """Versions and the kind of machine."""
    model = next(
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {platform.system()}; Python {platform.python_version()}, {versions}."


def compare(folder: Path, arguments: argparse.Namespace) -> str:
    """The first part."""
    results = measure([*CEILINGS, *STREAMS], folder, arguments.rounds, arguments.seconds)
    memory = json.loads(run("memory", folder, "--epochs", "8"))
    epochs = ", ".join(f"{value:.0f}" for value in memory[1:])
    return f"""# Batches of photographs, by loader

`{command()}`

{arguments.images} JPEGs of 256 x 256 pixels, 40 kB each, in two domains. Batches of 16 random crops of 216 pixels,
uint8, by two decoding threads or worker processes. {arguments.rounds} rounds of all contestants in turn, each in a
process of its own: {arguments.seconds:g} s in the steady state. Median (min to max) over the rounds; ratios are taken
within a round. CPU and memory are those of the loader and its workers together (memory: PSS in the steady state,
of which importing torch is most). First batch: from opening the data, modules imported.

## From disk (page cache)

{table(results, "disk")}

## From S3 (SeaweedFS on loopback, on the same cores)

webdataset reads presigned URLs with curl, as it does by itself. mosaicml-streaming is in its first epoch, with an
empty cache beside the index; later ones are those from disk.

{table(results, "s3")}

## Memory of this loader

Peak of its process, in MiB: {memory[0]:.0f} before it is made; by the end of epochs 1 to {len(memory) - 1}: {epochs}.

{machine()}
"""


def compare_reads(folder: Path, server: str, arguments: argparse.Namespace) -> str:
    """The second part."""
    cells, ceiling = curves(run, folder, server, arguments.rounds, arguments.seconds)
    return f"""# Size of GETs and read-ahead

`{command()}`

Images per second from S3 (SeaweedFS on loopback) behind a proxy that adds {1000 * LATENCY:.0f} ms to each request;
batches of 16 crops of 216 pixels from JPEGs of 40 kB, two decoding threads, 8 reading threads. Rows: `data.chunk`, with
`data.window` such that a lane shuffles 128 images (256 in the last row). Columns: `data.read_ahead_mib`.
Median (min to max) of {arguments.rounds} rounds. Server and proxy run on the same cores; decoding alone, nothing read,
gives {ceiling}.

{cells}

![the same as curves](../../{FIGURE})

{machine()}
"""


def command() -> str:
    """As it was given."""
    return f"python -m benchmarks.loader {shlex.join(sys.argv[1:])}".strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=4096, help="photographs [4096]")
    parser.add_argument("--rounds", type=int, default=5, help="of all contestants [5]")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured of each in a round [5]")
    parser.add_argument("--curves", action="store_true", help="size of GETs and read-ahead instead")
    parser.add_argument("--folder", type=Path, help="keep the data here [a temporary folder]")
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "photographs"
        os.environ["TMPDIR"] = temporary
        with server(Path(temporary) / "s3") as running:
            make(Data(folder, BUCKET), arguments.images)
            if arguments.curves:
                report = compare_reads(folder, running.address, arguments)
            else:
                report = compare(folder, arguments)
    print(report)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(report)


if __name__ == "__main__":
    main()
