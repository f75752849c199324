"""Tables and pictures of runs that are compared: what `benchmarks.digits_ablation` writes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gmvae_mnist import spread
from cluster.evaluation.measure import Domain, Options, directions, measure_direction, measure_domain
from gmvae_drit import metrics
from gmvae_drit.images import to_unit
from gmvae_drit.translator import Translator

SHOWN, DRAWS = 2, 4
"""In a picture: sources of each direction, and translations of each."""
JUDGE, NETWORK = "classifier of real images", "efficientnet-lite0@128"

OF_DIRECTION = {
    "label kept by prior": "label kept, by prior",
    "by reference": "label kept, by reference",
    "KID, judge": f"KID, {JUDGE}",
    "KID, EfficientNet": f"KID, {NETWORK}",
    "distance overall": "distance overall, pixels",
    "between": "distance between components, pixels",
    "within": "distance within a component, pixels",
    "component recovered": "component recovered by the encoder",
}
"""Figures of a direction, by their column."""
OF_TARGET = {
    "I(x; y) / log K": "components, information",
    "H(argmax) / log K": "components, entropy of argmax",
    "NMI with the digit": "NMI, component and label",
}
"""Figures of the real test images of its target."""
OF_REAL = {
    "label kept by prior": "label recognised, real images",
    "KID, judge": f"KID of real images, {JUDGE}",
    "KID, EfficientNet": f"KID of real images, {NETWORK}",
}
"""What a perfect translator would get."""

Figures = Mapping[str, Mapping[str, float]]
"""Figures of each domain and of each direction, by their names."""


@dataclass(frozen=True)
class Result:
    """What came of one run."""

    seed: int
    seconds: float
    """CPU time of the training."""
    figures: Figures


def measure(translator: Translator, domains: Sequence[Domain], options: Options) -> Figures:
    """The figures of `python -m cluster evaluate`, without perceptual distances."""
    torch.manual_seed(options.seed)
    figures = {domain.name: measure_domain(translator, domain, options)[0] for domain in domains}
    for name, (source, target) in directions(domains).items():
        figures[name] = measure_direction(translator, source, target, [metrics.PixelDistance()], options)
    return {name: {key: figure.value for key, figure in of.items()} for name, of in figures.items()}


def table(rows: Mapping[str, Sequence[Result]], source: str, target: str) -> str:
    """Markdown: the translations from `source` to `target`, mean ± standard deviation over the results of a row."""
    columns = ["", "seeds", *OF_DIRECTION, *OF_TARGET, "CPU s"]
    direction = f"{source} to {target}"
    lines = [[name, *_cells(results, direction, target)] for name, results in rows.items()]
    judged = next(iter(rows.values()))[0].figures[target]
    real = [f"{judged[OF_REAL[name]]:.3f}" if OF_REAL.get(name) in judged else "" for name in columns[2:]]
    lines.append(["*real images*", "", *real])
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, ["---"] * len(columns), *lines])


def _cells(results: Sequence[Result], direction: str, target: str) -> Iterable[str]:
    yield ", ".join(str(result.seed) for result in results)
    for section, keys in ((direction, OF_DIRECTION), (target, OF_TARGET)):
        for key in keys.values():
            values = [r.figures[section][key] for r in results if key in r.figures[section]]
            yield spread(values, 3) if values else "-"
    yield spread([result.seconds for result in results], 0)


@torch.inference_mode()
def styles(translator: Translator, images: Mapping[str, Tensor]) -> Tensor:
    """One row of a picture: for each direction the first `SHOWN` sources, each before its translations by the same
    `DRAWS` prior draws, of the components in turn.

    `images` are those of each domain, (n, 3, H, W) uint8, in the order of the model's; (columns, 3, H, W) in [-1, 1].
    """
    cells = []
    for source, image in images.items():
        for index, target in enumerate(images):
            if source == target:
                continue
            domain = torch.full((DRAWS,), index)
            z = translator.prior.sample(domain, metrics.components_in_turn(translator, DRAWS))
            for x in to_unit(image[:SHOWN]):
                cells += [x[None], translator.translate(x.expand(DRAWS, -1, -1, -1), z, domain)]
    return torch.cat(cells)
