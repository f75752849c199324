"""The training loop of one process: pure torch and torch.distributed, without Ray.

The engine knows nothing of the model but `gmvae_drit.model.Model`. The state of a run is (model, optimizers,
step): data, noise and schedules are functions of the step, so a resumed run repeats an undisturbed one bit
for bit. Buffers of a model must not differ between ranks: a checkpoint holds those of rank 0.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cluster.checkpoint import Checkpoint, Identity, check_identity, restore_tensors, tensors_of
from cluster.checkpoints import Checkpoints
from cluster.config import Experiment
from cluster.errors import RunError
from cluster.held_out import HeldOut
from cluster.judge import Judge
from cluster.metrics import Averages, Pace, SampleSum, gather, memory_mib
from cluster.notes import Row
from cluster.parts import Shares
from cluster.precision import resolve_precision, set_up_libraries
from cluster.recorder import Recorder
from cluster.resume import newest_checkpoint
from cluster.run_folder import RunFolder
from cluster.stop import StopAgreement
from cluster.update import GuardedUpdate
from cluster.watcher import Watcher
from gmvae_drit.model import Model, Progress

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

    @property
    def share(self) -> int:
        """Images of each domain in a global batch."""

    def epoch(self, step: int) -> float:
        """Passes over the largest domain after ``step`` steps."""

    def batches(self, start_step: int) -> Iterator[Mapping[str, Tensor]]:
        """This rank's batches from ``start_step`` on, without end."""


