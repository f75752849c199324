"""The Ray Train job of a run."""

import logging
from textwrap import shorten
from typing import Any

import ray
from ray.train import (
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
    WorkerGroupError,
)
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.config import Experiment
from cluster.errors import RunError
from cluster.notes import Note
from cluster.run_folder import RunFolder
from cluster.worker import train_worker


class FailureWatch(UserCallback):
    """Tells the driver about lost workers, and ends the run where a restart would not help."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called by Ray in its controller before it decides on a restart; raising makes it give up."""
        if fault := ray.get(self._relay.fault.remote()):
            raise RunError(fault)
        for line in describe_losses(worker_exceptions):
            self._relay.post.remote(Note(logging.WARNING, line))


def make_trainer(experiment: Experiment, folder: RunFolder, relay: Any) -> TorchTrainer:
    """A trainer whose workers run `train_worker`. Ray's own files go to ``.ray`` in the run's folder."""
    scaling = experiment.scaling
    return TorchTrainer(
        train_worker,  # type: ignore[arg-type]  # Ray hands its result on as `Result.return_value`
        train_loop_config={"experiment": experiment.model_dump(mode="json"), "relay": relay},
        torch_config=TorchConfig(backend="nccl" if scaling.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=scaling.workers,
            use_gpu=scaling.use_gpu,
            resources_per_worker={"CPU": scaling.threads, **({"GPU": 1} if scaling.use_gpu else {})},
        ),
        run_config=RunConfig(
            name=folder.ray.name,
            storage_path=str(folder.ray.parent),
            failure_config=FailureConfig(max_failures=experiment.train.max_failures),
            callbacks=[FailureWatch(relay)],  # type: ignore[list-item]  # the annotation is that of Ray Tune
        ),
    )


def describe_losses(failures: dict[int, Exception]) -> list[str]:
    """One line per lost worker."""
    lines = []
    for rank, failure in sorted(failures.items()):
        # The error of a train function reads as its traceback, whose last line says what happened.
        told = [line.strip() for line in str(failure).splitlines() if line.strip()]
        died = not told or "process has died" in told[-1]
        lines.append(f"worker {rank} died" if died else f"worker {rank}: {shorten(told[-1], 160)}")
    return lines


def describe_end(error: BaseException, max_failures: int) -> str:
    """Why `TorchTrainer.fit` gave up, in one line."""
    if isinstance(error, WorkerGroupError):
        lost = "; ".join(describe_losses(error.worker_failures))
        return f"gave up after {max_failures} restarts (train.max_failures): {lost}"
    kind = "Ray" if isinstance(error, TrainingFailedError) else type(error).__name__
    return f"{kind}: {' '.join(str(error).split())}"
