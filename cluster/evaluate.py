"""Measure a trained translator on the test split of its data.

python -m cluster evaluate runs/demo
python -m cluster evaluate runs/demo/export --data data/digits --features none

Content kept is judged by classifiers trained on real, labelled train images of each domain, so it is measured only
where the data carries labels. Everything is drawn from one seed.
"""

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

from cluster.config import load
from cluster.errors import RunError
from cluster.evaluation import pictures
from cluster.evaluation.images import read
from cluster.evaluation.measure import (
    Figures,
    Options,
    directions,
    measure_direction,
    measure_domain,
    prepare,
)
from cluster.evaluation.network import Network, build
from cluster.evaluation.tables import tables
from cluster.run_folder import PICTURES, RunFolder, write_atomically
from gmvae_drit import metrics
from gmvae_drit.export import WEIGHTS, load_export

RESULTS = ("evaluation.json", *PICTURES)


@dataclass(frozen=True)
class Evaluation:
    """All that was measured, with the settings that decide it. Keys of figures name the features behind them."""

    step: int
    """Training steps behind the weights."""
    data: str
    """URI of the data set."""
    options: Options
    domains: dict[str, Figures]
    """Of each domain's real test images."""
    directions: dict[str, Figures]
    """Of translations, "source to target"."""


@dataclass(frozen=True)
class Place:
    """What is evaluated: an export, the data, and where the results go."""

    export: Path
    folder: Path
    data: str
    crop: int | None


def working_copy(uri: str) -> RunFolder:
    """The folder of a run or of an export; of a run in a bucket, with a copy of what is needed of it.

    Raises DataError where the bucket cannot be read.
    """
    run = RunFolder.at(uri)
    run.fetch_all("config.yaml", "metrics.jsonl", "export/")
    return run


def locate(folder: Path, data: str | None) -> Place:
    """`folder` is that of a run, or an export, which needs `data`. Raises ClusterError."""
    if (folder / WEIGHTS).exists():
        if data is None:
            raise RunError(f"{folder}: an export does not know its data: give --data URI")
        return Place(folder, folder, data, None)
    run = RunFolder(str(folder.parent), folder.name)
    if not run.config.exists():
        raise RunError(
            f"{folder}: neither the folder of a run (no {run.config.name}) nor an export (no {WEIGHTS})"
        )
    trained_on = load(run.config).data
    return Place(run.export, folder, data or trained_on.uri, trained_on.crop)


def evaluate(
    folder: Path,
    data: str | None = None,
    network: Network = Network.EFFICIENTNET_LITE0,
    inception_weights: Path | None = None,
    limit: int = 500,
    samples: int = 3,
    temperature: float = 1.0,
    seed: int = 0,
) -> Evaluation:
    """Measure a run's export, or an export, and write `evaluation.json` and the pictures into `folder`.

    At most `limit` test images of each domain are translated, and as many train images are compared with. Raises
    ClusterError, DataError or ModelError.
    """
    place, options = locate(folder, data), Options(temperature, samples, seed)
    translator, export = load_export(place.export)
    seeing = build(network, export.image_size, inception_weights)
    domains = []
    for d, name in enumerate(export.domains):
        test = read(place.data, "test", name, limit, place.crop)
        # The judges need all labelled train images; without labels, only as many as there are test images are used.
        train = read(place.data, "train", name, None if test.labels else limit, place.crop)
        domains.append(prepare(name, d, test, train, seeing, seed))

    torch.manual_seed(seed)
    measured, codes, components = {}, [], []
    for domain in domains:
        measured[domain.name], z, y = measure_domain(translator, domain, options)
        codes.append(z)
        components.append(y)
    distances: list[metrics.PictureDistance] = [metrics.PixelDistance()]
    if seeing is not None:
        distances.append(metrics.PerceptualDistance(seeing))
    ways = directions(domains)
    translated = {
        name: measure_direction(translator, source, target, distances, options)
        for name, (source, target) in ways.items()
    }
    evaluation = Evaluation(export.step, place.data, options, measured, translated)
    text = json.dumps(asdict(evaluation, dict_factory=_without_none), indent=1)
    write_atomically(place.folder / "evaluation.json", lambda file: file.write(text.encode()))

    pictures.save_translations(place.folder / "translations.png", translator, ways, options)
    pictures.save_interpolations(place.folder / "interpolation.png", translator, ways)
    space = seeing or metrics.PixelFeatures()
    pictures.save_nearest(place.folder / "nearest.png", translator, ways, space, options)
    pictures.save_attributes(place.folder / "attributes.png", domains, codes, components)
    return evaluation


def _without_none(items: list[tuple[str, object]]) -> dict[str, object]:
    return {key: value for key, value in items if value is not None}


def print_tables(folder: Path, evaluation: Evaluation) -> None:
    """Show an evaluation, below how the training itself went."""
    console = Console(soft_wrap=True, highlight=False)
    for line in _training_figures(folder / "metrics.jsonl"):
        console.print(line)
    for table in tables("Translations of test images", evaluation.directions):
        console.print(table)
    for table in tables("Test images themselves, and what real images get", evaluation.domains):
        console.print(table)
    console.print("n: images, or images / real images compared with; ±: standard error.")
    console.print(f"Pictures in {folder}: {', '.join(PICTURES)}")


def _training_figures(metrics_log: Path) -> list[str]:
    """The last step, the median speed, and the last values of the losses, all from a run's log."""
    if not metrics_log.exists():
        return []
    log = [json.loads(line) for line in metrics_log.read_text().splitlines()]
    last, speed = log[-1], statistics.median(row["images_per_second"] for row in log)
    shown = ("discriminator", "adversarial", "reconstruction", "cycle", "kl")
    losses = " · ".join(f"{name} {last[name]:.3f}" for name in shown if name in last)
    return [f"{last['step']} steps · {speed:.3g} images/s · {losses}"]
