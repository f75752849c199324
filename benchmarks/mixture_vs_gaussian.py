"""Does a mixture trained end to end find planted modes, and does it translate better than a single Gaussian?

    python -m benchmarks.mixture_vs_gaussian --keep runs/mixture --out benchmarks/results/mixture_vs_gaussian.md
    python -m benchmarks.mixture_vs_gaussian --spreads wide --seeds 0       # a quick look: two runs

All 12 runs are about 65 minutes of CPU, on two cores. With `--keep FOLDER` a killed script goes on: what is finished is
not run again, and what is not starts from its last checkpoint. `--picture` draws what the components found look like.

Data: `python -m data_shards sample modes --size 32`. Shapes are the content; the colours of shape and background are
the attribute, drawn in each domain from a mixture of four Gaussians, well separated (`easy`) or overlapping (`wide`).
Each run is `cluster/configs/modes.yaml`, with the mixture as there or with `model.kind: drit`: the same networks,
losses, steps, batches and noise, one thread. Nothing that trains or selects sees a mode.

NMI of test images (500 of each domain) with the planted mode. Of the mixture: its own most probable component. The
yardstick, of both: clusters fitted afterwards to the codes of all 2,000 training images, and applied to the test
images; the best of ten starts by likelihood. "Planted colours" is what such a fit makes of the drawn colours
themselves, and so about as much as any method can get. KID, distances and the rest are those of
`python -m cluster evaluate`: "between" by two components, "within" by one, "overall" by any two draws, which the single
Gaussian has as well; "mode shown" is the NMI between the component drawn and the mode that a classifier of real images
sees in the translation.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import get_args

import torch

from benchmarks import runs
from benchmarks.comparison import Result, measure
from benchmarks.mixture_tables import BEST, DOMAINS, KINDS, MODES, OWN, Job, clusterings, report
from cluster.config import Experiment
from cluster.evaluation.images import Images, read
from cluster.evaluation.measure import Domain, Options, prepare
from cluster.evaluation.network import Network, build
from cluster.run_folder import RunFolder, write_atomically
from data_shards.build import BuildOptions
from data_shards.build import build as build_shards
from data_shards.modes import Spread, mode_images
from gmvae_drit.images import save_png
from gmvae_drit.sheets import captioned
from gmvae_drit.translator import Translator

MODES_YAML = Path(__file__).parents[1] / "cluster" / "configs" / "modes.yaml"
SIZE = 32
OPTIONS = Options(temperature=1.0, samples=3, seed=0)


@dataclass(frozen=True)
class Setting:
    """What all runs share."""

    storage: Path
    steps: int | None
    """None for those of the configuration."""
    test_images: int


def experiment_of(job: Job, setting: Setting) -> Experiment:
    """`modes.yaml` with what the job changes."""
    overrides: dict[str, object] = {
        "run.name": f"{job.spread} {job.kind} seed {job.seed}".replace(" ", "-"),
        "run.storage": str(setting.storage.absolute()),
        "run.seed": job.seed,
        "data.uri": str(data_of(job.spread, setting)),
        "model.kind": KINDS[job.kind],
        "train.precision": "bf16",
        "train.preview_every": 0,
        "train.keep_checkpoints": 1,
    }
    if setting.steps is not None:
        overrides["train.steps"] = setting.steps
    return runs.configure(MODES_YAML, overrides)


def run(job: Job, setting: Setting) -> Result:
    """Train and measure, or read what was measured."""
    experiment = experiment_of(job, setting)
    translator, seconds = runs.train(experiment)
    file = RunFolder(experiment.run.storage, experiment.run.name).root / f"figures-{setting.test_images}.json"
    if not file.exists():
        figures = dict(measure(translator, domains_of(job.spread, setting), OPTIONS))
        for name, of in agreements(translator, job.spread, setting).items():
            figures[name] = {**figures[name], **of}
        write_atomically(file, lambda out: out.write(json.dumps(figures, indent=1).encode()))
    return Result(job.seed, seconds, json.loads(file.read_text()))


@cache
def data_of(spread: Spread, setting: Setting) -> Path:
    """Where the data set is; built where it is not. To see that it is there, all images are drawn: once a process."""
    folder = setting.storage.absolute() / f"data-{spread}"
    build_shards(mode_images(0, spread, SIZE), folder, BuildOptions(encoding="png"))
    return folder


@cache
def domains_of(spread: Spread, setting: Setting) -> list[Domain]:
    """Both domains with their judges: once for each process and spread."""
    torch.set_num_threads(1)
    data, network = str(data_of(spread, setting)), build(Network.EFFICIENTNET_LITE0, SIZE, None)
    return [
        prepare(
            name,
            d,
            images(data, "test", name, setting),
            read(data, "train", name, None, None),
            network,
            OPTIONS.seed,
        )
        for d, name in enumerate(DOMAINS)
    ]


def images(data: str, split: str, domain: str, setting: Setting) -> Images:
    """A split of a domain, as much of it as is asked for of the test split."""
    return read(data, split, domain, setting.test_images if split == "test" else None, None)


@torch.inference_mode()
def agreements(translator: Translator, spread: Spread, setting: Setting) -> dict[str, dict[str, float]]:
    """NMI with the mode of clusters fitted to the codes of all training images, by domain and method."""
    data = str(data_of(spread, setting))
    figures = {}
    for d, name in enumerate(DOMAINS):
        train, test = (images(data, split, name, setting) for split in ("train", "test"))
        codes = [
            torch.cat([translator.attribute(x, torch.full((len(x),), d)).mode() for _, x in of.batches()])
            for of in (train, test)
        ]
        figures[name] = clusterings(codes[0], codes[1], test.labels["mode"])
    return figures


def run_all(jobs: Sequence[Job], setting: Setting, processes: int) -> dict[Job, Result]:
    """Every job; each is shown as it comes."""
    results = {}
    for job, result in runs.as_done(partial(run, setting=setting), jobs, processes):
        results[job] = result
        found = [
            f"{result.figures[name][key]:.3f}" for name in DOMAINS for key in (OWN, f"afterwards, {BEST}")
        ]
        print(
            f"{len(results)} of {len(jobs)}: {job}: NMI {', '.join(found)}, {result.seconds:.0f} CPU s",
            flush=True,
        )
    return results


def picture(path: Path, jobs: Sequence[Job], setting: Setting) -> None:
    """Of the first seed, in each spread and direction: two images, and their translations by two draws of each
    component (of the single Gaussian: by as many draws)."""
    rows = []
    for job in jobs:
        if job.seed != min(j.seed for j in jobs):
            continue
        translator, _ = runs.train(experiment_of(job, setting))
        for source, target in ((0, 1), (1, 0)):
            torch.manual_seed(OPTIONS.seed)
            domain = torch.full((2 * MODES,), target)
            y = torch.arange(2 * MODES) // 2 % translator.prior.components
            z = translator.prior.sample(domain, y, OPTIONS.temperature)
            for image in images(str(data_of(job.spread, setting)), "test", DOMAINS[source], setting).unit(2):
                drawn = translator.translate(image.expand(len(z), -1, -1, -1), z, domain)
                rows.append((f"{job.spread}, {job.kind}", torch.cat([image[None], drawn])))
    save_png(path, captioned(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--spreads", nargs="*", default=list(get_args(Spread)), choices=get_args(Spread))
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=[0, 1, 2], help="of weights and batches [0 1 2]"
    )
    parser.add_argument("--steps", type=int, help="of each run [those of the configuration]")
    parser.add_argument("--test-images", type=int, default=500, help="of each domain [500]")
    parser.add_argument("--processes", type=int, default=2, help="runs side by side [2]")
    parser.add_argument("--keep", type=Path, help="folder of runs, where they go on and are not run again")
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    parser.add_argument("--picture", type=Path, help="PNG of translations")
    arguments = parser.parse_args()
    jobs = [Job(s, kind, seed) for seed in arguments.seeds for s in arguments.spreads for kind in KINDS]
    with tempfile.TemporaryDirectory() as temporary:
        setting = Setting(arguments.keep or Path(temporary), arguments.steps, arguments.test_images)
        for spread_ in arguments.spreads:
            data_of(spread_, setting)  # before two processes would build it at once
        results = run_all(jobs, setting, arguments.processes)
        ordered = {job: results[job] for job in sorted(results, key=lambda job: (job.spread, job.seed))}
        text = report(ordered)
        print(text)
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(text)
        if arguments.picture:
            picture(arguments.picture, jobs, setting)


if __name__ == "__main__":
    main()
