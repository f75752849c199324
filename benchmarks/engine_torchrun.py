"""The training loop of `cluster` without Ray, for `benchmarks/engine.py`: one process of a torchrun.

    python -m torch.distributed.run --standalone --nproc-per-node=2 -m benchmarks.engine_torchrun \
        cluster/configs/demo.yaml run.name=alone scaling.workers=2

Builds what `cluster/worker.py` builds, and trains with the same engine. Takes the words of `python -m cluster train`.
"""

import os
import sys

import torch
import torch.distributed as dist

from cluster.config import load, parse_overrides
from cluster.engine import Engine, Place
from cluster.held_out import read_held_out
from cluster.run_folder import RunFolder
from cluster.watcher import Watcher
from data_shards.loader import Loader
from gmvae_drit.build import build_model


def main() -> None:
    experiment = load(sys.argv[1], parse_overrides(sys.argv[2:]))
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(experiment.scaling.threads)
    dist.init_process_group("gloo")
    run = experiment.run
    RunFolder(run.storage, run.name).create()
    loader = Loader(experiment.data, seed=run.seed, rank=rank, world_size=world_size)
    torch.manual_seed(run.seed)
    model = build_model(experiment.model, loader.domains)
    held_out = read_held_out(experiment.data, experiment.train, loader.domains, rank, world_size)
    place = Place(rank, world_size, torch.device("cpu"))
    Engine(experiment, model, loader, place, Watcher(), held_out).run()
    loader.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
