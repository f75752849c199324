"""The Ray Train job of a run."""

import os
from typing import Any

import ray
import ray.train.torch
from ray.train import (
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
)
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.config import Experiment
from cluster.errors import RunError
from cluster.leaving import catch_sigterm
from cluster.lost_workers import describe_losses

RESIZE_SECONDS = 30.0
"""Between two looks for more workers of an elastic run. Taking them costs a restart from the last checkpoint."""


class FailureWatch(UserCallback):
    """Tells the relay about lost workers, and ends the run where a restart would not help."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called by Ray in its controller before it decides on a restart; raising makes it give up."""
        lines = describe_losses(worker_exceptions)
        if fault := ray.get(self._relay.lost.remote(lines, len(worker_exceptions))):
            raise RunError(fault)


class LeanTrainer(TorchTrainer):
    """A `TorchTrainer` without actors that this training has no use for. Each costs a start 2 CPU s, for it imports all
    of Ray Train. They are known by name, so that a Ray without them is no worse."""

    def _create_default_callbacks(self) -> list[Any]:
        unused = {"DatasetsCallback"}
        if not os.environ.get(
            "RAY_ADDRESS"
        ):  # a Ray of our own ends with the driver, and nothing is left over
            unused.add("PlacementGroupCleanerCallback")
        callbacks: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
        return [each for each in callbacks if type(each).__name__ not in unused]


def make_trainer(experiment: Experiment, session: str, relay: Any, bookkeeping: str) -> TorchTrainer:
    """A trainer whose workers run `train_replica`. Ray keeps its own books in the folder ``bookkeeping``, where nobody
    needs them: the state of a run is in its checkpoints, and `FailureWatch` decides on restarts."""
    scaling = experiment.scaling
    workers: Any = scaling.workers if scaling.min_workers is None else (scaling.min_workers, scaling.workers)
    return LeanTrainer(
        _train_worker,  # type: ignore[arg-type]  # Ray hands its result on as `Result.return_value`
        train_loop_config={
            "experiment": experiment.model_dump(mode="json"),
            "session": session,
            "relay": relay,
        },
        torch_config=GracefulTorchConfig(backend=scaling.backend, timeout_s=experiment.train.group_timeout),
        scaling_config=ScalingConfig(
            num_workers=workers,
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,  # type: ignore[call-arg]  # as above
            use_gpu=scaling.use_gpu,
            resources_per_worker={"CPU": scaling.threads, **({"GPU": 1} if scaling.use_gpu else {})},
        ),
        run_config=RunConfig(
            name=experiment.run.name,
            storage_path=bookkeeping,
            failure_config=FailureConfig(max_failures=-1),
            callbacks=[FailureWatch(relay)],  # type: ignore[list-item]  # the annotation is that of Ray Tune
        ),
    )


def _train_worker(config: dict[str, Any]) -> bool:
    """Imports what it needs in the worker, and not in Ray's controller."""
    from cluster.engine import Place
    from cluster.worker import train_replica

    context = ray.train.get_context()
    place = Place(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    return train_replica(config, place)


class GracefulTorchConfig(TorchConfig):
    """Ray's `TorchConfig`, with workers that leave in order. Ray runs a train function in a thread, where no signal
    handler can be set, so the backend sets it, which Ray starts on each worker."""

    @property
    def backend_cls(self) -> type[Any]:
        """What Ray starts on the workers."""
        return _GracefulBackend


class _GracefulBackend(TorchConfig().backend_cls):  # type: ignore[misc]  # Ray's class is untyped
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(catch_sigterm)
        super().on_start(worker_group, backend_config)


def describe_end(error: BaseException) -> str:
    """Why `TorchTrainer.fit` gave up, in one line."""
    kind = "Ray" if isinstance(error, TrainingFailedError) else type(error).__name__
    return f"{kind}: {' '.join(str(error).split())}"
