"""The held-out images of a run: those of its preview pictures, and those that are measured while it trains."""

import logging
from dataclasses import dataclass

import torch

from cluster.config import TrainSettings
from data_shards.config import DataSettings
from data_shards.manifest import Manifest
from data_shards.samples import read_split
from data_shards.store import open_store
from gmvae_drit.model import Batch

logger = logging.getLogger(__name__)

BATCH = 8
"""Images of each of two domains in a batch that is measured."""


@dataclass(frozen=True)
class HeldOut:
    """Test images, always the same ones."""

    pictured: Batch | None
    """Of the first two domains; rank 0 only."""
    measured: list[Batch]
    """This rank's share of the batches, which are the same on any number of ranks."""


def read_held_out(
    data: DataSettings, train: TrainSettings, domains: tuple[str, ...], rank: int, world_size: int
) -> HeldOut:
    """As many test images of each domain as ``train`` asks for; nothing, with a warning, without a test split.

    Measured are pairs of domains in a ring, each domain with the next.
    """
    pictured = train.preview_images if train.preview_every else 0
    measured = train.evaluate_images if train.evaluate_every else 0
    manifest = Manifest.read(open_store(data.uri))
    without = [domain for domain in domains if "test" not in manifest.domains[domain]]
    if without:
        if rank == 0:
            logger.warning("no preview pictures and no evaluation: no test split in %s", ", ".join(without))
        return HeldOut(None, [])
    limit = max(measured, pictured if rank == 0 else 0)
    images = [
        [sample.image for sample in read_split(data.uri, "test", name, limit=limit, crop=data.crop)]
        for name in domains
    ]
    groups: list[tuple[int, ...]] = [tuple(range(len(domains)))]
    if len(domains) > 2:
        groups = [(d, (d + 1) % len(domains)) for d in range(len(domains))]
    batches = [
        (group, slice(start, min(start + BATCH, smallest)))
        for group in groups
        for smallest in [min(measured, *(len(images[d]) for d in group))]
        for start in range(0, smallest, BATCH)
    ]
    shown = min(pictured, *(len(images[d]) for d in groups[0])) if rank == 0 else 0
    return HeldOut(
        _batch(images, groups[0], slice(shown)) if shown else None,
        [_batch(images, group, part) for group, part in batches[rank::world_size]],
    )


def _batch(images: list[list[torch.Tensor]], group: tuple[int, ...], part: slice) -> Batch:
    image = [images[domain][part] for domain in group]
    domain = torch.tensor(group).repeat_interleave(len(image[0]))
    return {"image": torch.stack([each for of_domain in image for each in of_domain]), "domain": domain}
