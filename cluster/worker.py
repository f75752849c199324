"""What runs in each worker: load the data, build the model, train, export."""

import json
import logging
from typing import Any

import ray
import torch

from cluster.checkpoint import restore_tensors
from cluster.checkpoints import Checkpoints
from cluster.config import Experiment
from cluster.engine import Engine, Place
from cluster.environment import describe
from cluster.errors import ClusterError, RunError
from cluster.held_out import read_held_out
from cluster.judge import prepare_judge
from cluster.leaving import AskedToLeaveError, asked_to_leave, training
from cluster.notes import NoteHandler
from cluster.run_folder import RunFolder
from cluster.worker_watch import RelayWatcher
from data_shards.errors import DataError
from data_shards.loader import Loader
from gmvae_drit.build import build_model
from gmvae_drit.errors import ModelError
from gmvae_drit.export import ExportConfig, save_export

logger = logging.getLogger(__name__)


def train_replica(config: dict[str, Any], place: Place) -> bool:
    """Train with ``config`` = {experiment, session, relay}; True if the run reached its end, False if it was stopped.

    The workers are started anew after any exception, and so after the loss of a peer, which shows as RuntimeError
    or OSError in the others. What a new start would not change is told to the relay first, and ends the run.
    """
    relay, rank = config["relay"], place.rank
    prefix, level = ("", logging.INFO) if rank == 0 else (f"worker {rank}: ", logging.WARNING)
    notes = NoteHandler(relay.post.remote, prefix, level)
    try:
        experiment = Experiment.model_validate(config["experiment"])
        with training():
            return _train(experiment, place, relay, config["session"])
    except (ClusterError, DataError, ModelError) as error:
        ray.get(relay.fail.remote(str(error)))
        raise
    except (RuntimeError, OSError, AskedToLeaveError):
        raise
    except Exception as error:
        # What breaks after another worker has told its reason is a consequence of that one's end.
        if ray.get(relay.fault.remote()) is None:
            logger.exception("a fault of the program")
            ray.get(relay.fail.remote(f"worker {rank}: {type(error).__name__}: {error}"))
        raise
    finally:
        notes.close()


def _train(experiment: Experiment, place: Place, relay: Any, session: str) -> bool:
    torch.set_num_threads(experiment.scaling.threads)
    run, t, folder = experiment.run, experiment.train, RunFolder(experiment.run.storage, experiment.run.name)
    if not folder.is_remote and not folder.config.exists():
        raise RunError(
            f"run.storage = {run.storage}: not the same folder on the machine of worker {place.rank} as on that of the "
            f"driver; give one that all machines share, or s3://bucket/prefix"
        )
    loader = Loader(experiment.data, seed=run.seed, rank=place.rank, world_size=place.world_size)
    watcher = RelayWatcher(relay, run.name, t.steps, place.rank, place.world_size)
    try:
        torch.manual_seed(run.seed)
        model = build_model(experiment.model, loader.domains)
        held_out = read_held_out(experiment.data, t, loader.domains, place.rank, place.world_size)
        watcher.at(0, "preparing the judge of translations")
        judge = prepare_judge(experiment, loader.domains, place.rank, place.world_size, place.device)
        if place.rank == 0:
            folder.create()
            folder.write(folder.environment, json.dumps(describe(), indent=1).encode())
        engine = Engine(experiment, model, loader, place, watcher, held_out, session, judge)
        finished = engine.run()
        if finished and place.rank == 0:
            watcher.at(engine.step, "exporting")
            _export(experiment, engine, loader, folder)
        if not finished and not watcher.driver_asked:
            if asked_to_leave():
                ray.get(relay.leaving.remote(place.rank))
            raise AskedToLeaveError
        return finished
    finally:
        watcher.close()
        loader.close()


def _export(experiment: Experiment, engine: Engine, loader: Loader, folder: RunFolder) -> None:
    """The model as it is now, or the best that was kept if `train.best_metric` says what is best."""
    t, step = experiment.train, engine.step
    if t.best_metric is not None:
        checkpoints = Checkpoints(folder)
        best = checkpoints.best(t.best_metric, t.best_is)
        assert best is not None, "the last step is measured and stored"
        restore_tensors(checkpoints.load(best).tensors, engine.model, engine.optimizers)
        logger.info("exporting step %d, the best by %s", best, t.best_metric)
        step = best
    image_size = min(next(loader.batches(0))["image"].shape[2:])
    config = ExportConfig(model=experiment.model, domains=loader.domains, image_size=image_size, step=step)
    try:
        save_export(folder.export, engine.model, config)
    except OSError as error:
        raise RunError(f"{folder.export}: cannot be written: {error.strerror}") from error
    folder.publish(folder.export / "model.safetensors")
    folder.publish(folder.export / "config.yaml")
