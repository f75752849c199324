"""Starts a run, watches it, and says in one line what stopped it.

Whatever can be checked without Ray is checked before Ray starts.
"""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from cluster import checkpoint
from cluster.config import Experiment
from cluster.engine import identity_of
from cluster.errors import RunError
from cluster.notes import Note, NoteHandler
from cluster.progress import ProgressLine
from cluster.ray_session import ray_session
from cluster.run_folder import RunFolder, write_atomically
from data_shards.loader import Loader
from gmvae_drit.build import check_domains

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

POLL_SECONDS = 0.3


def run(experiment: Experiment) -> int:
    """Train to the end, or resume what is there; the exit code of the process. Raises what a user can act on."""
    located = _with_absolute_paths(experiment)
    folder = RunFolder(located.run.storage, located.run.name)
    _check_devices(located)
    loader = Loader(located.data, seed=located.run.seed, world_size=located.scaling.workers)
    check_domains(located.model, loader.domains)
    folder.create()
    with folder.lock(), ProgressLine(located.run.name, located.train.steps) as line:
        notes = NoteHandler(line.note)
        try:
            if _is_finished(located, folder, loader, line):
                return 0
            write_atomically(folder.config, lambda file: file.write(experiment.to_yaml().encode()))
            return _run_on_ray(located, folder, line)
        except KeyboardInterrupt:
            line.say("Stopped at once. The same command goes on from the last checkpoint.")
            return 128 + signal.SIGINT
        finally:
            notes.close()
            shutil.rmtree(folder.ray, ignore_errors=True)


def _with_absolute_paths(experiment: Experiment) -> Experiment:
    """Workers may have another working directory."""
    run, data = experiment.run, experiment.data
    run = run.model_copy(update={"storage": str(Path(run.storage).absolute())})
    if "://" not in data.uri:
        data = data.model_copy(update={"uri": str(Path(data.uri).absolute())})
    return experiment.model_copy(update={"run": run, "data": data})


def _check_devices(experiment: Experiment) -> None:
    import torch

    scaling = experiment.scaling
    if scaling.use_gpu and not os.environ.get("RAY_ADDRESS") and torch.cuda.device_count() < scaling.workers:
        raise RunError(
            f"scaling.use_gpu: {scaling.workers} workers need a GPU each, this machine has "
            f"{torch.cuda.device_count()}; set scaling.use_gpu=false or lower scaling.workers"
        )


def _is_finished(experiment: Experiment, folder: RunFolder, loader: Loader, line: ProgressLine) -> bool:
    """Whether there is nothing left to do; raises where this is not the run that the folder holds."""
    newest, steps = checkpoint.find_newest(folder.checkpoints), experiment.train.steps
    exported = (folder.export / "config.yaml").exists()
    if newest is None:
        if exported:
            raise RunError(
                f"{folder.root}: holds an export but no checkpoint; use a new run.name or delete it"
            )
        return False
    path, saved = newest
    checkpoint.check_identity(path, saved.identity, identity_of(experiment, loader))
    if saved.step > steps:
        raise RunError(f"train.steps = {steps}: this run has trained {saved.step} steps; use a new run.name")
    if saved.step == steps and exported:
        line.say(f"Run {experiment.run.name} is finished: {steps} steps, model in {folder.export}")
        return True
    line.say(f"Resuming run {experiment.run.name} after step {saved.step}.")
    if saved.total_steps != steps:
        line.say(
            f"train.steps was {saved.total_steps} and is {steps}: schedules stretch to the new length from here "
            f"on, so the result is not that of {steps} steps from the start."
        )
    return False


def _run_on_ray(experiment: Experiment, folder: RunFolder, line: ProgressLine) -> int:
    line.say("Starting Ray.")
    with ray_session(experiment.scaling):
        import ray

        from cluster.relay import Relay
        from cluster.trainer import describe_end, make_trainer

        relay: Any = ray.remote(num_cpus=0)(Relay).remote()
        fit = _fit_in_thread(make_trainer(experiment, folder, relay))
        with _stop_on_signals(relay, line) as signals:
            while not fit.done():
                _show(ray.get(relay.collect.remote()), line)
                wait([fit], POLL_SECONDS)
        _show(ray.get(relay.collect.remote()), line)
        if (error := fit.exception()) is not None:
            fault = ray.get(relay.fault.remote())
            raise RunError(fault or describe_end(error, experiment.train.max_failures)) from error
    if fit.result().return_value:
        line.say(f"Finished. Model in {folder.export}")
        return 0
    newest = checkpoint.newest_first(folder.checkpoints)[0]
    line.say(
        f"Stopped after step {checkpoint.step_of(newest)} of {experiment.train.steps}, checkpoint saved. "
        f"The same command resumes the run."
    )
    return 128 + signals[0]


def _fit_in_thread(trainer: "TorchTrainer") -> "Future[Any]":
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
def _stop_on_signals(relay: Any, line: ProgressLine) -> Iterator[list[int]]:
    """The first Ctrl-C or SIGTERM asks the workers to save and stop, the second leaves at once."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt
        relay.request_stop.remote()
        line.say("Stopping after the current step, with a checkpoint. Once more to stop at once.")

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _show(mail: list[Any], line: ProgressLine) -> None:
    for item in mail:
        if isinstance(item, Note):
            line.note(item)
        else:
            line.row(item)
