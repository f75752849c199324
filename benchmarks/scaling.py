"""How training at 216 px scales on paper to 8, 64 and 512 GPUs. None of it was measured on a GPU.

    python -m benchmarks.scaling --out benchmarks/results/scaling.md      # a minute, on any machine

The step is counted from the model itself (`benchmarks/scaling_step.py`), what is assumed of machines stands in
`benchmarks/scaling_costs.py`, the tables are made in `benchmarks/scaling_tables.py`. docs/scaling.md reads them.
"""

import argparse
import shlex
import sys
from pathlib import Path
from statistics import mean

import torch

from benchmarks import scaling_costs as costs
from benchmarks.scaling_costs import A100, H100, SLOW
from benchmarks.scaling_step import checkpoint_cost, count_step, jpeg_sizes
from benchmarks.scaling_tables import (
    MB,
    Plan,
    assumptions,
    computing,
    hosts,
    levers,
    networks,
    strong,
    traffic,
    weak,
)
from cluster.config import load

CONFIG = "cluster/configs/apple2orange.yaml"
CASES = ((H100, 2), (H100, 16), (A100, 16), (SLOW, 16))
LEVER_BATCH = 16


def report(command: str, plan: Plan) -> str:
    """The whole page."""
    two, chunk, log_every = plan.two, plan.experiment.data.chunk, plan.experiment.train.log_every
    kept = (plan.four.bytes_kept - two.bytes_kept) / 2e9
    size, upload = mean(plan.jpegs) / 1e3, plan.checkpoint_bytes / costs.UPLOAD
    every = plan.experiment.train.checkpoint_every
    saving = [plan.save / (plan.save + every * plan.step(batch, 8, H100).total) for batch in (2, 16)]
    cases = [f"### {m.name}, {batch} images per GPU\n\n{weak(plan, batch, m)}" for m, batch in CASES]
    return f"""# Scaling, on paper

`python -m benchmarks.scaling {command}`

**Nothing here was measured on a GPU.** Counted from `{CONFIG}` by torch {torch.__version__} on shapes
alone: parameters, FLOPs, operators, bytes, buckets. The rest is arithmetic on the assumptions at the end.

## One step at 216 px

{two.flops / 2e12:.3f} TFLOP per image and step (forward and backward; matrix products and convolutions). About
{two.operators:,} operators per step whatever the batch, optimizers not counted. {kept:.2f} GB kept for the backward
pass per image. {two.scalars} figures to log, {4 * two.scalars} bytes every {log_every} steps.

{networks(plan)}

## Computing, one GPU

{computing(plan)}

## Traffic

Single all-reduces of the translator's gradient, ms: ring / tree / two levels. 16 bytes: one of the two of `mixture.py`.

{traffic(plan)}

## More GPUs, images per GPU fixed

{(2 * chr(10)).join(cases)}

## More GPUs, images per step fixed ({H100.name})

Step, efficiency against one GPU at its largest batch, minutes for {plan.images:,} images. Start-up and failures
are not counted.

{strong(plan, H100)}

## What buckets are worth: exposed all-reduces of gradients, ms, {LEVER_BATCH} images per GPU

{levers(plan, LEVER_BATCH)}

## Host and store

{len(plan.jpegs)} squares of scikit-learn's two photographs at 256 px, JPEG of quality 95: {size:.0f} kB
({min(plan.jpegs) / 1e3:.0f} to {max(plan.jpegs) / 1e3:.0f}). At {chunk} images per GET,
{costs.GETS_PER_PREFIX:,} GETs/s of one prefix are {costs.GETS_PER_PREFIX * chunk:,} images/s.

A checkpoint is {plan.checkpoint_bytes / MB:.0f} MB: serialising it took {plan.checkpoint_seconds:.1f} s here
(one thread, to memory), uploading it by one connection {upload:.1f} s. Saving every {every:,} steps, as configured,
would take {saving[0]:.1%} of the time on {H100.name} at 2 images per GPU and {saving[1]:.1%} at 16: all ranks wait.

{hosts(plan)}

## Assumptions

{assumptions()}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    experiment = load(CONFIG)
    two, four = (count_step(experiment.model, batch, experiment.data.crop or 256) for batch in (2, 4))
    text = report(
        shlex.join(sys.argv[1:]),
        Plan(experiment, two, four, *checkpoint_cost(experiment.model), jpeg_sizes()),
    )
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
