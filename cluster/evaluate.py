"""Measure a trained run on the test split of its data.

python -m cluster evaluate runs/demo

Content kept is judged by classifiers trained on real, labelled train images of each domain, so it is measured only
where the data carries labels. Everything is drawn from one seed.
"""

import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
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

SHEET_COLUMNS = 12


@dataclass(frozen=True)
class Images:
    """Images of one split of one domain."""

    image: Tensor
    """(n, 3, H, W) in [-1, 1]."""
    label: Tensor | None
    """(n,) int64, or None where a sample has none."""


def evaluate(folder: Path, limit: int, temperature: float, seed: int) -> dict[str, dict[str, float]]:
    """Metrics of the export in a run's folder, as rows by name; also written to its `evaluation.json`.

    At most `limit` images of each domain are translated; some of them are shown in `translations.png`.
    Raises ClusterError, DataError or ModelError.
    """
    run = RunFolder(str(folder.parent), folder.name)
    if not run.config.exists():
        raise RunError(f"{folder}: not the folder of a run: it has no {run.config.name}")
    data = load(run.config).data
    translator, export = load_export(run.export)
    test = [_read(data, "test", domain, limit) for domain in export.domains]

    torch.manual_seed(seed)
    rows: dict[str, dict[str, float]] = {}
    for d, name in enumerate(export.domains):
        usage = metrics.component_usage(translator, test[d].image, d)
        rows[f"components used by {name}"] = asdict(usage)
    judges = _judges(data, export.domains, test, seed)
    sheets = []
    for source, target in itertools.permutations(range(len(export.domains)), 2):
        image, reference = test[source].image, test[target].image
        direction = f"{export.domains[source]} to {export.domains[target]}"
        shown = min(SHEET_COLUMNS, len(image), len(reference))
        sheets.append(
            translation_sheet(translator, image[:shown], reference[:shown], target, direction, temperature)
        )
        features = {"pixels": lambda x: x} | ({"features": judges[target].features} if judges else {})
        for kind, function in features.items():
            distances = metrics.component_distances(translator, image[:100], target, temperature, function)
            rows[f"distance in {kind}, {direction}"] = asdict(distances)
        if judges:
            rows[f"content kept, {direction}"] = _content_kept(
                metrics.translate_by_prior(translator, image, target, temperature),
                metrics.translate_by_reference(translator, image, _cycled(reference, len(image)), target),
                judges[target],
                test[source],
                test[target],
            )
    save_png(folder / "translations.png", torch.cat(sheets, dim=1))
    text = json.dumps({"step": export.step, "temperature": temperature, "seed": seed, **rows}, indent=1)
    write_atomically(folder / "evaluation.json", lambda file: file.write(text.encode()))
    return rows


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


def _cycled(x: Tensor, n: int) -> Tensor:
    return x.repeat(-(-n // len(x)), 1, 1, 1)[:n]


def _content_kept(
    by_prior: Tensor, by_reference: Tensor, judge: Classifier, source: Images, target: Images
) -> dict[str, float]:
    assert source.label is not None
    assert target.label is not None
    return {
        "by prior": metrics.accuracy(judge, by_prior, source.label),
        "by reference": metrics.accuracy(judge, by_reference, source.label),
        "real test images": metrics.accuracy(judge, target.image, target.label),
    }
