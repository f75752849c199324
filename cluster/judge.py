"""What a run says of its translations while it trains: how near to real images they are, how varied, and whether the
content is kept. `cluster.judge_settings` has the settings, `python -m cluster evaluate` measures more, once.

Legend: D domains, K components, n images of a part, F features.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from cluster.config import Experiment, held_out_metrics
from cluster.errors import RunError
from cluster.evaluation.images import Images, read
from cluster.evaluation.measure import recognised
from cluster.evaluation.network import efficientnet_lite0
from cluster.metrics import gather_objects
from data_shards.config import DataSettings
from data_shards.manifest import Manifest
from data_shards.store import open_store
from gmvae_drit import metrics
from gmvae_drit.classifier import Classifier, train_classifier
from gmvae_drit.images import to_unit
from gmvae_drit.translator import Translator

SEED = 0
"""Of the classifiers and of the draws: the same in all runs, which are compared by what they say."""
PART = 16
"""Images of one direction that are translated at once, and by one rank."""


@dataclass(frozen=True)
class Domain:
    """What is known of the real images of a domain."""

    test: Images
    classifier: Classifier | None
    """Of its train images by label; None without labels."""
    features: metrics.Features
    """What translations into this domain are seen with."""
    real: Tensor
    """The features of the test images, (n, F)."""


@dataclass(frozen=True)
class Part:
    """Some test images of one domain and where they go."""

    source: int
    target: int
    places: slice


@dataclass(frozen=True)
class Verdict:
    """On the translations of one part."""

    rows: Tensor
    """Features, (n, F)."""
    distance: Tensor
    """Of two translations of each image, (n,)."""
    kept: Tensor | None
    """Whether the label is still seen, (n,); None where a domain has no labels."""


class Judge:
    """The judge of one rank. Parts, and the draws in each, are the same at every look and on any number of ranks."""

    def __init__(
        self,
        domains: Sequence[Domain],
        distance: metrics.PictureDistance,
        seed: int,
        rank: int,
        world_size: int,
        device: torch.device,
    ) -> None:
        self._domains, self._distance, self._seed = domains, distance, seed
        self._rank, self._world_size, self._device = rank, world_size, device
        self._parts = [
            Part(source, target, slice(start, min(start + PART, len(domains[source].test))))
            for source, target in itertools.permutations(range(len(domains)), 2)
            for start in range(0, len(domains[source].test), PART)
        ]

    def measure(self, translator: nn.Module) -> dict[str, float]:
        """`JudgeSettings.metrics` of what `Model.exported` gives: each the mean over directions.

        Every rank must call it at the same step. Translates in the precision of the caller, looks in fp32. Seeds torch.
        """
        assert isinstance(translator, Translator)
        numbers = range(self._rank, len(self._parts), self._world_size)
        mine = {number: self._look(translator, number) for number in numbers}
        verdicts: dict[int, Verdict] = {}
        for theirs in gather_objects(mine, self._world_size):
            verdicts |= theirs
        directions: dict[tuple[int, int], list[Verdict]] = {}
        for number, part in enumerate(self._parts):
            directions.setdefault((part.source, part.target), []).append(verdicts[number])
        figures: dict[str, list[float]] = {"kid": [], "diversity": [], "label_kept": []}
        for (_, target), found in directions.items():
            rows, distance = torch.cat([v.rows for v in found]), torch.cat([v.distance for v in found])
            figures["kid"].append(metrics.kernel_distance(self._domains[target].real, rows).value)
            figures["diversity"].append(float(distance.double().mean()))
            if kept := [v.kept for v in found if v.kept is not None]:
                figures["label_kept"].append(float(torch.cat(kept).double().mean()))
        return {name: sum(values) / len(values) for name, values in figures.items() if values}

    @torch.inference_mode()
    def _look(self, translator: Translator, number: int) -> Verdict:
        """The first translation is by the components in turn; the second so that K^2 images meet all K^2 pairs."""
        part = self._parts[number]
        source, target = self._domains[part.source], self._domains[part.target]
        image = to_unit(source.test.pixels[part.places]).to(self._device)
        K, place = translator.prior.components, torch.arange(part.places.start, part.places.stop)
        torch.manual_seed(self._seed + number)
        first = metrics.translate_by_prior(translator, image, part.target, 1.0, part.places.start)
        second = metrics.translate_by_component(translator, image, place // K % K, part.target, 1.0)
        with torch.autocast(self._device.type, enabled=False):
            kept = None
            if target.classifier is not None and (label := source.test.labels.get("label")) is not None:
                kept = recognised(target.classifier, first, label[part.places].to(self._device)).cpu()
            embedded = self._distance.embed(first), self._distance.embed(second)
            return Verdict(target.features(first).cpu(), self._distance.between(*embedded).cpu(), kept)


def prepare_judge(
    experiment: Experiment, domains: tuple[str, ...], rank: int, world_size: int, device: torch.device
) -> Judge | None:
    """Read the images, train the classifiers (each on one rank) and look at the real images; None if none is asked for.

    Every rank must call it. Raises RunError where the data cannot be judged as `train.judge` says, DataError where
    there is no test split, ModelError without the weights of the features.
    """
    settings, data = experiment.train.judge, experiment.data
    if settings is None:
        return None
    digest = Manifest.read(open_store(data.uri)).digest
    tests = [read(data.uri, "test", name, settings.images, data.crop) for name in domains]
    if few := [name for name, test in zip(domains, tests, strict=True) if len(test) < 3]:
        raise RunError(f"train.judge: KID needs 3 test images, and there are fewer in {', '.join(few)}")
    mine = {
        d: _classifier(data, digest, name, settings.train_images)
        for d, name in enumerate(domains)
        if "label" in tests[d].labels and d % world_size == rank
    }
    classifiers: dict[int, Classifier | None] = {}
    for theirs in gather_objects(mine, world_size):
        classifiers |= theirs
    distance: metrics.PictureDistance = metrics.PixelDistance()
    seen: metrics.Features = metrics.PixelFeatures()
    if settings.features == "efficientnet-lite0":
        seen = network = efficientnet_lite0(min(tests[0].pixels.shape[2:]), device)
        distance = metrics.PerceptualDistance(network)
    known = []
    for d, (name, test) in enumerate(zip(domains, tests, strict=True)):
        if (classifier := classifiers.get(d)) is not None:
            classifier = classifier.to(device)
        if settings.features == "classifier":
            if classifier is None:
                raise RunError(_unlabelled([name]))
            seen = metrics.ClassifierFeatures("classifier of real images", classifier)
        bank = metrics.FeatureBank(seen)
        bank.update(test.unit().to(device))
        known.append(Domain(test, classifier, seen, bank.compute()))
    return Judge(known, distance, SEED, rank, world_size, device)


def check_judge(experiment: Experiment, domains: tuple[str, ...]) -> None:
    """RunError where the data cannot be judged as `train.judge` says, as far as manifest and first images tell."""
    train, data = experiment.train, experiment.data
    if train.judge is None:
        return
    splits = Manifest.read(open_store(data.uri)).domains
    if without := [name for name in domains if "test" not in splits[name]]:
        raise RunError(
            f"train.judge translates test images, and there is no test split in {', '.join(without)}"
        )
    labelled = labelled_domains(data, domains)
    if train.judge.features == "classifier" and len(labelled) < len(domains):
        raise RunError(_unlabelled([name for name in domains if name not in labelled]))
    measured = held_out_metrics(experiment, labelled=len(labelled) > 1)
    if train.best_metric not in (None, *measured):
        raise RunError(
            f"train.best_metric = {train.best_metric}: measured only where the images of two domains carry a `label`"
        )


def labelled_domains(data: DataSettings, domains: tuple[str, ...]) -> list[str]:
    """Those of ``domains`` whose first train and first test image carry a `label`."""
    firsts: Mapping[str, list[Images]] = {
        name: [read(data.uri, split, name, 1, data.crop) for split in ("train", "test")] for name in domains
    }
    return [name for name, images in firsts.items() if all("label" in each.labels for each in images)]


@lru_cache
def _classifier(data: DataSettings, digest: str, domain: str, images: int) -> Classifier | None:
    """Kept for the next run of this process on the same data."""
    train = read(data.uri, "train", domain, images, data.crop)
    return train_classifier(train.unit(), train.labels["label"], SEED) if "label" in train.labels else None


def _unlabelled(domains: Sequence[str]) -> str:
    return (
        f"train.judge.features = classifier: needs a whole number `label` with every image, and {', '.join(domains)} "
        f"has none; use efficientnet-lite0 or pixels"
    )
