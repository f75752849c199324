"""What the training system costs: Ray, workers, checkpoints, a start, a recovery, memory. On two cores.

    python -m data_shards sample digits data/digits
    python -m benchmarks.engine --out benchmarks/results/engine.md             # 40 minutes
    python -m benchmarks.engine --parts ray,times --rounds 1 --steps 96        # a quick look

Trains the demo (`cluster/configs/demo.yaml`) again and again, what is compared in turn within one run of this script.
The figures come from the rows that the runs write, and from /proc. On a machine that does other things as well, ratios
are what counts: a part of them is taken of each round, of runs that follow each other.
"""

import argparse
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.engine_speed import Place, checkpoints, ray_against_torchrun, workers
from benchmarks.engine_times import memory, times

PARTS: dict[str, tuple[str, Callable[[Place], str]]] = {
    "ray": ("Ray Train against the same loop under torchrun", ray_against_torchrun),
    "workers": ("Two workers against one", workers),
    "checkpoints": ("Checkpoints in the background", checkpoints),
    "times": ("Start and recovery", times),
    "memory": ("Memory of a worker", memory),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)} [all]")
    parser.add_argument("--rounds", type=int, default=4, help="runs of each kind [4]")
    parser.add_argument("--steps", type=int, default=250, help="steps of a run whose speed is measured [250]")
    parser.add_argument("--warm-up", type=int, default=50, help="steps of them that do not count [50]")
    parser.add_argument("--data", default="data/digits", help="URI of the demo's data [data/digits]")
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    arguments = parser.parse_args()
    names = arguments.parts.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"--parts: no such part: {', '.join(sorted(unknown))}")
    sections, loads = [], [os.getloadavg()[1]]
    with tempfile.TemporaryDirectory(prefix="gmvae-drit-benchmark-") as folder:
        for name in names:
            place = Place(
                Path(folder, name), arguments.data, arguments.rounds, arguments.steps, arguments.warm_up
            )
            title, part = PARTS[name]
            sections.append(f"## {title}\n\n{part(place)}\n")
            print(sections[-1], flush=True)
            loads.append(os.getloadavg()[1])
    report = f"""# Cost of the training system

`python -m benchmarks.engine {shlex.join(sys.argv[1:])}`

The demo, MNIST and MNIST-M at 32 px; {arguments.rounds} rounds, {arguments.steps} steps a run where speed is measured,
the first {arguments.warm_up} of them left out. {os.cpu_count()} cores, {platform.machine()}. Load of the machine (five
minutes), before and after each part, with the benchmark's own: {", ".join(f"{load:.1f}" for load in loads)}.

{chr(10).join(sections)}"""
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(report)


if __name__ == "__main__":
    main()
