"""The digits demo without each of its parts, and with other sizes of batch.

    python -m data_shards sample digits data/digits
    python -m benchmarks.digits_ablation --keep runs/ablation --out benchmarks/results/digits_ablation.md
    python -m benchmarks.digits_ablation --variants mixture --seeds 0 --batches --images 4800    # one run, a quick look

All 22 runs are about 90 minutes of CPU, on two cores; extrapolated from shorter ones: a run of the first table takes
190 s (fp32 280 s), of the second 430 s in batches of 2, 230 s of 8 and 180 s of 32, then 15 s to measure it; each
process, a minute to train the judges. With `--keep FOLDER` a killed script goes on: what is finished is not run again,
and what is not starts from its last checkpoint. `--pictures docs` draws what each table's runs make of a few images.

Each row is `cluster/configs/demo.yaml` with a few overrides; each run has one process and one thread. All see the same
number of images: a batch of b takes 16/b times the steps of the demo's batch of 16, so a large one has few steps.
Schedules stretch to the length of a run, and so does the span of the averaged weights (in the demo 0.998 a step over
2,200 steps). Nothing else follows the batch, the learning rate for one does not. bf16, but for the row that says fp32.

Figures are those of `python -m cluster evaluate` of the 500 test images of each domain, mean ± standard deviation over
seeds. A seed draws weights, batches and noise; the judges and the draws of the evaluation are the same for all runs.
Distances are of two translations of one image: "between" by two components, "within" by one, "overall" by any two
draws, which is what the single Gaussian has as well. I(x; y), H of the most probable component and its NMI with the
digit (0 is right: style, not content) are of real test images of the target. Digits carry no labels of style: which
component a translation shows is for the encoder to say. Read "label kept" beside KID: it is high on flat backgrounds.
"""

import argparse
import json
import platform
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch

from benchmarks import runs
from benchmarks.comparison import SHOWN, Result, measure, styles, table
from cluster.config import Experiment, load
from cluster.evaluation.images import read
from cluster.evaluation.measure import Domain, Options, prepare
from cluster.evaluation.network import Network, build
from cluster.run_folder import RunFolder, write_atomically
from gmvae_drit.config import GmvaeDritSettings
from gmvae_drit.images import save_png
from gmvae_drit.sheets import captioned

DEMO = Path(__file__).parents[1] / "cluster" / "configs" / "demo.yaml"
RECIPE, SINGLE = "mixture", "single Gaussian"
VARIANTS: dict[str, dict[str, object]] = {
    SINGLE: {"model.kind": "drit"},
    "mixture without usage": {"model.loss.usage": 0},
    RECIPE: {},
    "mixture and mode seeking": {"model.loss.mode_seeking": 1},
    "mixture, TTUR double_gen_enc": {"model.optimizer.ttur": "double_gen_enc"},
    "mixture, TTUR half_discr": {"model.optimizer.ttur": "half_discr"},
    "mixture, TTUR 4": {"model.optimizer.ttur": 4},
    "mixture, fp32": {"train.precision": "fp32"},
}
BATCH = 16
IMAGES = 16000
DOMAINS = ("mnist", "mnist-m")
OPTIONS = Options(temperature=1.0, samples=3, seed=0)


@dataclass(frozen=True)
class Job:
    """One run."""

    variant: str
    batch: int
    seed: int


@dataclass(frozen=True)
class Setting:
    """What all runs share."""

    storage: Path
    data: str
    images: int
    """Training images that a run sees, of both domains together."""
    test_images: int
    """Of each domain, at most."""


def experiment_of(job: Job, setting: Setting) -> Experiment:
    """The demo, with the length that all runs share and what the job changes."""
    demo, steps = load(DEMO), setting.images // job.batch
    assert isinstance(demo.model, GmvaeDritSettings)
    words = f"{job.variant} batch {job.batch} images {setting.images} seed {job.seed}".replace(",", "")
    common: dict[str, object] = {
        "run.name": words.replace(" ", "-"),
        "run.storage": str(setting.storage.absolute()),
        "run.seed": job.seed,
        "data.uri": setting.data,
        "data.global_batch": job.batch,
        "model.ema_decay": demo.model.ema_decay ** (demo.train.steps / steps),
        "scaling.workers": 1,
        "train.steps": steps,
        "train.precision": "bf16",
        "train.preview_every": 0,
        "train.keep_checkpoints": 1,
    }
    return runs.configure(DEMO, common | VARIANTS[job.variant])


def run(job: Job, setting: Setting) -> Result:
    """Train and measure, or read what was measured."""
    experiment = experiment_of(job, setting)
    translator, seconds = runs.train(experiment)
    folder = RunFolder(experiment.run.storage, experiment.run.name).root
    file = folder / f"figures-{setting.test_images}.json"
    if not file.exists():
        figures = measure(translator, domains_of(setting.data, setting.test_images), OPTIONS)
        write_atomically(file, lambda out: out.write(json.dumps(figures, indent=1).encode()))
    return Result(job.seed, seconds, json.loads(file.read_text()))


@cache
def domains_of(data: str, test_images: int) -> list[Domain]:
    """Both domains with their judges, who cost a minute: once for each process."""
    torch.set_num_threads(1)
    seeing, domains = build(Network.EFFICIENTNET_LITE0, 32, None), []
    for index, name in enumerate(DOMAINS):
        train, test = read(data, "train", name, None, None), read(data, "test", name, test_images, None)
        domains.append(prepare(name, index, test, train, seeing, OPTIONS.seed))
    return domains


