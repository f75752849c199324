"""The training loop of one process: pure torch and torch.distributed, without Ray.

The engine knows nothing of the model but `gmvae_drit.model.Model`. The state of a run is (model, optimizers,
step): data, noise and schedules are functions of the step, so a resumed run repeats an undisturbed one bit
for bit. Buffers of a model must not differ between ranks: a checkpoint holds those of rank 0.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cluster import checkpoint
from cluster.checkpoint import Checkpoint, Identity
from cluster.config import Experiment
from cluster.errors import RunError
from cluster.metrics import Averages, MetricsLog, Pace
from cluster.notes import Row
from cluster.precision import resolve_precision
from cluster.run_folder import RunFolder
from cluster.stop import StopAgreement
from cluster.update import GuardedUpdate
from gmvae_drit.model import Batch, Model, Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where this process stands among the workers."""

    rank: int
    world_size: int
    device: torch.device


class Data(Protocol):
    """What the engine needs of `data_shards.loader.Loader`."""

    @property
    def digest(self) -> str:
        """What the data set holds, in one word."""

    def epoch(self, step: int) -> float:
        """Passes over the largest domain after ``step`` steps."""

    def batches(self, start_step: int) -> Iterator[Mapping[str, Tensor]]:
        """This rank's batches from ``start_step`` on, without end."""


class Watcher(Protocol):
    """Whoever watches the run."""

    def row(self, row: Row) -> None:
        """A row of metrics; rank 0 only."""

    def stop_requested(self) -> bool:
        """Whether the run should stop with a checkpoint. Must return at once."""


