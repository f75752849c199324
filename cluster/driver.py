"""Starts a run, watches it, and says in one line what stopped it.

Whatever can be checked without Ray is checked before Ray starts.
"""

import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from cluster.checkpoint import check_identity
from cluster.checkpoints import Checkpoints
from cluster.config import Experiment, ScalingSettings
from cluster.engine import identity_of
from cluster.errors import ClusterError, RunError
from cluster.events import EventLog
from cluster.judge import check_judge
from cluster.notes import Event, Note, NoteHandler
from cluster.progress import ProgressLine
from cluster.ray_session import ray_session
from cluster.run_folder import RunFolder
from data_shards.errors import DataError
from data_shards.loader import Loader
from gmvae_drit.build import check_domains
from gmvae_drit.errors import ModelError

POLL_SECONDS = 0.3
SILENT_SECONDS = 10.0
"""Without word from any worker, after which a run that shall stop is not waited for."""


def run(experiment: Experiment) -> int:
    """Train to the end, or resume what is there; the exit code of the process. Raises what a user can act on."""
    located = with_absolute_paths(experiment)
    folder = RunFolder(located.run.storage, located.run.name)
    check_devices(located.scaling)
    loader = Loader(located.data, seed=located.run.seed, world_size=located.scaling.workers)
    check_domains(located.model, loader.domains)
    check_judge(located, loader.domains)
    folder.create()
    with folder.lock(), ProgressLine(located.run.name, located.train.steps) as line:
        notes = NoteHandler(line.note)
        try:
            if _is_finished(located, folder, loader, line):
                return 0
            return _recorded(located, folder, line)
        except KeyboardInterrupt:
            line.say("Stopped at once. The same command goes on from the last checkpoint, if there is one.")
            return 128 + signal.SIGINT
        finally:
            notes.close()
            loader.close()


def _recorded(experiment: Experiment, folder: RunFolder, line: ProgressLine) -> int:
    """Run on Ray, with what befalls the run in its events."""
    session = secrets.token_hex(8)
    folder.write(folder.config, experiment.to_yaml().encode())
    folder.claim(session)
    events = EventLog(folder)
    try:
        return _run_on_ray(experiment, folder, session, line, events)
    except (ClusterError, DataError, ModelError) as error:
        events.add(Event("error", str(error)))
        raise


def with_absolute_paths(experiment: Experiment) -> Experiment:
    """Workers may have another working directory."""
    run, data = experiment.run, experiment.data
    if "://" not in run.storage:
        run = run.model_copy(update={"storage": str(Path(run.storage).absolute())})
    if "://" not in data.uri:
        data = data.model_copy(update={"uri": str(Path(data.uri).absolute())})
    return experiment.model_copy(update={"run": run, "data": data})


def check_devices(scaling: ScalingSettings) -> None:
    """Raise where this machine, on which Ray will start, lacks the GPUs."""
    import torch

    if scaling.use_gpu and not os.environ.get("RAY_ADDRESS") and torch.cuda.device_count() < scaling.workers:
        raise RunError(
            f"scaling.use_gpu: {scaling.workers} workers need a GPU each, this machine has "
            f"{torch.cuda.device_count()}; set scaling.use_gpu=false or lower scaling.workers"
        )


def _is_finished(experiment: Experiment, folder: RunFolder, loader: Loader, line: ProgressLine) -> bool:
    """Whether there is nothing left to do; raises where this is not the run that the folder holds."""
    newest, steps = Checkpoints(folder).newest_index(), experiment.train.steps
    exported = folder.fetch(folder.export / "config.yaml")
    export = f"{folder.uri}/export"
    if newest is None:
        if exported:
            raise RunError(
                f"{folder.uri}: holds an export but no checkpoint; use a new run.name or delete it"
            )
        return False
    check_identity(f"{folder.uri}/{newest.name}", newest.identity, identity_of(experiment, loader))
    if newest.step > steps:
        raise RunError(f"train.steps = {steps}: this run has trained {newest.step} steps; use a new run.name")
    if newest.step == steps and exported:
        line.say(f"Run {experiment.run.name} is finished: {steps} steps, model in {export}")
        return True
    line.say(f"Resuming run {experiment.run.name} after step {newest.step}.")
    if newest.total_steps != steps:
        line.say(
            f"train.steps was {newest.total_steps} and is {steps}: schedules stretch to the new length from here "
            f"on, so the result is not that of {steps} steps from the start."
        )
    return False


def _run_on_ray(
    experiment: Experiment, folder: RunFolder, session: str, line: ProgressLine, events: EventLog
) -> int:
    line.say("Joining the Ray cluster." if os.environ.get("RAY_ADDRESS") else "Starting Ray.")
    bookkeeping = tempfile.mkdtemp(prefix="gmvae-drit-ray-")
    try:
        scaling = experiment.scaling
        with ray_session(scaling.cpus, scaling.gpus, "cluster.trainer"):
            import ray

            from cluster.relay import Relay
            from cluster.trainer import describe_end, make_trainer

            t = experiment.train
            relay: Any = ray.remote(num_cpus=0)(Relay).remote(t.hang_seconds, t.max_failures)
            fit = fit_in_thread(make_trainer(experiment, session, relay, bookkeeping))
            with stop_on_signals(relay.request_stop.remote, line.say) as signals:
                while not fit.done():
                    _show(ray.get(relay.collect.remote()), line, events)
                    if signals and ray.get(relay.silence.remote()) > SILENT_SECONDS:
                        raise KeyboardInterrupt  # there is no worker that could save anything
                    wait([fit], POLL_SECONDS)
            _show(ray.get(relay.collect.remote()), line, events)
            if (error := fit.exception()) is not None:
                raise RunError(ray.get(relay.fault.remote()) or describe_end(error)) from error
    finally:
        shutil.rmtree(bookkeeping, ignore_errors=True)
    steps = experiment.train.steps
    if fit.result().return_value:
        events.add(Event("finish", f"finished after step {steps}", steps))
        line.say(f"Finished. Model in {folder.uri}/export")
        return 0
    step = Checkpoints(folder).steps()[0]
    events.add(Event("stop", f"stopped after step {step}", step))
    line.say(f"Stopped after step {step} of {steps}, checkpoint saved. The same command resumes the run.")
    return 128 + signals[0]


class _Fits(Protocol):
    def fit(self) -> Any: ...


def fit_in_thread(trainer: _Fits) -> "Future[Any]":
    """Run ``trainer.fit()`` beside the main thread, where Ray would take Ctrl-C as an order to drop everything."""
    fit: Future[Any] = Future()

    def work() -> None:
        try:
            fit.set_result(trainer.fit())
        except BaseException as error:  # Ray ends a waiting thread by SystemExit
            fit.set_exception(error)

    threading.Thread(target=work, name="ray-train", daemon=True).start()
    return fit


@contextmanager
def stop_on_signals(stop: Callable[[], object], say: Callable[[str], None]) -> Iterator[list[int]]:
    """The first Ctrl-C or SIGTERM asks all to save and stop, the second leaves at once. Yields those received."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt
        stop()
        say("Stopping after the current step, with a checkpoint. Once more to stop at once.")

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _show(mail: list[Any], line: ProgressLine, events: EventLog) -> None:
    for item in mail:
        if isinstance(item, Note):
            line.note(item)
        elif isinstance(item, Event):
            events.add(item)
            if item.kind in ("lost", "warning"):
                line.note(Note(logging.WARNING, item.text))
        else:
            line.row(item)
