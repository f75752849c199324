"""One run on 2, then 1, then 2 workers, against 2 workers all the way: the same images at the same steps, one curve.

    python -m benchmarks.workers_changed --picture docs/workers.png      # 5 minutes of two cores

The run of cluster/configs/demo.yaml, shortened, is stopped twice by SIGTERM and resumed with another
`scaling.workers`. Fails if the samples of any step differ from those of the undisturbed run.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cluster.checkpoints import Checkpoints
from cluster.run_folder import RunFolder

CONFIG = Path("cluster/configs/demo.yaml")
SHORT = ("train.log_every=1", "train.checkpoint_every=5", "train.preview_every=0", "train.evaluate_every=0")
SMOOTH = 10
"""Steps that a point of the picture is the mean of."""
Rows = list[dict[str, Any]]


def start(storage: Path, steps: int, workers: int) -> subprocess.Popen[bytes]:
    """`python -m cluster train`, quietly."""
    words = (f"run.storage={storage}", f"train.steps={steps}", f"scaling.workers={workers}", *SHORT)
    command = [sys.executable, "-m", "cluster", "train", str(CONFIG), *words]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def train(storage: Path, steps: int, plan: list[tuple[int, int]]) -> Rows:
    """The rows of a run with so many workers up to so many steps: ``plan`` = [(workers, until step), …]."""
    folder = RunFolder(str(storage), "demo")
    for workers, until in plan:
        process = start(storage, steps, workers)
        try:
            while until < steps and max(Checkpoints(folder).steps(), default=0) < until:
                time.sleep(0.1)
                if process.poll() is not None:
                    raise SystemExit(f"the run ended before step {until}")
            if until < steps:
                process.send_signal(signal.SIGTERM)
            process.wait()
        finally:
            process.kill()
    rows: Rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return rows


def draw(path: Path, changed: Rows, undisturbed: Rows) -> None:
    """Reconstruction over the steps, a running mean, and the number of workers below."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    for rows, label, color in ((undisturbed, "2 workers", "C7"), (changed, "2, then 1, then 2", "C0")):
        losses = np.convolve([row["reconstruction"] for row in rows], np.full(SMOOTH, 1 / SMOOTH), "valid")
        above.plot([row["step"] for row in rows][SMOOTH - 1 :], losses, color=color, label=label)
    above.set(ylabel="reconstruction, L1", ylim=(0, None))
    above.legend()
    steps, workers = [r["step"] for r in changed], [len(r["workers"]) for r in changed]
    below.step(steps, workers, where="pre", color="C0")
    below.set(xlabel="step", ylabel="workers", yticks=[1, 2], ylim=(0.5, 2.5))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run both and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--picture", type=Path, required=True)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        thirds = words.steps // 3
        plan = [(2, thirds), (1, 2 * thirds), (2, words.steps)]
        undisturbed = train(Path(folder, "undisturbed"), words.steps, [(2, words.steps)])
        changed = train(Path(folder, "changed"), words.steps, plan)
    samples, others = ([(row["step"], row["samples"]) for row in rows] for rows in (changed, undisturbed))
    if samples != others:
        raise SystemExit("the runs have not shown the same samples at the same steps")
    print(f"the same samples at each of {len(samples)} steps")
    draw(words.picture, changed, undisturbed)


if __name__ == "__main__":
    main()
