"""The held-out images that the preview pictures of a run show."""

import logging

import torch

from data_shards.config import DataSettings
from data_shards.manifest import Manifest
from data_shards.samples import read_split
from data_shards.store import open_store
from gmvae_drit.model import Batch

logger = logging.getLogger(__name__)


def held_out_batch(data: DataSettings, domains: tuple[str, ...], count: int) -> Batch | None:
    """The first ``count`` test images of the first two domains as a batch; None where there is no test split."""
    manifest = Manifest.read(open_store(data.uri))
    pair = domains[:2]
    without = [domain for domain in pair if "test" not in manifest.domains[domain]]
    if without:
        logger.warning("no preview pictures: no test split in %s", ", ".join(without))
        return None
    halves = [
        [sample.image for sample in read_split(data.uri, "test", domain, limit=count, crop=data.crop)]
        for domain in pair
    ]
    size = min(len(half) for half in halves)
    image = torch.stack([image for half in halves for image in half[:size]])
    return {"image": image, "domain": torch.arange(len(halves)).repeat_interleave(size)}
