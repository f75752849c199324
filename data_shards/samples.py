"""Single samples with their metadata, in a fixed order: what evaluation reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_shards.augment import CentreWindow
from data_shards.manifest import Manifest
from data_shards.reader import SplitReader
from data_shards.store import open_store

SAMPLES_PER_READ = 256


@dataclass(frozen=True)
class Sample:
    """One image."""

    key: str
    image: Tensor
    """(3, H, W) uint8."""
    meta: dict[str, Any]
    """``name`` of the source, and what else the build recorded, such as ``label``."""


def read_split(
    uri: str, split: str, domain: str, limit: int | None = None, crop: int | None = None
) -> Iterator[Sample]:
    """The samples of one split of one domain, always in the same order; the first ``limit`` if given.

    ``crop`` cuts the central square of that side.
    """
    store = open_store(uri)
    reader = SplitReader(store, Manifest.read(store).split(domain, split))
    window = CentreWindow(crop)
    count = len(reader) if limit is None else min(limit, len(reader))
    for start in range(0, count, SAMPLES_PER_READ):
        last = min(start + SAMPLES_PER_READ, count) - 1
        for index, (key, data, meta) in enumerate(reader.records(start, last), start):
            image_HWC = reader.pixels(index, data)
            height, width, _ = image_HWC.shape
            part = window(0, 0, index, height, width).cut(image_HWC).transpose(2, 0, 1)
            yield Sample(key, torch.from_numpy(np.ascontiguousarray(part)), meta)
