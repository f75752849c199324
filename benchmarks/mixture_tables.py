"""The tables of `benchmarks.mixture_vs_gaussian`, and what they are measured against."""

import platform
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.comparison import Result
from benchmarks.gmvae_mnist import spread
from data_shards.modes import Spread, mode_images
from gmvae_drit import metrics

KINDS = {"mixture": "gmvae_drit", "single Gaussian": "drit"}
DOMAINS = ("plain", "striped")
MODES = 4
BEST = "gmm, full"
OWN = "NMI, component and mode"
CLUSTERING = {
    "component of the mixture": OWN,
    "afterwards: GMM, full covariances": "afterwards, gmm, full",
    "GMM, diagonal": "afterwards, gmm, diag",
    "k-means": "afterwards, k-means",
}
TRANSLATION = {
    "KID, EfficientNet": "KID, efficientnet-lite0@128",
    "shape kept, by prior": "label kept, by prior",
    "by reference": "label kept, by reference",
    "distance overall": "distance overall, pixels",
    "between": "distance between components, pixels",
    "within": "distance within a component, pixels",
    "mode shown": "NMI, component and mode shown",
}


@dataclass(frozen=True)
class Job:
    """One run."""

    spread: Spread
    kind: str
    """Of `KINDS`."""
    seed: int


def clusterings(train_nZ: Tensor, test_nZ: Tensor, mode_n: Tensor) -> dict[str, float]:
    """NMI of clusters fitted to codes, by method."""
    found = metrics.clusters_of_codes(test_nZ, MODES, 0, fitted_to=train_nZ)
    return {
        f"afterwards, {method}": metrics.normalized_mutual_information(
            metrics.contingency(cluster, mode_n, MODES, MODES)
        )
        for method, cluster in found.items()
    }


def planted(spread: Spread) -> dict[str, dict[str, float]]:
    """The same of the drawn colours themselves, by domain."""
    drawn: dict[tuple[str, str], list[tuple[list[float], int]]] = {}
    for image in mode_images(0, spread):
        drawn.setdefault((image.domain, image.split), []).append(
            (image.meta["attribute"][:6], image.meta["mode"])
        )
    figures = {}
    for name in DOMAINS:
        (train, _), (test, mode) = (
            [torch.tensor(column) for column in zip(*drawn[name, split], strict=True)]
            for split in ("train", "test")
        )
        figures[name] = clusterings(train, test, mode)
    return figures


def clustering_table(results: Mapping[Job, Result], spread_: Spread) -> str:
    """NMI of each kind in each domain: median, and every seed."""
    lines = [["", "domain", *CLUSTERING], ["---"] * (2 + len(CLUSTERING))]
    ceiling = planted(spread_)
    for name in DOMAINS:
        for kind in KINDS:
            of = [r.figures[name] for job, r in results.items() if (job.spread, job.kind) == (spread_, kind)]
            cells = [
                "-" if kind != "mixture" and key == OWN else seeds(of, key) for key in CLUSTERING.values()
            ]
            lines.append([kind, name, *cells])
        cells = ["-" if key == OWN else f"{ceiling[name][key]:.3f}" for key in CLUSTERING.values()]
        lines.append(["*planted colours*", name, *cells])
    return markdown(lines)


def seeds(figures: Sequence[Mapping[str, float]], key: str) -> str:
    """Median and all values."""
    values = [of[key] for of in figures]
    return f"**{statistics.median(values):.3f}** ({', '.join(f'{value:.3f}' for value in values)})"


def translation_table(results: Mapping[Job, Result], spread_: Spread) -> str:
    """Figures of the translations of each kind in each direction: mean ± deviation over seeds."""
    lines = [["", "direction", *TRANSLATION, "CPU s"], ["---"] * (3 + len(TRANSLATION))]
    for a, b in (DOMAINS, DOMAINS[::-1]):
        way = f"{a} to {b}"
        for kind in KINDS:
            of = [r for job, r in results.items() if (job.spread, job.kind) == (spread_, kind)]
            cells = [
                spread([r.figures[way][key] for r in of], 3) if key in of[0].figures[way] else "-"
                for key in TRANSLATION.values()
            ]
            lines.append([kind, way, *cells, spread([r.seconds for r in of], 0)])
        real = next(iter(results.values())).figures[b]
        cells = [
            f"{real[key]:.3f}" if key in real else ""
            for key in ("KID of real images, efficientnet-lite0@128", "label recognised, real images")
        ]
        lines.append(["*real images*", b, *cells, *[""] * (len(TRANSLATION) - 1)])
    return markdown(lines)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(results: Mapping[Job, Result]) -> str:
    """The results file."""
    parts = [
        f"""# A mixture trained end to end against a single Gaussian, on planted modes

`python -m benchmarks.mixture_vs_gaussian {shlex.join(sys.argv[1:])}`

`cluster/configs/modes.yaml`, one thread, bf16, seeds {", ".join(map(str, sorted({job.seed for job in results})))}.
What is measured: see the head of `benchmarks/mixture_vs_gaussian.py`.
torch {torch.__version__}, {platform.machine()}."""
    ]
    for spread_ in dict.fromkeys(job.spread for job in results):
        parts += [
            f"## `{spread_}`: NMI with the planted mode, median (each seed)",
            clustering_table(results, spread_),
            f"## `{spread_}`: translations, mean ± standard deviation over seeds",
            translation_table(results, spread_),
        ]
    return "\n\n".join(parts) + "\n"
