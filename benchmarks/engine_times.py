"""How long a start and a recovery take, part by part, and the memory of workers, for `benchmarks/engine.py`.

All from outside: files of the run, titles of its processes. Each round starts the demo under Ray, waits for its first
step, kills a worker after a checkpoint, and waits for the next step.
"""

import os
import signal
import time

from benchmarks.engine_runs import Run, under_ray
from benchmarks.engine_speed import ROW, Place
from benchmarks.engine_tables import Moments, table, times_table
from benchmarks.processes import about

SAVE = 10
"""Steps between checkpoints; a worker is killed a few steps after one."""
FIRST_LOOK, LAST_LOOK = 100, 1000
"""Steps at which memory is looked at."""
WORKERS = 2
EVERY_SAVE = 50
"""Steps between checkpoints, previews and evaluations while memory is looked at."""


def times(place: Place) -> str:
    """Part ``times``."""
    starts, recoveries = [], []
    for _ in range(place.rounds):
        settings = place.settings(WORKERS, steps=100_000, log_every=1, checkpoint_every=SAVE)
        with place.run(under_ray(settings)) as run:
            starts.append(start(run))
            run.wait_for_row(2 * SAVE + SAVE // 2)
            recoveries.append(recovery(run))
            run.stop()
    return (
        f"{WORKERS} workers of one thread.\n\nFrom `python -m cluster train` to the end of the first step:\n\n"
        + times_table(starts, "≤ 25")
        + "\n\nFrom SIGKILL of a worker to the end of the next step that is trained:\n\n"
        + times_table(recoveries, "≤ 20")
    )


def start(run: Run) -> Moments:
    """Moments until the end of the first step."""
    run.wait(lambda: any("ray::Relay" in title for title in run.processes().values()))
    ray = time.time()
    run.wait(lambda: len(run.workers()) == WORKERS)
    workers = time.time()
    run.wait(run.rows)
    return {
        "begin": run.began,
        "the driver has imported and checked": (run.folder / "config.yaml").stat().st_mtime,
        "Ray is up, with an actor of ours": ray,
        "Ray Train's controller has its workers": workers,
        "the workers have joined, read the data and built the model": _built(run),
        "the engine is ready": next(event["time"] for event in run.events() if event["kind"] == "start"),
        "the first step is done": run.rows()[0]["seconds"],
    }


def recovery(run: Run) -> Moments:
    """Kill a worker: moments until the end of the next step."""
    before = run.workers()
    killed = time.time()
    os.kill(before[-1], signal.SIGKILL)
    run.wait(lambda: len(set(run.workers()) - set(before)) == WORKERS)
    workers = time.time()
    run.wait(lambda: any(row["seconds"] > workers for row in run.rows()))
    events = {event["kind"]: event["time"] for event in run.events() if event["time"] > killed}
    return {
        "begin": killed,
        "Ray Train has noticed": events["lost"],
        "its controller has new workers": workers,
        "the workers have joined, read the data and built the model": _built(run),
        "the engine has the checkpoint": events["resume"],
        "a step is done": min(row["seconds"] for row in run.rows() if row["seconds"] > workers),
    }


def _built(run: Run) -> float:
    """When rank 0 was about to make its engine."""
    return (run.folder / "environment.json").stat().st_mtime


def memory(place: Place) -> str:
    """Part ``memory``."""
    looks = []
    settings = place.settings(WORKERS, steps=LAST_LOOK + ROW, log_every=50, checkpoint_every=EVERY_SAVE)
    settings |= {"train.evaluate_every": EVERY_SAVE, "train.preview_every": EVERY_SAVE}
    with place.run(under_ray(settings)) as run:
        for step in (FIRST_LOOK, LAST_LOOK):
            run.wait_for_row(step)
            row = next(row for row in run.rows() if row["step"] >= step)
            now = [_resident(pid) for pid in run.workers()]
            looks.append(([worker["memory_mib"] for worker in row["workers"]], now))
    lines = []
    for what, place_of in (("most so far", 0), ("at that moment", 1)):
        for number in range(WORKERS):
            first, last = (look[place_of][number] for look in looks)
            lines.append([f"worker {number}, {what}", f"{first:.0f}", f"{last:.0f}", f"{last - first:+.0f}"])
    return (
        f"Resident memory in MiB of {WORKERS} workers of one thread under Ray, with checkpoints, previews and "
        f"evaluations every {EVERY_SAVE} steps.\n\n"
        + table(["", f"step {FIRST_LOOK}", f"step {LAST_LOOK}", "difference"], lines)
    )


def _resident(pid: int) -> float:
    lines = about(pid, "status").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
