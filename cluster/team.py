"""Workers that train one run after another, without Ray Train: for the trials of a sweep.

They live in the placement group of the actor that makes them, so that all of a trial's workers have their place before
it starts, nothing waits for a group within a group, and everything is gone when the group is. Processes that stay save
the next trial the time to start them and to import torch.
"""

import socket
import time
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.config import Experiment, ScalingSettings
from cluster.errors import RunError
from cluster.lost_workers import describe_losses

AFTERMATH_SECONDS = 5.0
"""How long the loss of one worker may take to show in the others."""
MEET_SECONDS = 0.1
"""Between two looks for the address of rank 0."""


class Member:
    """One worker: an actor that trains its share of one run at a time."""

    def __init__(self) -> None:
        """Import what training needs, before there is anything to train."""
        import cluster.worker  # noqa: F401
        from cluster.leaving import catch_sigterm

        catch_sigterm()

    def train(self, config: dict[str, Any], rank: int, world_size: int) -> bool:
        """See `cluster.worker.train_replica`."""
        import torch
        import torch.distributed as dist

        from cluster.engine import Place
        from cluster.worker import train_replica

        experiment = Experiment.model_validate(config["experiment"])
        if world_size > 1:
            _meet(experiment, config["relay"], rank, world_size)
        # Ray shows each worker its own GPU alone.
        device = torch.device("cuda:0" if experiment.scaling.use_gpu else "cpu")
        try:
            return train_replica(config, Place(rank, world_size, device))
        finally:
            if world_size > 1:
                dist.destroy_process_group()
            ray.get(config["relay"].fault.remote())  # what was posted before this has arrived then


def _meet(experiment: Experiment, relay: Any, rank: int, world_size: int) -> None:
    """Make the process group of torch.distributed."""
    from datetime import timedelta

    import torch.distributed as dist

    if rank == 0:
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        relay.invite.remote(f"tcp://{host}:{port}")
    while (address := ray.get(relay.invitation.remote())) is None:
        time.sleep(MEET_SECONDS)
    dist.init_process_group(
        experiment.scaling.backend,
        init_method=address,
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=experiment.train.group_timeout),
    )


class Team:
    """The workers of one trial after another. Lost ones are replaced, and their run resumes."""

    def __init__(self, scaling: ScalingSettings) -> None:
        """One worker in each bundle of the placement group that this actor is in."""
        self._scaling = scaling
        self._members = self._hire()
        self._config: dict[str, Any] = {}
        self._tasks: list[Any] = []

    def train(self, experiment: Experiment, session: str, relay: Any) -> None:
        """Begin a run; `ended` tells when it is over. The relay must be a new one."""
        self._config = {
            "experiment": experiment.model_dump(mode="json"),
            "session": session,
            "relay": relay,
        }
        self._start()

    def ended(self, seconds: float) -> bool | None:
        """Wait so long at most: True at the end, False if the run was told to stop, None while it trains.

        Raises RunError where the run cannot go on.
        """
        done, failures = self._wait(seconds)
        if not failures:
            return all(ray.get(done)) if len(done) == len(self._tasks) else None
        _, failures = self._wait(AFTERMATH_SECONDS)
        self.dismiss()
        if fault := ray.get(self._config["relay"].lost.remote(describe_losses(failures), len(failures))):
            raise RunError(fault)
        self._start()
        return None

    def dismiss(self) -> None:
        """End all worker processes, whatever they do."""
        for member in self._members:
            ray.kill(member)
        self._members, self._tasks = [], []

    def _hire(self) -> list[Any]:
        group = ray.util.get_current_placement_group()
        assert group is not None, "a team is made by an actor of a trial"
        return [
            ray.remote(Member)
            .options(
                num_cpus=self._scaling.threads,
                num_gpus=1 if self._scaling.use_gpu else 0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, bundle),
            )
            .remote()
            for bundle in range(self._scaling.workers)
        ]

    def _start(self) -> None:
        if not self._members:
            self._members = self._hire()
        size = len(self._members)
        self._tasks = [
            member.train.remote(self._config, rank, size) for rank, member in enumerate(self._members)
        ]

    def _wait(self, seconds: float) -> tuple[list[Any], dict[int, Exception]]:
        """Tasks that are over, and the failures among them by rank."""
        done, _ = ray.wait(self._tasks, num_returns=len(self._tasks), timeout=seconds)
        failures: dict[int, Exception] = {}
        for task in done:
            try:
                ray.get(task)
            except ray.exceptions.RayError as error:
                failures[self._tasks.index(task)] = error
        return done, failures
