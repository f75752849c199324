"""A trial: an actor of Ray Tune that has a run of `cluster` trained by its own workers, and hands on what they report.

The run is an ordinary one, with a folder of its own, so that it resumes from its checkpoints whoever goes on with it.
"""

import json
import secrets
import time
import traceback
from collections import deque
from typing import Any

import ray
from ray import tune

from cluster.checkpoints import Checkpoints
from cluster.config import Experiment
from cluster.errors import ClusterError
from cluster.events import EventLog
from cluster.notes import Event, Row
from cluster.relay import Relay
from cluster.row_parts import HELD_OUT, under
from cluster.run_folder import RunFolder
from cluster.team import Team
from data_shards.errors import DataError

STEP_SECONDS = 2.0
"""Between two signs of life of a trial, which is how long it may take until it hears that it shall stop."""
POLL_SECONDS = 0.5
STOP_SECONDS = 60.0
"""How long a training may take for its last checkpoint once it shall stop."""


class TrainingTrial(tune.Trainable):
    """Trains ``config`` = {experiment}. One after another where Tune reuses it, by the same worker processes."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the first."""
        self._ended: dict[str, Any] | None = None
        self._team = Team(Experiment.model_validate(config["experiment"]).scaling)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """End what is under way and begin another."""
        self._finish()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The next row of metrics; without one, `step` alone after a while. At the end `done`, and why it `failed`."""
        deadline = time.monotonic() + STEP_SECONDS
        try:
            while not self._rows and self._ended is None and time.monotonic() < deadline:
                self._watch(max(0.0, deadline - time.monotonic()))
        except Exception as error:  # a fault of the program: another attempt would meet it again
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{place.filename}:{place.lineno}"
            self._ended = {"done": True, "failed": f"{type(error).__name__}: {error} ({where})"}
        if self._rows:
            row = self._rows.popleft()
            self._step = row["step"]
            return {name: value for name, value in row.items() if isinstance(value, int | float)}
        return {"step": self._step} | (self._ended or {})

    def cleanup(self) -> None:
        """End what is under way, with a checkpoint, and the workers."""
        self._finish()
        self._team.dismiss()

    def _begin(self, config: dict[str, Any]) -> None:
        experiment = Experiment.model_validate(config["experiment"])
        t = experiment.train
        self._rows: deque[Row] = deque()
        self._step = 0
        self._ended = None
        self._relay: Any = ray.remote(num_cpus=0)(Relay).remote(t.hang_seconds, t.max_failures)
        try:
            folder = RunFolder(experiment.run.storage, experiment.run.name)
            folder.create()
            folder.write(folder.config, experiment.to_yaml().encode())
            session = secrets.token_hex(8)
            folder.claim(session)
            self._events = EventLog(folder)
            self._rows.extend(_rows_so_far(folder))
            self._team.train(experiment, session, self._relay)
        except (ClusterError, DataError) as error:
            self._ended = {"done": True, "failed": str(error)}

    def _watch(self, seconds: float) -> None:
        """Collect what the workers have told, and see whether they have ended."""
        finished, fault = None, ""
        try:
            finished = self._team.ended(min(POLL_SECONDS, seconds))
        except ClusterError as error:
            fault = str(error)
        for item in ray.get(self._relay.collect.remote()):
            if isinstance(item, Event):
                self._events.add(item)
            elif isinstance(item, dict):
                self._rows.append(item)
        step = self._rows[-1]["step"] if self._rows else self._step
        if fault:
            self._end(Event("error", fault), fault)
        elif finished:
            self._end(Event("finish", f"finished after step {step}", step))
        elif finished is not None:
            self._end(Event("stop", f"stopped after step {step}", step), "stopped before its end")

    def _end(self, event: Event, failed: str = "") -> None:
        self._events.add(event)
        self._ended = {"done": True, "failed": failed}

    def _finish(self) -> None:
        """Ask for a checkpoint and wait for it; workers that do not answer are ended."""
        deadline = time.monotonic() + STOP_SECONDS
        self._relay.request_stop.remote()
        while self._ended is None and time.monotonic() < deadline:
            self._watch(deadline - time.monotonic())
        if self._ended is None:
            self._team.dismiss()
        ray.kill(self._relay)


def _rows_so_far(folder: RunFolder) -> list[Row]:
    """What a run that resumes has measured up to its checkpoint: whoever left it may not have told it all."""
    newest = Checkpoints(folder).newest_index()
    if newest is None or not folder.fetch(folder.metrics):
        return []
    rows = [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["step"] <= newest.step and under(HELD_OUT, row)]