class Engine:
    """Trains one model replica from the newest checkpoint of its run to the last step."""

    def __init__(
        self,
        experiment: Experiment,
        model: Model,
        loader: Data,
        place: Place,
        watcher: Watcher,
        held_out: Batch | None = None,
    ) -> None:
        """``held_out`` is what the preview pictures show; None for no previews."""
        self.experiment, self.loader, self.place, self.watcher = experiment, loader, place, watcher
        self.settings = experiment.train
        self.held_out = held_out
        self.folder = RunFolder(experiment.run.storage, experiment.run.name)
        self.identity = identity_of(experiment, loader)
        self.model = model.to(place.device)
        if place.device.type == "cuda":
            self.model = self.model.to(memory_format=torch.channels_last)
        self.optimizers = model.optimizers()
        self.nets = {name: self._distribute(net) for name, net in model.networks().items()}
        self.update = GuardedUpdate(self.optimizers, place.device)
        self.dtype = resolve_precision(self.settings.precision, place.device, place.world_size)
        self.step = 0

    def run(self) -> bool:
        """Train to the end; False if stopped before."""
        self._resume()
        if self.place.rank == 0:
            name = "bf16 mixed precision" if self.dtype else "fp32"
            logger.info("training from step %d in %s on %s", self.step, name, self.place.device)
            self._log = MetricsLog(self.folder, self.step)
        try:
            return self._loop()
        finally:
            if self.place.rank == 0:
                self._log.close()

    def train_one(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One step of training."""
        progress = Progress(self.step, self.settings.steps, self.loader.epoch(self.step))
        for name, rate in self.model.learning_rates(progress).items():
            for group in self.optimizers[name].param_groups:
                group["lr"] = rate
        torch.manual_seed(noise_seed(self.experiment.run.seed, self.step, self.place.rank))
        with self._autocast():
            scalars = self.model.train_step(self.nets, self._to_device(batch), self.update, progress)
        self.update.end_step()
        self.step += 1
        return scalars

    def state(self) -> Checkpoint:
        """All that the run needs to go on from here."""
        optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        return Checkpoint(
            step=self.step,
            total_steps=self.settings.steps,
            skipped=self.update.skipped,
            identity=self.identity,
            model=self.model.state_dict(),
            optimizers=optimizers,
        )

    def restore(self, path: Path, saved: Checkpoint) -> None:
        """Take the state of a checkpoint, read from ``path``, of this very run."""
        checkpoint.check_identity(path, saved.identity, self.identity)
        self.model.load_state_dict(saved.model)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(saved.optimizers[name])
        self.update.restore(saved.skipped)
        self.step = saved.step

    def _loop(self) -> bool:
        total, averages, stop = self.settings.steps, Averages(), StopAgreement(self.place.world_size)
        batches = self.loader.batches(self.step)
        pace = Pace(self.step)
        while self.step < total:
            with pace.waiting():
                batch = next(batches)
            averages.add(self.train_one(batch))
            stopped = stop.agreed(self.watcher.stop_requested())
            last = stopped or self.step == total
            saves = last or self.step % self.settings.checkpoint_every == 0
            # A row ends at each checkpoint, too: then a resumed run writes the same rows as an undisturbed
            # one.
            every = self.settings.preview_every
            shows = every > 0 and (self.step % every == 0 or self.step == total)
            if saves or shows or self.step % self.settings.log_every == 0:
                self._write_row(averages, pace, shows)
            if saves and self.place.rank == 0:
                checkpoint.save(self.folder.checkpoints, self.state(), self.settings.keep_checkpoints)
            if stopped:
                break
        stop.settle()
        return self.step == total

    def _write_row(self, averages: Averages, pace: Pace, shows: bool) -> None:
        means = averages.take(self.place.device, self.place.world_size)
        if (in_a_row := self.update.longest_in_a_row) >= self.settings.max_skipped_in_a_row:
            raise RunError(
                f"{in_a_row} steps in a row before step {self.step} had an infinite or NaN gradient; "
                f"lower model.optimizer.learning_rate or set train.precision=fp32"
            )
        if self.place.rank != 0:
            return
        per_second, data_wait = pace.take(self.step, self.experiment.data.global_batch)
        row: Row = {
            "step": self.step,
            "epoch": round(self.loader.epoch(self.step), 4),
            "images_per_second": round(per_second, 2),
            "data_wait": round(data_wait, 4),
            "skipped": self.update.skipped,
            **{f"lr/{name}": optimizer.param_groups[0]["lr"] for name, optimizer in self.optimizers.items()},
            **means,
            **(self._look_at_held_out() if shows else {}),
        }
        self._log.write(row)
        self.watcher.row(row)

    def _look_at_held_out(self) -> dict[str, float]:
        """Draw the preview pictures; the scalars of the same images."""
        if self.held_out is None:
            return {}
        self.model.eval()
        torch.manual_seed(self.experiment.run.seed)  # the same noise in every picture of the run
        with torch.no_grad(), self._autocast():
            batch = self._to_device(self.held_out)
            pictures, scalars = self.model.previews(batch), self.model.eval_step(batch)
        self.model.train()
        self._log.write_previews(self.step, pictures)
        return {f"held_out/{name}": value.item() for name, value in scalars.items()}

    def _resume(self) -> None:
        """Every rank takes the checkpoint that rank 0 found."""
        newest = None
        if self.place.rank == 0:
            checkpoint.remove_leftovers(self.folder.checkpoints)
            newest = checkpoint.find_newest(self.folder.checkpoints)
        path = [newest[0] if newest else None]
        if self.place.world_size > 1:
            dist.broadcast_object_list(path)
        if path[0] is not None:
            self.restore(path[0], newest[1] if newest else checkpoint.load(path[0]))

    def _distribute(self, net: nn.Module) -> nn.Module:
        if self.place.world_size == 1:
            return net
        device_ids = [self.place.device] if self.place.device.type == "cuda" else None
        return DistributedDataParallel(net, device_ids=device_ids, forward_sync_buffers=False)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.place.device.type, self.dtype) if self.dtype else nullcontext()

    def _to_device(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.place.device.type == "cpu":
            return dict(batch)
        moved = {k: v.pin_memory().to(self.place.device, non_blocking=True) for k, v in batch.items()}
        moved["image"] = moved["image"].contiguous(memory_format=torch.channels_last)
        return moved


def identity_of(experiment: Experiment, loader: Data) -> Identity:
    """What decides the course of a run: the model, which samples come in which order, the seed."""
    order = experiment.data.of_order()
    model = experiment.model.model_dump(mode="json")
    return Identity(model, {**order, "digest": loader.digest}, experiment.run.seed)


def noise_seed(seed: int, step: int, rank: int) -> int:
    """Seed of torch's generator in one step of one rank."""
    digest = hashlib.blake2b(f"{seed} {step} {rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
