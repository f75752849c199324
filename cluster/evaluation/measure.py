"""What is measured, in each domain and in each direction.

Legend: n images, K components, L labels.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cluster.evaluation.images import Images
from gmvae_drit import metrics
from gmvae_drit.classifier import Classifier, train_classifier
from gmvae_drit.translator import Translator

DISTANCE_INPUTS = 48
"""Images whose translations are compared pair by pair."""


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    value: float
    n: int
    """Images (or translations) behind it."""
    standard_error: float | None = None
    """Of `value`, by n images; None where there is no simple one."""
    n_real: int | None = None
    """Real images that they were compared with, or None."""


Figures = dict[str, Figure]


@dataclass(frozen=True)
class Options:
    """What decides the figures besides the model and the data."""

    temperature: float
    """Scale of the prior draws' deviation."""
    samples: int
    """Translations of an input by each component, where they are compared pair by pair."""
    seed: int
    """Of the draws, the judging classifiers and the bins."""


@dataclass
class Domain:
    """One domain with all that is derived from its real images: judges, features, bins."""

    name: str
    index: int
    test: Images
    train: Images
    """As many as of the test split, at most."""
    judges: Mapping[str, Classifier]
    """By label: classifiers of the domain's real train images."""
    spaces: Sequence[metrics.Features]
    """What FID and KID are measured in."""
    test_rows: dict[str, Tensor] = field(default_factory=dict)
    """Features of the test images by the name of the space."""
    train_rows: dict[str, Tensor] = field(default_factory=dict)
    bins: metrics.Bins = field(init=False)
    """Of the pixels of the train images."""


def prepare(
    name: str, index: int, test: Images, train: Images, network: metrics.Features | None, seed: int
) -> Domain:
    """Train the judges on all `train` images, and look at the real images with every feature network."""
    labels = [key for key in train.labels if key in test.labels]
    judges = {key: train_classifier(train.unit(), train.labels[key], seed) for key in labels}
    spaces: list[metrics.Features] = [] if network is None else [network]
    if "label" in judges:
        spaces.append(metrics.ClassifierFeatures("classifier of real images", judges["label"]))
    domain = Domain(name, index, test, train.first(max(len(test), 2)), judges, spaces)
    pixels = metrics.PixelFeatures()
    for space in (*spaces, pixels):
        domain.test_rows[space.name] = _rows(space, test)
        domain.train_rows[space.name] = _rows(space, domain.train)
    domain.bins = metrics.Bins(domain.train_rows[pixels.name], seed)
    return domain


def _rows(space: metrics.Features, images: Images) -> Tensor:
    bank = metrics.FeatureBank(space)
    for _, image in images.batches():
        bank.update(image)
    return bank.compute()


@torch.inference_mode()
def measure_domain(
    translator: Translator, domain: Domain, options: Options
) -> tuple[Figures, Tensor, Tensor]:
    """Figures of one domain's test images; their codes z (n, Z) and most probable components (n,).

    The figures "of real images" compare the train with the test images: what a perfect translator would get.
    """
    errors = metrics.Mean()
    logits, codes = [], []
    for _, image in domain.test.batches():
        errors.update(metrics.reconstruction_error(translator, image, domain.index))
        posterior = translator.attribute(image, torch.full((len(image),), domain.index))
        logits.append(posterior.logits_BK)
        codes.append(posterior.mode())
    logits_nK, z_nZ = torch.cat(logits), torch.cat(codes)
    y_n, K, n = logits_nK.argmax(1), logits_nK.shape[1], len(logits_nK)
    usage = metrics.usage(logits_nK)
    figures = {
        "reconstruction, L1": _average(errors),
        "components, information": Figure(usage.information, n),
        "components, entropy of mean": Figure(usage.entropy, n),
        "components, entropy of argmax": Figure(usage.argmax_entropy, n),
    }
    for key, judge in domain.judges.items():
        label, L = domain.test.labels[key], int(domain.test.labels[key].max()) + 1
        figures |= _agreement(f"component and {key}", metrics.contingency(y_n, label, K, L))
        if key == "mode" and n >= 2 * L:  # the yardstick of a mixture that is trained end to end
            for method, cluster in metrics.clusters_of_codes(z_nZ, L, options.seed).items():
                figures |= _agreement(f"{method} of z and {key}", metrics.contingency(cluster, label, L, L))
        hits = metrics.Mean()
        for places, image in domain.test.batches():
            hits.update(recognised(judge, image, label[places]))
        figures[f"{key} recognised, real images"] = _average(hits)
    figures |= _distances_to_real(domain, domain.test_rows, "of real images", real=domain.train_rows)
    return figures, z_nZ, y_n


