"""What a trial of a sweep costs beyond its training: in new worker processes, and in those of the trial before.

    python -m data_shards sample digits data/digits
    python -m benchmarks.sweep --out benchmarks/results/sweep.md        # ten minutes of two cores

Runs `python -m tune run` on the demo with networks a quarter as wide, one trial after another, on one worker and on two
in turn. The first trial of each sweep starts its workers, the others take those that are there. A trial lasts from the
end of the one before it (the first: from when it is given out) to its own end in the study; its training lasts from the
moment that the workers say they begin to the last row of metrics. The difference is what it costs.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import optuna
import yaml

from benchmarks.engine_tables import ratios, spread, table

AIM = 15
"""Seconds, on two cores."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=4, help="sweeps of each kind [4]")
    parser.add_argument("--trials", type=int, default=6, help="trials of a sweep [6]")
    parser.add_argument("--steps", type=int, default=30, help="steps of a trial [30]")
    parser.add_argument("--data", default="data/digits", help="URI of the demo's data [data/digits]")
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    arguments = parser.parse_args()
    costs: dict[tuple[int, str], list[float]] = {}
    begin = os.getloadavg()[1]
    with tempfile.TemporaryDirectory(prefix="gmvae-drit-benchmark-") as folder:
        for number in range(arguments.rounds):
            for workers in (1, 2):
                place = Path(folder, f"{workers}-{number}")
                run_sweep(place, arguments.data, workers, arguments.trials, arguments.steps)
                first, *others = costs_of(place)
                costs.setdefault((workers, "new"), []).append(first)
                costs.setdefault((workers, "kept"), []).append(sum(others) / len(others))
                print(f"{workers} workers: {first:.1f} s, then {others}", flush=True)
    report = f"""# Cost of a trial beyond its training

`python -m benchmarks.sweep {shlex.join(sys.argv[1:])}`

{arguments.rounds} sweeps each of {arguments.trials} trials, one at a time, {arguments.steps} steps a trial; of kept
workers the mean over a sweep's other trials. {os.cpu_count()} cores, {platform.machine()}. Load of the machine (five
minutes) before {begin:.1f}, after {os.getloadavg()[1]:.1f}. Starting Ray, once for a sweep, is not in it.

{tables(costs)}
"""
    print(report)
    if arguments.out:
        arguments.out.write_text(report)


def tables(costs: dict[tuple[int, str], list[float]]) -> str:
    """Markdown: seconds, and how kept workers compare with new ones."""
    own = [[_kind(*kind), spread(values, 1), f"{AIM} at most"] for kind, values in costs.items()]
    compared = [
        [_kind(workers, "kept / new"), spread(ratios(costs[workers, "kept"], costs[workers, "new"]))]
        for workers in (1, 2)
    ]
    return "\n\n".join(
        [
            table(["worker processes", "seconds a trial", "aim"], own),
            table(["ratio of a sweep", "median (min to max)"], compared),
        ]
    )


def _kind(workers: int, kind: str) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}, {kind}"


def run_sweep(place: Path, data: str, workers: int, trials: int, steps: int) -> None:
    """One sweep in the folder ``place``."""
    narrow = {f"model.{part}.width": 8 for part in ("content", "attribute", "discriminator")}
    content = {
        "sweep": {"name": "sweep", "storage": str(place)},
        "base": str(Path("cluster/configs/demo.yaml").absolute()),
        "fixed": {**narrow, "data.uri": data, "scaling.workers": workers, "train.evaluate_images": 16},
        "space": {"model.optimizer.learning_rate": {"loguniform": [1e-4, 1e-3]}},
        "objectives": [{"metric": "cycle", "goal": "min"}],
        "budget": {"trials": trials, "steps": steps},
        "concurrency": 1,
    }
    place.mkdir(parents=True)
    (place / "sweep.yaml").write_text(yaml.safe_dump(content))
    words = [sys.executable, "-m", "tune", "run", str(place / "sweep.yaml")]
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def costs_of(place: Path) -> Sequence[float]:
    """Seconds of each trial that were not training."""
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{place}/sweep/study.db")
    costs, before = [], None
    for trial in study.trials:
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        folder = place / "sweep" / "trials" / f"sweep-{trial.number:04}"
        events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        trained = rows[-1]["seconds"] - next(event["time"] for event in events if event["kind"] == "start")
        lasted = trial.datetime_complete - (before or trial.datetime_start)
        costs.append(round(lasted.total_seconds() - trained, 2))
        before = trial.datetime_complete
    return costs


if __name__ == "__main__":
    main()
