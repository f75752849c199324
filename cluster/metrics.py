"""Scalars of training: averaged on the device between two rows, gathered from all ranks, written to disk."""

import errno
import hashlib
import io
import json
import logging
import math
import os
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from cluster.notes import Row
from cluster.run_folder import RunFolder, write_atomically
from data_shards.errors import DataError

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Averages:
    """Means of the scalars of the steps since they were last taken. Adding never waits for the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, float] = {}

    def add(self, scalars: Mapping[str, Tensor], weight: float = 1.0) -> None:
        """The scalars of one batch, which counts by ``weight``; a name may be absent from some."""
        for name, value in scalars.items():
            value = value.detach().float() * weight
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + weight

    def take(self, device: torch.device, world_size: int) -> dict[str, float]:
        """Means over batches and ranks, by name; starts anew. Every rank must call it at the same step."""
        if not self._sums:
            return {}
        names = list(self._sums)
        sums = torch.stack([self._sums[name].to(device) for name in names])
        counts = torch.tensor([self._counts[name] for name in names], device=device)
        if world_size > 1:
            both = torch.stack([sums, counts])
            dist.all_reduce(both)
            sums, counts = both
        self._sums, self._counts = {}, {}
        return dict(zip(names, (sums / counts).tolist(), strict=True))

    def take_uneven(self, world_size: int) -> dict[str, float]:
        """As `take`, where some ranks may have nothing to add. Waits for the device."""
        mine = {name: (float(total), self._counts[name]) for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        everyone = gather_objects(mine, world_size)
        names = dict.fromkeys(name for each in everyone for name in each)
        pairs = {name: [each[name] for each in everyone if name in each] for name in names}
        return {name: sum(t for t, _ in both) / sum(n for _, n in both) for name, both in pairs.items()}


class Pace:
    """Speed, and the share of time spent waiting for data, since the last time they were asked for."""

    def __init__(self, step: int) -> None:
        self._step, self._waited, self._since = step, 0.0, time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around whatever waits for data."""
        begin = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begin

    def take(self, step: int, batch: int) -> tuple[float, float]:
        """Images per second at ``batch`` images a step, and the share of waiting in [0, 1]; starts anew."""
        now = time.perf_counter()
        elapsed = now - self._since
        figures = (step - self._step) * batch / elapsed, self._waited / elapsed
        self._step, self._waited, self._since = step, 0.0, now
        return figures


class SampleSum:
    """Which samples were trained in which steps, as one number: a sum of hashes, so that neither the order within a
    batch nor the number of ranks counts. Two runs that show the same images at the same steps have the same sums."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, step: int, batch: Mapping[str, Tensor]) -> None:
        """The samples of this rank's part of a step."""
        if "index" in batch:
            for domain, index in zip(batch["domain"].tolist(), batch["index"].tolist(), strict=True):
                key = f"{step} {domain} {index}".encode()
                self._sum += int.from_bytes(hashlib.blake2b(key, digest_size=4).digest())

    def take(self) -> int:
        """The sum since the last time."""
        total, self._sum = self._sum, 0
        return total


def memory_mib(device: torch.device) -> float:
    """Most memory in MiB that this process has held so far: of its GPU, or else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def gather(figures: list[float], device: torch.device, world_size: int) -> list[list[float]]:
    """Each rank's figures, in the order of ranks."""
    mine = torch.tensor(figures, dtype=torch.float64, device=device)
    if world_size == 1:
        return [mine.tolist()]
    all_of_them = [torch.empty_like(mine) for _ in range(world_size)]
    dist.all_gather(all_of_them, mine)
    return [each.tolist() for each in all_of_them]


def gather_objects(mine: T, world_size: int) -> list[T]:
    """What each rank has, in the order of ranks."""
    everyone = [mine] * world_size
    if world_size > 1:
        dist.all_gather_object(everyone, mine)
    return everyone


class MetricsLog:
    """``metrics.jsonl``, TensorBoard events and preview pictures of one run."""

    def __init__(self, folder: RunFolder, resumed_at: int) -> None:
        from cluster.board import Board

        self._folder = folder
        folder.fetch(folder.metrics)
        drop_rows_after(folder, resumed_at)
        self._unwritten: list[str] = []
        self._board: Board | None = Board(folder.tensorboard, resumed_at)

    def write(self, row: Row) -> None:
        """One row; numbers that are not finite become null, for JSON has no NaN. Raises OSError, and keeps the row."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self._unwritten.append(json.dumps(finite) + "\n")
        if self._board is not None:
            try:
                self._board.row(row)
            except OSError as error:
                logger.warning("TensorBoard is left out from here on: %s", error)
                self._board = None
        self._write()

    def write_previews(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Pictures, uint8 (3, H, W): under each other in one PNG, and each by name in TensorBoard."""
        width = max(picture.shape[2] for picture in pictures.values())
        column = torch.cat([pad(p, (0, width - p.shape[2]), value=255) for p in pictures.values()], dim=1)
        png = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(column.permute(1, 2, 0).numpy())).save(png, "PNG")
        self._folder.write(self._folder.preview(step), png.getvalue())
        if self._board is not None:
            self._board.pictures(step, pictures)

    def publish(self) -> None:
        """Bring all rows to the storage, whole lines only. Raises DataError; OSError where the disk is full."""
        self._write()
        self._folder.publish(self._folder.metrics)
        self._folder.publish(self._folder.tensorboard)

    def close(self) -> None:
        """Flush everything to the storage."""
        if self._board is not None:
            try:
                self._board.close()
                self._folder.publish(self._folder.tensorboard)
            except (OSError, DataError) as error:
                logger.warning("TensorBoard lacks the last figures: %s", error)

    def _write(self) -> None:
        content = "".join(self._unwritten).encode()
        with self._folder.metrics.open("ab", buffering=0) as file:
            before = file.tell()
            if content and file.write(content) < len(content):
                file.truncate(before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder.metrics))
        self._unwritten.clear()


def drop_rows_after(folder: RunFolder, step: int) -> None:
    """Drop the rows of steps that a resumed run trains again, and a last line that a kill cut short."""
    if not folder.metrics.exists():
        return
    kept = []
    for line in folder.metrics.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["step"] <= step:
            kept.append(line)
    write_atomically(folder.metrics, lambda file: file.write("".join(kept).encode()))
