"""The stream of batches of one rank: endless, resumable at any step, the same at any number of ranks.

A batch is a pure function of (manifest, settings, seed, step). Threads of this process read windows and decode
batches ahead; nothing of the stream's position has to be saved.

Memory of a rank, in encoded images: its lanes x ``data.window`` x ``data.chunk`` samples at most, about half of
that on average, and ``data.read_ahead_mib``; in pixels: ``data.ready_batches`` and those being decoded.
"""

import weakref
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import tee

import cv2
import numpy as np
import torch
from torch import Tensor

from data_shards.ahead import in_order, under_way
from data_shards.augment import CentreWindow, Pixels, RandomWindow
from data_shards.config import DataSettings
from data_shards.errors import DataError
from data_shards.manifest import Manifest
from data_shards.meter import LoaderStats, Meter
from data_shards.order import DomainOrder, Indices, PairOrder
from data_shards.reader import SplitReader
from data_shards.schedule import Draw, Schedule
from data_shards.store import open_store
from data_shards.substitute import Substitutes

TRAINING = "train"
WINDOWS_AHEAD = 2  # per lane, at most: tiny images would fill the read-ahead with epochs


@dataclass(frozen=True)
class Plan:
    """Samples of one window of one lane, to be read together."""

    domain: int
    indices: Indices
    bytes: int


@dataclass(frozen=True)
class Window:
    """What was read of a plan."""

    indices: list[int]
    images: list[bytes]


@dataclass(frozen=True)
class Slot:
    """One image of a batch, read or being read."""

    domain: int
    epoch: int
    window: Future[Window]
    place: int

    def take(self) -> tuple[int, bytes]:
        """Index and encoded image, which the window lets go of."""
        window = self.window.result()
        data, window.images[self.place] = window.images[self.place], b""
        return window.indices[self.place], data


