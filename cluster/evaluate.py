"""Measure a trained run on the test split of its data.

python -m cluster evaluate runs/demo

Content kept is judged by classifiers trained on real, labelled train images of each domain, so it is measured
only where the data carries labels. Everything is drawn from one seed.
"""

import itertools
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cluster.config import load
from cluster.errors import RunError
from cluster.run_folder import RunFolder, write_atomically
from data_shards.config import DataSettings
from data_shards.samples import read_split
from gmvae_drit import metrics
from gmvae_drit.classifier import Classifier, train_classifier
from gmvae_drit.export import load_export
from gmvae_drit.images import save_png, to_unit
from gmvae_drit.sheets import translation_sheet

SHEET_COLUMNS = 9


@dataclass(frozen=True)
class Images:
    """Images of one split of one domain."""

    image: Tensor
    """(n, 3, H, W) in [-1, 1]."""
    label: Tensor | None
    """(n,) int64, or None where a sample has none."""


@dataclass(frozen=True)
class Evaluation:
    """All that was measured, with the settings that decide it."""

    step: int
    """Training steps behind the weights."""
    temperature: float
    """Scale of the prior draws' deviation."""
    seed: int
    """Seed of the draws and of the judging classifiers."""
    domains: dict[str, dict[str, float]]
    """By domain: how its images use the components (`metrics.Usage`)."""
    distances: dict[str, dict[str, float]]
    """By direction and space, "source to target, pixels": `metrics.Distances`. The space "features", that of a judging
    classifier, is there only where images have labels."""
    content_kept: dict[str, dict[str, float]]
    """By direction: share of translations that a classifier of real target images gives the source's label, and of
    real target images that it gives their own; empty where images have no labels."""


def evaluate(folder: Path, limit: int, temperature: float, seed: int) -> Evaluation:
    """Measure the export in a run's folder and write `evaluation.json` and `translations.png` there.

    At most `limit` images of each domain are translated. Raises ClusterError, DataError or ModelError.
    """
    run = RunFolder(str(folder.parent), folder.name)
    if not run.config.exists():
        raise RunError(f"{folder}: not the folder of a run: it has no {run.config.name}")
    data = load(run.config).data
    translator, export = load_export(run.export)
    test = [_read(data, "test", domain, limit) for domain in export.domains]
    judges = _judges(data, export.domains, test, seed)

    torch.manual_seed(seed)
    distances: dict[str, dict[str, float]] = {}
    content_kept: dict[str, dict[str, float]] = {}
    sheets = []
    for source, target in itertools.permutations(range(len(export.domains)), 2):
        image, reference = test[source].image, test[target].image
        name = f"{export.domains[source]} to {export.domains[target]}"
        shown = min(SHEET_COLUMNS, len(image), len(reference))
        sheets.append(
            translation_sheet(translator, image[:shown], reference[:shown], target, name, temperature)
        )
        spaces: dict[str, metrics.PictureDistance] = {"pixels": metrics.PixelDistance()}
        if judges:
            seen = metrics.ClassifierFeatures("features", judges[target])
            spaces["features"] = metrics.PerceptualDistance(seen)
        for space, distance in spaces.items():
            d = metrics.component_distances(translator, image[:100], target, temperature, distance)
            distances[f"{name}, {space}"] = asdict(d)
        if judges:
            by_prior = metrics.translate_by_prior(translator, image, target, temperature)
            references = reference.repeat(-(-len(image) // len(reference)), 1, 1, 1)[: len(image)]
            by_reference = metrics.translate_by_reference(translator, image, references, target)
            content_kept[name] = {
                "by prior": _accuracy(judges[target], by_prior, test[source]),
                "by reference": _accuracy(judges[target], by_reference, test[source]),
                "real images": _accuracy(judges[target], reference, test[target]),
            }
    usage = {
        name: asdict(metrics.component_usage(translator, test[d].image, d))
        for d, name in enumerate(export.domains)
    }
    evaluation = Evaluation(export.step, temperature, seed, usage, distances, content_kept)
    save_png(folder / "translations.png", torch.cat(sheets, dim=1))
    text = json.dumps(asdict(evaluation), indent=1)
    write_atomically(folder / "evaluation.json", lambda file: file.write(text.encode()))
    return evaluation


def _accuracy(judge: Classifier, image: Tensor, origin: Images) -> float:
    assert origin.label is not None
    return metrics.accuracy(judge, image, origin.label)


def _read(data: DataSettings, split: str, domain: str, limit: int | None) -> Images:
    samples = list(read_split(data.uri, split, domain, limit, data.crop))
    if not samples:
        raise RunError(f"{data.uri}: domain {domain} has no {split} images to evaluate on")
    labels = [sample.meta.get("label") for sample in samples]
    known = [label for label in labels if isinstance(label, int)]
    image = to_unit(torch.stack([sample.image for sample in samples]))
    return Images(image, torch.tensor(known) if len(known) == len(labels) else None)


def _judges(data: DataSettings, domains: tuple[str, ...], test: list[Images], seed: int) -> list[Classifier]:
    """A classifier of each domain's real train images; none if any image is without a label."""
    if any(images.label is None for images in test):
        return []
    train = [_read(data, "train", domain, None) for domain in domains]
    return [train_classifier(t.image, t.label, seed) for t in train if t.label is not None]


def print_tables(folder: Path, evaluation: Evaluation) -> None:
    """Show an evaluation, below how the training itself went."""
    console = Console(soft_wrap=True, highlight=False)
    for line in _training_figures(folder / "metrics.jsonl"):
        console.print(line)
    if evaluation.content_kept:
        console.print(_table("Content kept, judged by classifiers of real images", evaluation.content_kept))
    console.print(
        _table(
            "Mean distance of two pictures of one content, between and within components",
            evaluation.distances,
        )
    )
    console.print(_table("Components used, as shares of log K", evaluation.domains))
    console.print(f"Pictures: {folder / 'translations.png'}")


def _table(title: str, rows: dict[str, dict[str, float]]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column(no_wrap=True)
    for column in next(iter(rows.values())):
        table.add_column(column, justify="right", no_wrap=True)
    for name, values in rows.items():
        table.add_row(name, *(f"{value:.3f}" for value in values.values()))
    return table


def _training_figures(metrics_log: Path) -> list[str]:
    """The last step, the median speed, and the last values of the losses, all from a run's log."""
    if not metrics_log.exists():
        return []
    log = [json.loads(line) for line in metrics_log.read_text().splitlines()]
    last, speed = log[-1], statistics.median(row["images_per_second"] for row in log)
    shown = ("discriminator", "adversarial", "reconstruction", "cycle", "kl")
    losses = " · ".join(f"{name} {last[name]:.3f}" for name in shown if name in last)
    return [f"{last['step']} steps · {speed:.3g} images/s · {losses}"]