@torch.inference_mode()
def measure_direction(
    translator: Translator,
    source: Domain,
    target: Domain,
    distances: Sequence[metrics.PictureDistance],
    options: Options,
) -> Figures:
    """Figures of the translations of all test images of `source`, each once, by the prior of `target`."""
    K, pixels = translator.prior.components, metrics.PixelFeatures()
    banks = {space.name: metrics.FeatureBank(space) for space in (*target.spaces, pixels)}
    cycle, recovered = metrics.Mean(), metrics.Mean()
    kept, kept_by_reference = metrics.Mean(), metrics.Mean()
    modes = int(target.train.labels["mode"].max()) + 1 if "mode" in target.judges else 0
    shown_KL = torch.zeros(K, modes, dtype=torch.int64)
    for places, image in source.test.batches():
        picture = metrics.translate_by_prior(
            translator, image, target.index, options.temperature, places.start
        )
        for bank in banks.values():
            bank.update(picture)
        cycle.update(metrics.cycle_error(translator, image, picture, source.index))
        y = metrics.components_in_turn(translator, len(image), places.start)
        seen = translator.attribute(picture, torch.full((len(picture),), target.index)).component()
        recovered.update(seen == y)
        if "label" in target.judges and "label" in source.test.labels:
            judge, label = target.judges["label"], source.test.labels["label"][places]
            kept.update(recognised(judge, picture, label))
            reference = target.test.cycled(places)
            by_reference = metrics.translate_by_reference(translator, image, reference, target.index)
            kept_by_reference.update(recognised(judge, by_reference, label))
        if modes:
            mode = target.judges["mode"](picture).argmax(1)
            shown_KL += metrics.contingency(y, mode, K, modes)

    figures = _distances_to_real(target, {name: bank.compute() for name, bank in banks.items()}, "")
    figures["cycle, L1"] = _average(cycle)
    if "label" in target.judges and "label" in source.test.labels:
        figures["label kept, by prior"] = _average(kept)
        figures["label kept, by reference"] = _average(kept_by_reference)
    if K > 1:
        figures["component recovered by the encoder"] = _average(recovered)
    if modes:
        figures |= _agreement("component and mode shown", shown_KL)
    for distance in distances:
        image = source.test.unit(DISTANCE_INPUTS)
        d = metrics.component_distances(
            translator, image, target.index, options.temperature, distance, options.samples
        )
        for kind in ("overall", "between components", "within a component"):
            value = getattr(d, kind.split()[0])
            figures[f"distance {kind}, {distance.name}"] = Figure(value, len(image))
    return figures


def directions(domains: Sequence[Domain]) -> dict[str, tuple[Domain, Domain]]:
    """Every ordered pair of domains, by name."""
    return {f"{a.name} to {b.name}": (a, b) for a, b in itertools.permutations(domains, 2)}


def _distances_to_real(
    domain: Domain, rows: Mapping[str, Tensor], suffix: str, real: Mapping[str, Tensor] | None = None
) -> Figures:
    """FID and KID of `rows` to the test images (or `real`), and how the pixels fill the bins of the train images.

    FID is left out where there are not enough images for it to be defined; KID below three.
    """
    figures: Figures = {}
    real = domain.test_rows if real is None else real
    suffix = f" {suffix}" if suffix else ""
    for space in domain.spaces:
        fake_rows, real_rows = rows[space.name], real[space.name]
        n, m = len(fake_rows), len(real_rows)
        if min(n, m) >= 3:
            kid = metrics.kernel_distance(real_rows, fake_rows)
            figures[f"KID{suffix}, {space.name}"] = Figure(kid.value, n, kid.standard_error, m)
        if min(n, m) > space.size:
            fid = metrics.frechet_distance(real_rows, fake_rows)
            figures[f"FID{suffix}, {space.name}"] = Figure(fid, n, n_real=m)
    pixels = metrics.PixelFeatures().name
    compared, n, m = (
        domain.bins.compare(domain.bins.count(rows[pixels])),
        len(rows[pixels]),
        len(domain.train),
    )
    where = f"{domain.bins.bins} bins of {pixels}"
    figures[f"NDB{suffix}, {where}"] = Figure(compared.different, n, n_real=m)
    figures[f"JSD{suffix}, {where}"] = Figure(compared.divergence, n, n_real=m)
    return figures


def _agreement(what: str, table_KL: Tensor) -> Figures:
    n = int(table_KL.sum())
    return {
        f"NMI, {what}": Figure(metrics.normalized_mutual_information(table_KL), n),
        f"accuracy, {what}": Figure(metrics.cluster_accuracy(table_KL), n),
    }


def recognised(judge: Classifier, image: Tensor, label: Tensor) -> Tensor:
    """Whether `judge` gives each of `image` (n, 3, H, W) its `label`, (n,) bool."""
    hits: Tensor = judge(image).argmax(1) == label
    return hits


def _average(mean: metrics.Mean) -> Figure:
    average = mean.compute()
    return Figure(average.value, average.n, average.standard_error)
