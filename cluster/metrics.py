"""Scalars of training: averaged on the device between two log entries, then written to disk by rank 0."""

import io
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from cluster.notes import Row
from cluster.run_folder import RunFolder, write_atomically


class Averages:
    """Means of the scalars of the steps since they were last taken. Adding never waits for the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """The scalars of one step; a name may be absent from some steps."""
        for name, value in scalars.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.detach().float()
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self, device: torch.device, world_size: int) -> dict[str, float]:
        """Means over steps and ranks, by name; starts anew. Every rank must call it at the same step."""
        if not self._sums:
            return {}
        means = torch.stack([total.to(device) / self._counts[name] for name, total in self._sums.items()])
        if world_size > 1:
            dist.all_reduce(means)
            means /= world_size
        names = list(self._sums)
        self._sums, self._counts = {}, {}
        return dict(zip(names, means.tolist(), strict=True))


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


class MetricsLog:
    """``metrics.jsonl``, TensorBoard events and preview pictures of one run."""

    def __init__(self, folder: RunFolder, resumed_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        drop_rows_after(folder, resumed_at)
        self._file = folder.metrics.open("a", encoding="utf-8")
        self._board = SummaryWriter(
            str(folder.tensorboard), purge_step=resumed_at + 1 if resumed_at else None
        )

    def write(self, row: Row) -> None:
        """One row; numbers that are not finite become null, for JSON has no NaN."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self._file.write(json.dumps(finite) + "\n")
        self._file.flush()
        for name, value in row.items():
            if name != "step":
                self._board.add_scalar(name, value, row["step"])

    def write_previews(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Pictures, uint8 (3, H, W): under each other in one PNG, and each by name in TensorBoard."""
        width = max(picture.shape[2] for picture in pictures.values())
        column = torch.cat([pad(p, (0, width - p.shape[2]), value=255) for p in pictures.values()], dim=1)
        png = io.BytesIO()
        Image.fromarray(column.permute(1, 2, 0).numpy()).save(png, "PNG")
        write_atomically(self._folder.preview(step), lambda file: file.write(png.getbuffer()))
        for name, picture in pictures.items():
            self._board.add_image(f"previews/{name}", picture, step)

    def close(self) -> None:
        """Flush everything to disk."""
        self._file.close()
        self._board.close()


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