def run_all(jobs: Sequence[Job], setting: Setting, processes: int) -> dict[Job, Result]:
    """Every job; each is shown as it comes."""
    results = {}
    for job, result in runs.as_done(partial(run, setting=setting), jobs, processes):
        results[job] = result
        kept = [of["label kept, by prior"] for of in result.figures.values() if "cycle, L1" in of]
        print(
            f"{len(results)} of {len(jobs)}: {job.variant}, batch {job.batch}, seed {job.seed}: "
            f"label kept {' and '.join(f'{share:.3f}' for share in kept)}, {result.seconds:.0f} CPU s",
            flush=True,
        )
    return results


def by_row(results: Mapping[Job, Result], rows: Mapping[str, tuple[str, int]]) -> dict[str, list[Result]]:
    """Results of each row's variant and batch, in the order of their seeds; rows without any are left out."""
    found = {
        name: [
            results[job]
            for job in sorted(results, key=lambda job: job.seed)
            if (job.variant, job.batch) == row
        ]
        for name, row in rows.items()
    }
    return {name: of_row for name, of_row in found.items() if of_row}


def tables(rows: Mapping[str, Sequence[Result]]) -> str:
    """One for each direction."""
    if not rows:
        return ""
    a, b = DOMAINS
    return "\n\n".join(f"{x} to {y}:\n\n{table(rows, x, y)}" for x, y in ((a, b), (b, a)))


def picture(path: Path, rows: Mapping[str, tuple[str, int]], jobs: Sequence[Job], setting: Setting) -> None:
    """A line for each row: what its run of the first seed makes of the first test images."""
    images = {name: read(setting.data, "test", name, SHOWN, None).pixels for name in DOMAINS}
    lines = []
    for name, row in rows.items():
        seeds = [job for job in jobs if (job.variant, job.batch) == row]
        if seeds:
            translator, _ = runs.train(experiment_of(min(seeds, key=lambda job: job.seed), setting))
            torch.manual_seed(OPTIONS.seed)
            lines.append((name, styles(translator, images)))
    save_png(path, captioned(lines))


def report(ablation: str, batches: str, setting: Setting) -> str:
    """The results file; a table without rows is left out."""
    head = f"""# The digits demo, part by part and batch by batch

`python -m benchmarks.digits_ablation {shlex.join(sys.argv[1:])}`

`cluster/configs/demo.yaml` cut to {setting.images:,} training images ({setting.images // BATCH:,} steps of {BATCH}; the
demo: 35,200), one thread; up to {setting.test_images} test images of each domain. Mean ± standard deviation over
seeds. With a single Gaussian "between", I(x; y) and H are 0 by definition. What is measured and what the rows share:
see the head of `benchmarks/digits_ablation.py`. torch {torch.__version__}, {platform.machine()}."""
    titled = {"## Each part": ablation, "## Images in a batch, at equal images seen": batches}
    parts = [part for title, text in titled.items() if text for part in (title, text)]
    return "\n\n".join([head, *parts]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--variants",
        nargs="*",
        default=list(VARIANTS),
        choices=VARIANTS,
        help="rows of the first table [all]",
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1], help="of the first table [0 1]")
    parser.add_argument(
        "--batches", type=int, nargs="*", default=[2, 8, 32], help="of the second table [2 8 32]"
    )
    parser.add_argument(
        "--batch-variants", nargs="*", default=[RECIPE, SINGLE], choices=VARIANTS, help="its rows [these two]"
    )
    parser.add_argument("--batch-seeds", type=int, nargs="*", default=[0], help="of the second table [0]")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"training images of a run [{IMAGES}]")
    parser.add_argument("--test-images", type=int, default=500, help="of each domain [500]")
    parser.add_argument("--data", default="data/digits", help="the digits [data/digits]")
    parser.add_argument("--processes", type=int, default=2, help="runs side by side [2]")
    parser.add_argument("--keep", type=Path, help="folder of runs, where they go on and are not run again")
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each table")
    arguments = parser.parse_args()

    first = {variant: (variant, BATCH) for variant in arguments.variants}
    batches = sorted({*arguments.batches, BATCH}) if arguments.batches else []
    second = {f"{v}, batch {batch}": (v, batch) for v in arguments.batch_variants for batch in batches}
    jobs = {Job(*row, seed) for row in first.values() for seed in arguments.seeds}
    jobs |= {Job(*row, seed) for row in second.values() for seed in arguments.batch_seeds}
    longest_first = sorted(jobs, key=lambda job: (job.batch, job.seed, list(VARIANTS).index(job.variant)))

    with tempfile.TemporaryDirectory() as temporary:
        storage = arguments.keep or Path(temporary)
        setting = Setting(storage, arguments.data, arguments.images, arguments.test_images)
        results = run_all(longest_first, setting, arguments.processes)
        text = report(tables(by_row(results, first)), tables(by_row(results, second)), setting)
        print(text)
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(text)
        if arguments.pictures:
            for name, rows in (("digits_ablation.png", first), ("digits_batches.png", second)):
                if rows:
                    picture(arguments.pictures / name, rows, longest_first, setting)


if __name__ == "__main__":
    main()