class Loader:
    """Batches of two domains each. Ranks that differ in ``rank`` only share out the same global batches."""

    def __init__(
        self, settings: DataSettings, *, split: str = TRAINING, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if not 0 <= rank < world_size:
            raise DataError(f"rank {rank} is not one of {world_size} workers")
        self._settings = settings
        self._split = split
        self._store = open_store(settings.uri)
        manifest = Manifest.read(self._store)
        self.digest = manifest.digest
        self.domains = tuple(settings.domains or sorted(manifest.domains))
        """Names of the domains; a domain's id is its place here."""
        self.share = share = settings.global_batch // min(2, len(self.domains))
        """Images of each domain in a global batch."""
        if world_size > share:
            raise DataError(
                f"{world_size} workers cannot share a global batch of {settings.global_batch}: each needs at least one "
                f"of the {share} images of a domain"
            )
        self._readers = [SplitReader(self._store, manifest.split(name, split)) for name in self.domains]
        window = settings.chunk * settings.window
        orders = [
            DomainOrder(seed, domain, len(reader), share, settings.chunk, window, settings.tail)
            for domain, reader in enumerate(self._readers)
        ]
        lanes = range(rank * share // world_size, (rank + 1) * share // world_size)
        self._schedule = Schedule(orders, PairOrder(seed, len(self.domains)), lanes)
        self._check_sizes()
        random_window = RandomWindow(seed, settings.crop, settings.flip)
        self._augment = random_window if split == TRAINING else CentreWindow(settings.crop)
        self._substitutes = Substitutes(allowed=settings.on_corrupt == "substitute")
        self._meter = Meter()
        steps_per_batch_of_a_domain = max(1, len(self.domains) / 2)
        self._steps_of_largest = steps_per_batch_of_a_domain * max(order.steps_per_epoch for order in orders)
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

        ``image`` (b, 3, H, W) uint8, ``domain`` (b,) and ``index`` (b,) int64, where b is the rank's share of the
        global batch, equal on all ranks but for one image of each domain; the first half is of one domain and the
        second half of another, or all of the only one. ``index`` counts the samples of a domain's split. Images lie
        in pinned memory where there is CUDA.
        """
        batches = self._batches(start_step)
        self._running.add(batches)
        return batches

    def stats(self) -> LoaderStats:
        """What this rank has read so far, and how long it has been waited for."""
        return self._meter.stats(self._substitutes.count)

    def close(self) -> None:
        """End all streams that ``batches`` began, and their threads. The loader is of no more use."""
        self._store.close()
        for batches in list(self._running):
            batches.close()

    def _batches(self, start_step: int) -> Generator[dict[str, Tensor], None, None]:
        settings = self._settings
        readers = ThreadPoolExecutor(settings.read_threads, thread_name_prefix="data_shards read")
        decoders = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="data_shards decode")
        try:
            ahead = int(settings.read_ahead_mib * 2**20)
            seen_by_plans, seen_by_slots = tee(self._schedule.draws(start_step))
            plans = self._plans(seen_by_plans)
            least = ahead // (WINDOWS_AHEAD * len(self._schedule.lanes) * min(2, len(self.domains)))
            windows = under_way(
                readers, self._read, plans, ahead=ahead, cost=lambda plan: max(plan.bytes, least)
            )
            slots = self._slots(seen_by_slots, windows)
            batches = in_order(decoders, self._decode, slots, ahead=settings.ready_batches)
            while True:
                asked = self._meter.asked()
                batch = next(batches)
                self._meter.given(asked, len(batch["image"]))
                yield batch
        finally:
            # Decoders wait for readers: these must be told first that there is nothing more to do.
            readers.shutdown(wait=False, cancel_futures=True)
            decoders.shutdown(cancel_futures=True)
            readers.shutdown()

    def _plans(self, draws_of_steps: Iterable[list[Draw]]) -> Iterator[Plan]:
        """What to read, in the order of need."""
        for draws in draws_of_steps:
            for draw in draws:
                if draw.opens:
                    order, reader = self._schedule.orders[draw.domain], self._readers[draw.domain]
                    indices = order.lane_window(draw.epoch, draw.lane, draw.window)[draw.place :]
                    yield Plan(draw.domain, indices, reader.stored_bytes(indices))

    def _slots(
        self, draws_of_steps: Iterable[list[Draw]], windows: Iterator[Future[Window]]
    ) -> Iterator[list[Slot]]:
        """The slots of each step, which take from ``windows`` in the order of ``_plans``."""
        opened: dict[tuple[int, int], tuple[Future[Window], int]] = {}
        for draws in draws_of_steps:
            slots: list[Slot] = []
            for draw in draws:
                lane = draw.domain, draw.lane
                if draw.opens:
                    opened[lane] = next(windows), draw.place
                window, first = opened[lane]
                slots.append(Slot(draw.domain, draw.epoch, window, draw.place - first))
            yield slots

    def _read(self, plan: Plan) -> Window:
        images = self._readers[plan.domain].images(plan.indices)
        self._meter.read(plan.bytes)
        return Window(plan.indices.tolist(), images)

    def _decode(self, slots: list[Slot]) -> dict[str, Tensor]:
        images: Tensor | None = None
        shown: list[int] = []
        for number, slot in enumerate(slots):
            reader = self._readers[slot.domain]
            drawn, data = slot.take()
            index, image_HWC = self._substitutes.pixels(reader, drawn, data)
            height, width, _ = image_HWC.shape
            window = self._augment(slot.domain, slot.epoch, drawn, height, width)
            if images is None:
                shape = (len(slots), 3, window.height, window.width)
                images = torch.empty(shape, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
                planes: Pixels = images.numpy()
            cv2.split(window.cut(image_HWC), list(planes[number]))
            shown.append(index)
        assert images is not None
        return {
            "image": images,
            "domain": torch.tensor([slot.domain for slot in slots]),
            "index": torch.tensor(shown),
        }

    def _check_sizes(self) -> None:
        """Refuse data from which some later batch could not be made."""
        crop = self._settings.crop
        sizes: set[tuple[int, int]] = set()
        for name, reader, order in zip(self.domains, self._readers, self._schedule.orders, strict=True):
            if order.steps_per_epoch == 0:
                raise DataError(
                    f"domain {name!r} has {len(reader)} samples in split {self._split!r}, fewer than its share of "
                    f"the global batch ({order.batch}): lower data.global_batch or set data.tail=pad"
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