class Engine:
    """Trains one model replica from the newest checkpoint of its run to the last step."""

    def __init__(
        self,
        experiment: Experiment,
        model: Model,
        loader: Data,
        place: Place,
        watcher: Watcher,
        held_out: HeldOut,
        session: str | None = None,
        judge: Judge | None = None,
    ) -> None:
        """A ``session`` must still own the run whenever a checkpoint is stored (`RunFolder.claim`)."""
        self.experiment, self.loader, self.place, self.watcher = experiment, loader, place, watcher
        self.settings, self.held_out, self.judge, self.session = experiment.train, held_out, judge, session
        set_up_libraries(place.device, self.settings.deterministic)
        self.folder = RunFolder(experiment.run.storage, experiment.run.name)
        self.identity = identity_of(experiment, loader)
        self.shares = Shares(loader.share, place.world_size, self.settings.images_per_pass)
        self.model = model.to(place.device)
        if place.device.type == "cuda":
            self.model = self.model.to(memory_format=torch.channels_last)
        self.optimizers = model.optimizers()
        if unknown := set(self.settings.compile) - model.networks().keys():
            raise RunError(
                f"train.compile = {', '.join(sorted(unknown))}: the networks are {', '.join(model.networks())}"
            )
        self.nets = {name: self._distribute(name, net) for name, net in model.networks().items()}
        self.update = GuardedUpdate(self.optimizers, place.device)
        self.dtype = resolve_precision(self.settings.precision, place.device, place.world_size)
        self.averages, self.samples = Averages(), SampleSum()
        self.step = 0

    def run(self) -> bool:
        """Train to the end; False if stopped before. Everything is in the storage when this returns."""
        self.watcher.at(self.step, "looking for a checkpoint")
        self._resume()
        if self.place.rank != 0:
            return self._loop(None)
        name = "bf16 mixed precision" if self.dtype else "fp32"
        logger.info("training from step %d in %s on %s", self.step, name, self.place.device)
        self.watcher.started(self.step, self.place.world_size)
        recorder = Recorder(self.folder, self.settings, self.step, self.watcher.saved, self.session)
        try:
            finished = self._loop(recorder)
            self.watcher.at(self.step, "storing the last checkpoint")
            recorder.flush()
        finally:
            recorder.close()
        return finished

    def train_one(self, batch: Mapping[str, Tensor]) -> None:
        """One step of training; its scalars are added to `averages`."""
        self.samples.add(self.step, batch)
        progress = Progress(self.step, self.settings.steps, self.loader.epoch(self.step))
        for name, rate in self.model.learning_rates(progress).items():
            for group in self.optimizers[name].param_groups:
                group["lr"] = rate
        torch.manual_seed(noise_seed(self.experiment.run.seed, self.step, self.place.rank))
        for images, part in self.shares.parts(batch):
            self.update.part = part
            progress = replace(progress, ends_step=part.is_last)
            with self._autocast(), nullcontext() if part.is_last else self._no_sync():
                scalars = self.model.train_step(self.nets, self._to_device(images), self.update, progress)
            self.averages.add(scalars, part.weight)
        self.update.end_step()
        self.step += 1

    def state(self, metrics: Mapping[str, float] | None = None) -> Checkpoint:
        """All that the run needs to go on from here, with held-out ``metrics`` of this step if there are any."""
        return Checkpoint(
            step=self.step,
            total_steps=self.settings.steps,
            skipped=self.update.skipped,
            identity=self.identity,
            tensors=tensors_of(self.model, self.optimizers),
            metrics=dict(metrics or {}),
        )

    def restore(self, saved: Checkpoint) -> None:
        """Take the state of a checkpoint of this very run."""
        check_identity(f"{self.folder.uri}: checkpoint of step {saved.step}", saved.identity, self.identity)
        restore_tensors(saved.tensors, self.model, self.optimizers)
        self.update.restore(saved.skipped)
        self.step = saved.step

    def _loop(self, recorder: Recorder | None) -> bool:
        total, s, stop = self.settings.steps, self.settings, StopAgreement(self.place.world_size)
        self.watcher.at(self.step, "waiting for data")
        batches = self.loader.batches(self.step)
        self._pace = Pace(self.step)
        while self.step < total:
            self.watcher.at(self.step, "waiting for data")
            with self._pace.waiting():
                batch = next(batches)
            self.watcher.at(self.step, "training")
            self.train_one(batch)
            stopped = stop.agreed(self.watcher.stop_requested())
            saves = stopped or self._due(s.checkpoint_every)
            shows = not stopped and self._due(s.preview_every)
            measures = not stopped and self._due(s.evaluate_every)
            # A row ends at each checkpoint, too: then a resumed run writes the same rows as an undisturbed one.
            if saves or shows or measures or self.step % s.log_every == 0:
                metrics = self._measure_held_out() if measures else {}
                self._write_row(recorder, metrics)
                if recorder is not None:
                    if shows and self.held_out.pictured is not None:
                        recorder.pictures(self.step, self._draw_previews())
                    if saves:
                        recorder.checkpoint(self.state(metrics))
            if stopped:
                break
        stop.settle()
        return self.step == total

    def _due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now; 0 is never."""
        return every > 0 and (self.step % every == 0 or self.step == self.settings.steps)

    def _write_row(self, recorder: Recorder | None, held_out: Mapping[str, float]) -> None:
        device, world_size = self.place.device, self.place.world_size
        means = self.averages.take(device, world_size)
        if (in_a_row := self.update.longest_in_a_row) >= self.settings.max_skipped_in_a_row:
            raise RunError(
                f"{in_a_row} steps in a row before step {self.step} had an infinite or NaN loss or gradient; "
                f"lower model.optimizer.learning_rate or set train.precision=fp32"
            )
        per_second, data_wait = self._pace.take(self.step, self.experiment.data.global_batch)
        mine = [per_second / world_size, data_wait, memory_mib(device), self.samples.take()]
        workers = gather(mine, device, world_size)
        if recorder is None:
            return
        recorder.check()
        shares = self.model.component_shares()
        row: Row = {
            "step": self.step,
            "epoch": round(self.loader.epoch(self.step), 4),
            "seconds": round(time.time(), 2),
            "images_per_second": round(per_second, 2),
            "data_wait": round(max(worker[1] for worker in workers), 4),
            "skipped": self.update.skipped,
            "samples": f"{int(sum(worker[3] for worker in workers)):x}",
            "workers": [
                {"images_per_second": round(w[0], 2), "data_wait": round(w[1], 4), "memory_mib": round(w[2])}
                for w in workers
            ],
            **({} if shares is None else {"components": shares.tolist()}),
            **{f"lr/{name}": optimizer.param_groups[0]["lr"] for name, optimizer in self.optimizers.items()},
            **means,
            **{f"held_out/{name}": value for name, value in held_out.items()},
        }
        recorder.row(row)
        self.watcher.row(row)

    def _measure_held_out(self) -> dict[str, float]:
        """Means over the held-out images, of which each rank looks at its share, and what the judge says."""
        self.watcher.at(self.step, "evaluating")
        averages = Averages()
        with self._looking():
            for batch in self.held_out.measured:
                averages.add(self.model.eval_step(self._to_device(batch)), weight=len(batch["domain"]))
            metrics = averages.take_uneven(self.place.world_size)
            if self.judge is not None:
                metrics |= self.judge.measure(self.model.exported())
        if self.settings.best_metric not in (None, *metrics):
            raise RunError(
                f"train.best_metric = {self.settings.best_metric}: must be one of {', '.join(metrics)}"
                if metrics
                else f"train.best_metric = {self.settings.best_metric}: nothing is measured, for there is no test split"
            )
        return metrics

    def _draw_previews(self) -> dict[str, Tensor]:
        self.watcher.at(self.step, "drawing previews")
        assert self.held_out.pictured is not None
        with self._looking():
            return self.model.previews(self._to_device(self.held_out.pictured))

    def _looking(self) -> AbstractContextManager[object]:
        """The model in evaluation, and the same noise in every look of the run."""
        torch.manual_seed(self.experiment.run.seed)
        stack = ExitStack()
        stack.enter_context(torch.no_grad())
        stack.enter_context(self._autocast())
        self.model.eval()
        stack.callback(self.model.train)
        return stack

    def _resume(self) -> None:
        checkpoints, place = Checkpoints(self.folder), self.place
        if place.rank == 0:
            checkpoints.sweep()
        saved = newest_checkpoint(checkpoints, place.rank, place.world_size, place.device)
        if saved is not None:
            self.restore(saved)

    def _distribute(self, name: str, net: nn.Module) -> nn.Module:
        if name in self.settings.compile:
            net.compile()
        if self.place.world_size == 1:
            return net
        device_ids = [self.place.device] if self.place.device.type == "cuda" else None
        return DistributedDataParallel(net, device_ids=device_ids, forward_sync_buffers=False)

    def _no_sync(self) -> AbstractContextManager[object]:
        """Within it, gradients stay with their rank."""
        stack = ExitStack()
        for net in self.nets.values():
            if isinstance(net, DistributedDataParallel):
                stack.enter_context(net.no_sync())
        return stack

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
