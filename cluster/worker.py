"""What runs in each Ray Train worker: load the data, build the model, train, export."""

import logging
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from cluster.config import Experiment
from cluster.engine import Engine, Place
from cluster.errors import ClusterError, RunError
from cluster.notes import NoteHandler
from cluster.previews import held_out_batch
from cluster.relay import RelayWatcher
from cluster.run_folder import RunFolder
from data_shards.errors import DataError
from data_shards.loader import Loader
from gmvae_drit.build import build_model
from gmvae_drit.errors import ModelError
from gmvae_drit.export import ExportConfig, save_export

logger = logging.getLogger(__name__)


def train_worker(config: dict[str, Any]) -> bool:
    """Train with ``config`` = {experiment, relay}; True if the run reached its end, False if it was stopped.

    Ray restarts the workers after any exception, and so after the loss of a peer, which shows as RuntimeError
    or OSError in the others. What a restart would not change is told to the relay first, and ends the run.
    """
    relay = config["relay"]
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    prefix, level = ("", logging.INFO) if rank == 0 else (f"worker {rank}: ", logging.WARNING)
    notes = NoteHandler(relay.post.remote, prefix, level)
    try:
        experiment = Experiment.model_validate(config["experiment"])
        return _train(experiment, Place(rank, world_size, ray.train.torch.get_device()), relay)
    except (ClusterError, DataError, ModelError) as error:
        ray.get(relay.fail.remote(str(error)))
        raise
    except (RuntimeError, OSError):
        raise
    except Exception as error:
        # What breaks after another worker has told its reason is a consequence of that one's end.
        if ray.get(relay.fault.remote()) is None:
            logger.exception("a fault of the program")
            ray.get(relay.fail.remote(f"worker {rank}: {type(error).__name__}: {error}"))
        raise
    finally:
        notes.close()


def _train(experiment: Experiment, place: Place, relay: Any) -> bool:
    torch.set_num_threads(experiment.scaling.threads)
    run = experiment.run
    loader = Loader(experiment.data, seed=run.seed, rank=place.rank, world_size=place.world_size)
    watcher = RelayWatcher(relay)
    try:
        torch.manual_seed(run.seed)
        model = build_model(experiment.model, loader.domains)
        held_out = None
        if place.rank == 0 and experiment.train.preview_every:
            held_out = held_out_batch(experiment.data, loader.domains, experiment.train.preview_images)
        engine = Engine(experiment, model, loader, place, watcher, held_out)
        finished = engine.run()
        if finished and place.rank == 0:
            _export(experiment, engine, loader)
        return finished
    finally:
        watcher.close()
        loader.close()


def _export(experiment: Experiment, engine: Engine, loader: Loader) -> None:
    folder = RunFolder(experiment.run.storage, experiment.run.name).export
    image_size = min(next(loader.batches(0))["image"].shape[2:])
    config = ExportConfig(
        model=experiment.model, domains=loader.domains, image_size=image_size, step=engine.step
    )
    try:
        save_export(folder, engine.model, config)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written: {error.strerror}") from error
