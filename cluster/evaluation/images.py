"""Images to measure on, with the labels that their metadata carries."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cluster.errors import RunError
from data_shards.samples import read_split
from gmvae_drit.images import to_unit

BATCH = 32
LABELS = ("label", "mode")
"""Metadata that is read: ``label`` is the content, which a translation keeps; ``mode`` the attribute's."""


@dataclass(frozen=True)
class Images:
    """Images of one split of one domain."""

    pixels: Tensor
    """(n, 3, H, W) uint8."""
    labels: Mapping[str, Tensor]
    """(n,) int64 of those of `LABELS` that every image has."""

    def __len__(self) -> int:
        return len(self.pixels)

    def unit(self, count: int | None = None) -> Tensor:
        """The first `count` images, or all, (n, 3, H, W) in [-1, 1]."""
        return to_unit(self.pixels[:count])

    def batches(self) -> Iterator[tuple[slice, Tensor]]:
        """All images, with their places, (B, 3, H, W) in [-1, 1]."""
        for start in range(0, len(self), BATCH):
            places = slice(start, min(start + BATCH, len(self)))
            yield places, to_unit(self.pixels[places])

    def first(self, count: int) -> "Images":
        """The first `count` of them."""
        return Images(self.pixels[:count], {key: label[:count] for key, label in self.labels.items()})

    def cycled(self, places: slice) -> Tensor:
        """The images at `places`, in [-1, 1], as if the set began anew after its end."""
        return to_unit(self.pixels[torch.arange(places.start, places.stop) % len(self)])


def read(uri: str, split: str, domain: str, limit: int | None, crop: int | None) -> Images:
    """The first `limit` images of a split of a domain, or all. Raises RunError if there are none."""
    samples = list(read_split(uri, split, domain, limit, crop))
    if not samples:
        raise RunError(f"{uri}: domain {domain} has no {split} images to evaluate on")
    labels = {}
    for key in LABELS:
        values = [sample.meta.get(key) for sample in samples]
        known = [value for value in values if isinstance(value, int)]
        if len(known) == len(values):
            labels[key] = torch.tensor(known)
    return Images(torch.stack([sample.image for sample in samples]), labels)
