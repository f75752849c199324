"""The stream of batches of one rank: endless, resumable at any step, the same at any number of ranks.

A batch is a pure function of (manifest, settings, seed, step). A few threads of this process read windows and
decode batches ahead; nothing of the stream's position has to be saved.
"""

import weakref
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor

from data_shards.ahead import in_order
from data_shards.augment import CentreWindow, RandomWindow
from data_shards.config import DataSettings
from data_shards.errors import DataError
from data_shards.manifest import Manifest
from data_shards.order import DomainOrder, PairOrder
from data_shards.reader import SplitReader, decode
from data_shards.store import open_store

TRAINING = "train"


@dataclass(frozen=True)
class Encoded:
    """One image of a batch before decoding."""

    domain: int
    epoch: int
    index: int
    data: bytes


class Loader:
    """Batches of two domains each. Ranks that differ in ``rank`` only share out the same global batches."""

    def __init__(
        self, settings: DataSettings, *, split: str = TRAINING, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        half = settings.global_batch // 2
        if half % world_size:
            raise DataError(
                f"{world_size} workers cannot share a global batch of {settings.global_batch}: "
                f"half of it, {half}, must be a multiple of the number of workers"
            )
        if not 0 <= rank < world_size:
            raise DataError(f"rank {rank} is not one of {world_size} workers")
        self._settings = settings
        self._split = split
        store = open_store(settings.uri)
        manifest = Manifest.read(store)
        self.digest = manifest.digest
        self.domains = tuple(sorted(manifest.domains))
        """Names of the domains; a domain's id is its place here."""
        if len(self.domains) < 2:
            raise DataError(
                f"{settings.uri} holds one domain only, {self.domains}; translation needs at least two"
            )
        self._readers = [SplitReader(store, manifest.shards(name, split)) for name in self.domains]
        self._orders = [
            DomainOrder(
                seed,
                domain,
                len(reader),
                half,
                settings.chunk,
                settings.chunk * settings.window,
                settings.tail,
            )
            for domain, reader in enumerate(self._readers)
        ]
        self._pairs = PairOrder(seed, len(self.domains))
        self._lanes = range(rank * half // world_size, (rank + 1) * half // world_size)
        self._check_sizes()
        random_window = RandomWindow(seed, settings.crop, settings.flip)
        self._augment = random_window if split == TRAINING else CentreWindow(settings.crop)
        self._steps_of_largest = max(order.steps_per_epoch for order in self._orders) * len(self.domains) / 2
        self._running: weakref.WeakSet[Generator[dict[str, Tensor], None, None]] = weakref.WeakSet()

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which the largest domain is seen once (a step shows two of the domains)."""
        return int(np.ceil(self._steps_of_largest))

    def epoch(self, step: int) -> float:
        """Passes over the largest domain before ``step``."""
        return step / self._steps_of_largest

    def batches(self, start_step: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of ``start_step``, ``start_step + 1``, … without end.

        ``image`` (b, 3, H, W) uint8, ``domain`` (b,) and ``index`` (b,) int64, where b is the global batch
        over the number of ranks; the first half is of one domain and the second half of another. ``index``
        counts the samples of a domain's split.
        """
        batches = self._batches(start_step)
        self._running.add(batches)
        return batches

    def close(self) -> None:
        """End all streams that ``batches`` began, and their threads."""
        for batches in list(self._running):
            batches.close()

    def _batches(self, start_step: int) -> Generator[dict[str, Tensor], None, None]:
        settings = self._settings
        pool = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="data_shards")
        try:
            encoded = self._encoded(start_step, pool)
            yield from in_order(pool, self._decode, encoded, ahead=settings.read_ahead)
        finally:
            pool.shutdown(cancel_futures=True)

    def _encoded(self, start_step: int, pool: ThreadPoolExecutor) -> Iterator[list[Encoded]]:
        """The encoded images of each step."""
        lanes: dict[int, list[Iterator[Encoded]]] = {}
        for step in count(start_step):
            batch: list[Encoded] = []
            for domain, used in zip(*self._pairs.at(step), strict=True):
                if domain not in lanes:
                    lanes[domain] = [self._lane(domain, lane, used, pool) for lane in self._lanes]
                batch += [next(lane) for lane in lanes[domain]]
            yield batch

    def _lane(self, domain: int, lane: int, start: int, pool: ThreadPoolExecutor) -> Iterator[Encoded]:
        """What ``lane`` gives to the ``start``-th batch of its domain and to those after it."""
        order, reader = self._orders[domain], self._readers[domain]
        first_epoch, place = divmod(start, order.steps_per_epoch)
        first_window, skip = divmod(place, order.window)

        def plans() -> Iterator[tuple[int, list[int]]]:
            window, dropped = first_window, skip
            for epoch in count(first_epoch):
                while window < order.windows_per_epoch:
                    yield epoch, order.lane_window(epoch, lane, window)[dropped:].tolist()
                    window, dropped = window + 1, 0
                window = 0

        def read(plan: tuple[int, list[int]]) -> list[Encoded]:
            epoch, indices = plan
            images = reader.images(indices)
            return [Encoded(domain, epoch, index, data) for index, data in zip(indices, images, strict=True)]

        for window in in_order(pool, read, plans(), ahead=1):
            yield from window

    def _decode(self, batch: list[Encoded]) -> dict[str, Tensor]:
        images: Tensor | None = None
        for slot, sample in enumerate(batch):
            reader = self._readers[sample.domain]
            image_HWC = decode(sample.data, reader.describe(sample.index))
            height, width, _ = image_HWC.shape
            window = self._augment(sample.domain, sample.epoch, sample.index, height, width)
            if images is None:
                shape = (len(batch), 3, window.height, window.width)
                images = torch.empty(shape, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
                pixels = images.numpy()
            pixels[slot] = window.cut(image_HWC).transpose(2, 0, 1)
        assert images is not None
        return {
            "image": images,
            "domain": torch.tensor([sample.domain for sample in batch]),
            "index": torch.tensor([sample.index for sample in batch]),
        }

    def _check_sizes(self) -> None:
        """Refuse data from which some later batch could not be made."""
        crop, half = self._settings.crop, self._settings.global_batch // 2
        sizes: set[tuple[int, int]] = set()
        for name, reader, order in zip(self.domains, self._readers, self._orders, strict=True):
            if order.steps_per_epoch == 0:
                raise DataError(
                    f"domain {name!r} has {len(reader)} samples in split {self._split!r}, fewer than half of "
                    f"the global batch ({half}): lower data.global_batch or set data.tail=pad"
                )
            sizes |= reader.sizes()
            smallest = min(min(size) for size in reader.sizes())
            if crop is not None and smallest < crop:
                raise DataError(
                    f"domain {name!r} has images of {smallest} pixels, too small for data.crop={crop}: "
                    f"lower it, or build with --resize {crop} or more"
                )
        if crop is None and len(sizes) > 1:
            raise DataError(
                f"{self._settings.uri} holds images of {len(sizes)} sizes; whole ones cannot share a batch: "
                f"set data.crop"
            )
