"""Trains an experiment in this process: the engine, loader and run folder of `python -m cluster train`, without Ray.

For scripts that compare many short runs on one thread each. A run that was killed goes on from its last checkpoint, one
that is finished is not trained again.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

import torch

from cluster.checkpoint import differences
from cluster.checkpoints import Checkpoints
from cluster.config import Experiment, load
from cluster.engine import Engine, Place
from cluster.errors import RunError
from cluster.held_out import HeldOut
from cluster.notes import Row
from cluster.run_folder import RunFolder, write_atomically
from cluster.watcher import Watcher
from data_shards.loader import Loader
from gmvae_drit.build import build_model
from gmvae_drit.config import DritSettings, GmvaeDritSettings, LossWeights
from gmvae_drit.export import CONFIG, ExportConfig, load_export, save_export
from gmvae_drit.translator import Translator

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")
WHERE = {"run": {"storage"}, "data": {"uri"}}
"""What of an experiment has no bearing on its result."""


def configure(path: str | Path, overrides: Mapping[str, object]) -> Experiment:
    """As `cluster.config.load`, but `model.kind: drit` drops what only a mixture has instead of refusing it: so one
    configuration of a mixture serves its baseline, too."""
    rest = {key: value for key, value in overrides.items() if key != "model.kind"}
    if overrides.get("model.kind") != "drit":
        return load(path, overrides)
    experiment = load(path, rest)
    assert isinstance(experiment.model, GmvaeDritSettings)
    return experiment.model_copy(update={"model": single_gaussian(experiment.model)})


def single_gaussian(settings: GmvaeDritSettings) -> DritSettings:
    """DRIT++ with every setting that it shares with the mixture."""
    shared = settings.model_dump(include=set(DritSettings.model_fields) - {"kind", "loss"})
    loss = settings.loss.model_dump(include=set(LossWeights.model_fields))
    return DritSettings.model_validate({**shared, "loss": loss})


def train(experiment: Experiment) -> tuple[Translator, float]:
    """The averaged translator after the whole run, as its export holds it, and the CPU seconds of its training.

    Sets the threads of torch in this process. Raises RunError where the run's folder holds another run.
    """
    folder = RunFolder(experiment.run.storage, experiment.run.name)
    folder.create()
    with folder.lock():
        _claim(folder, experiment)
        clock = CpuClock(folder)
        if not (folder.export / CONFIG).exists():  # the last file of an export
            _train(experiment, folder, clock)
        return load_export(folder.export)[0], clock.noted[experiment.train.steps]


def pool(processes: int) -> ProcessPoolExecutor:
    """Processes for runs side by side, which end with this one: left alone by a killed script, they would go on and
    keep their folders from the next."""
    return ProcessPoolExecutor(processes, initializer=_end_with, initargs=(os.getpid(),))


def as_done(
    run: Callable[[Job], Outcome], jobs: Iterable[Job], processes: int
) -> Iterator[tuple[Job, Outcome]]:
    """What `run` makes of each job, in so many processes, as it comes."""
    with pool(processes) as executor:
        futures = {executor.submit(run, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _end_with(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class CpuClock(Watcher):
    """A watcher that writes down the CPU seconds of the run at each row of metrics, and so before each checkpoint. What
    a killed run did after its last checkpoint is not counted, for it is done again."""

    def __init__(self, folder: RunFolder) -> None:
        self._file = folder.root / "cpu_seconds.json"
        text = self._file.read_text() if self._file.exists() else "{}"
        self.noted = {int(step): seconds for step, seconds in json.loads(text).items()}
        """CPU seconds by step."""
        saved = Checkpoints(folder).steps()
        self._before = self.noted[saved[0]] if saved else 0.0
        self._start = time.process_time()

    def row(self, row: Row) -> None:
        """See `cluster.watcher.Watcher`."""
        self.noted[row["step"]] = self._before + time.process_time() - self._start
        write_atomically(self._file, lambda file: file.write(json.dumps(self.noted).encode()))


def _claim(folder: RunFolder, experiment: Experiment) -> None:
    """Write the configuration, or see that the one there is the same."""
    if not folder.config.exists():
        write_atomically(folder.config, lambda file: file.write(experiment.to_yaml().encode()))
        return
    there, wanted = (e.model_dump(mode="json", exclude=WHERE) for e in (load(folder.config), experiment))
    if changes := differences(there, wanted):
        raise RunError(f"{folder.root}: belongs to another run: {'; '.join(changes)}")


def _train(experiment: Experiment, folder: RunFolder, clock: CpuClock) -> None:
    torch.set_num_threads(experiment.scaling.threads)
    loader = Loader(experiment.data, seed=experiment.run.seed)
    try:
        torch.manual_seed(experiment.run.seed)
        model = build_model(experiment.model, loader.domains)
        engine = Engine(experiment, model, loader, Place(0, 1, torch.device("cpu")), clock, HeldOut(None, []))
        engine.run()
        image_size = min(next(loader.batches(0))["image"].shape[2:])
    finally:
        loader.close()
    export = ExportConfig(
        model=experiment.model, domains=loader.domains, image_size=image_size, step=engine.step
    )
    save_export(folder.export, model, export)
