"""Speed of steps for `benchmarks/engine.py`: Ray against torchrun, two workers against one, what checkpoints cost.

What is compared runs in turn, round by round.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.engine_runs import Run, under_ray, under_torchrun
from benchmarks.engine_tables import against, images_side_by_side, step_seconds
from cluster.notes import Row
from tests.s3.server import BUCKET, S3Server

BATCH = 16
"""Images per step of the demo."""
ROW = 8
"""Steps of a row: R1 comes every eighth step, so all rows cost the same."""
NICE = ("nice", "-n", "15")
"""How Ray starts its workers."""
EVERY = 50
"""Steps between checkpoints."""


@dataclass
class Place:
    """Where to train, and how long."""

    folder: Path
    data: str
    rounds: int
    steps: int
    warm_up: int
    number: int = 0

    def settings(self, workers: int, batch: int = BATCH, **changes: object) -> dict[str, object]:
        """A run of its own: nothing but steps and rows unless ``changes`` (of ``train``) say so. It trains on after
        ``steps``, so that its end is not measured."""
        self.number += 1
        train = {"steps": self.steps + EVERY, "log_every": ROW, "preview_every": 0, "evaluate_every": 0}
        train |= {"checkpoint_every": self.steps + EVERY, **changes}  # type: ignore[dict-item]
        return {
            "data.uri": self.data,
            "data.global_batch": batch,
            "run.storage": self.folder,
            "run.name": f"run-{self.number}",
            "scaling.workers": workers,
            "scaling.threads": 1,
            **{f"train.{name}": value for name, value in train.items()},
        }

    def run(self, command: list[str]) -> Run:
        """The command that was made of the latest settings."""
        return Run(command, self.folder / f"run-{self.number}")


@dataclass
class Costs:
    """Milliseconds per step of what is compared, by name, run by run."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, place: Place, run: Run) -> None:
        """Watch a run from the end of its warm-up until it has made its steps."""
        run.wait_for_row(place.warm_up)
        first, used = run.rows()[-1]["step"], run.cpu()
        run.wait_for_row(place.steps)
        rows, used = run.rows(), run.cpu() - used
        self.wall.setdefault(name, []).append(1000 * step_seconds(rows, place.warm_up))
        self.cpu.setdefault(name, []).append(1000 * used / (rows[-1]["step"] - first))

    def tables(self, pairs: Mapping[str, tuple[str, str, str]]) -> str:
        """Both, with the aim for the time on the wall."""
        without_aim = {name: (*pair[:2], "") for name, pair in pairs.items()}
        return (
            f"{against('wall ms per step', self.wall, pairs, 1)}\n\n"
            "CPU time of all processes of the command (Ray's own with it), which the neighbours on a busy machine move "
            f"less:\n\n{against('CPU ms per step', self.cpu, without_aim, 1)}"
        )


def ray_against_torchrun(place: Place) -> str:
    """Part ``ray``."""
    commands = {"Ray Train": under_ray, "torchrun": lambda settings: [*NICE, *under_torchrun(settings)]}
    costs = Costs()
    for number in range(place.rounds):
        for name in list(commands)[:: 1 if number % 2 else -1]:
            with place.run(commands[name](place.settings(2))) as run:
                costs.add(name, place, run)
    return (
        "Two workers of one thread, batch 16, both sides with the niceness of Ray's workers.\n\n"
        + costs.tables({"Ray Train / torchrun": ("Ray Train", "torchrun", "≤ 1.03")})
    )


def workers(place: Place) -> str:
    """Part ``workers``."""
    cases = {
        "1 worker, batch 16": (1, 1, BATCH),
        "2 workers, batch 32": (1, 2, 2 * BATCH),
        "2 workers, batch 16": (1, 2, BATCH),
        "2 runs of 1 worker side by side, batch 16 each": (2, 1, BATCH),
        "2 runs of 1 worker side by side, batch 8 each": (2, 1, BATCH // 2),
    }
    images: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(place.rounds):
        for name, (runs, count, batch) in cases.items():
            images[name].append(images_side_by_side(_together(place, runs, count, batch), place.warm_up))
    one, weak, strong, ceiling_weak, ceiling_strong = cases
    pairs = {
        "same batch per worker: 2 workers / 1": (weak, one, "≥ 1.85"),
        "the most this machine gives: 2 runs that never talk / 1": (ceiling_weak, one, ""),
        "2 workers / 2 runs that never talk": (weak, ceiling_weak, ""),
        "same batch in all: 2 workers / 1": (strong, one, ""),
        "the most this machine gives: 2 runs of half the batch / 1": (ceiling_strong, one, ""),
        "2 workers / 2 runs of half the batch": (strong, ceiling_strong, ""),
    }
    return "One thread per worker, under torchrun. Median over the rows of a run.\n\n" + against(
        "images/s", images, pairs, 1
    )


def checkpoints(place: Place) -> str:
    """Part ``checkpoints``."""
    costs = Costs()
    with _s3(place.folder / "s3") as server:
        for number in range(place.rounds):
            cases = {
                "none": {},
                f"every {EVERY} steps, to a folder": {"checkpoint_every": EVERY},
                f"every {EVERY} steps, to S3 on this machine": {"checkpoint_every": EVERY},
            }
            for name in list(cases)[:: -1 if number % 2 else 1]:
                settings = place.settings(2, log_every=EVERY, **cases[name])
                run = place.run(under_torchrun(settings))
                if "S3" in name:
                    run = _on_s3(place, settings, server)
                with run:
                    costs.add(name, place, run)
    none, folder, s3 = cases
    return (
        "Two workers of one thread on two cores, under torchrun: nothing is idle that a thread in the background could "
        "use. The S3 server (SeaweedFS) shares the two cores; its CPU time is not counted.\n\n"
        + costs.tables({f"{name} / none": (name, none, "≤ 1.02") for name in (folder, s3)})
    )


def _together(place: Place, runs: int, count: int, batch: int) -> list[list[Row]]:
    """Rows of several runs at the same time, until the first of them is done."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(place.run(under_torchrun(place.settings(count, batch)))) for _ in range(runs)
        ]
        started[0].wait_for_row(place.steps)
        return [run.rows() for run in started]


def _on_s3(place: Place, settings: dict[str, object], server: S3Server) -> Run:
    """The run with its storage in a bucket, watched in its working copy on this machine."""
    temporary = place.folder / "copies"
    temporary.mkdir(exist_ok=True)
    copy = temporary / f"gmvae-drit-{os.getuid()}" / f"{BUCKET}--{settings['run.name']}"
    command = under_torchrun({**settings, "run.storage": f"s3://{BUCKET}"})
    return Run(command, copy, {**server.environment(), "TMPDIR": str(temporary)})


@contextmanager
def _s3(folder: Path) -> Iterator[S3Server]:
    folder.mkdir(parents=True, exist_ok=True)
    server = S3Server(folder / "server")
    server.start()
    try:
        yield server
    finally:
        server.stop()
