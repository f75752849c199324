"""A small adversarial model and an endless synthetic data set, to test the engine without the real ones.

Run as a script, one process per rank, it trains with the engine and saves what became of it.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from cluster.config import Experiment
from cluster.engine import Engine, Place
from cluster.errors import RunError
from cluster.held_out import HeldOut
from cluster.run_folder import RunFolder
from cluster.watcher import Watcher
from gmvae_drit.model import Model


class Toy(Model):
    """A generator and a discriminator trained in turn; `poison` = {rank, steps} makes losses NaN."""

    def __init__(self, poison=None):
        super().__init__()
        self.generator = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 1))
        self.discriminator = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Flatten(), nn.LazyLinear(1))
        self.discriminator(torch.zeros(1, 3, 8, 8))
        self.poison = poison or {"rank": -1, "steps": []}

    def networks(self):
        return {"generator": self.generator, "discriminator": self.discriminator}

    def optimizers(self):
        return {name: torch.optim.Adam(net.parameters(), fused=True) for name, net in self.networks().items()}

    def learning_rates(self, progress):
        return {"generator": 1e-2 * (1 - progress.fraction), "discriminator": 1e-3}

    def train_step(self, nets, batch, update, progress):
        image = batch["image"].float() / 127.5 - 1
        noise = torch.randn_like(image) if progress.step > 0 else 0.0
        fake = nets["generator"](image + 0.1 * noise)
        verdict = nets["discriminator"](torch.cat([image, fake.detach()]))
        real, false = verdict.chunk(2)
        d_loss = nn.functional.softplus(-real).mean() + nn.functional.softplus(false).mean()
        update("discriminator", d_loss, clip_norm=5.0)
        self.discriminator.requires_grad_(False)
        g_loss = nn.functional.softplus(-self.discriminator(fake)).mean() + (fake - image).abs().mean()
        rank = int(os.environ.get("RANK", 0))
        if rank == self.poison["rank"] and progress.step in self.poison["steps"]:
            g_loss = g_loss * float("nan")
        update("generator", g_loss)
        self.discriminator.requires_grad_(True)
        return {"discriminator": d_loss.detach(), "generator": g_loss.detach()}

    def exported(self):
        return self.generator

    @torch.no_grad()
    def eval_step(self, batch):
        image = batch["image"].float() / 127.5 - 1
        return {"reconstruction": (self.generator(image) - image).abs().mean()}

    @torch.no_grad()
    def previews(self, batch):
        picture = self.generator(batch["image"].float() / 127.5 - 1)[0]
        return {"translation": ((picture.clamp(-1, 1) + 1) * 127.5).to(torch.uint8)}


class ToyData:
    """Batch `step` is a function of (seed, step); a rank gets its part of each half."""

    digest = "toy"

    def __init__(self, experiment, rank=0, world_size=1):
        self.seed, self.share = experiment.run.seed, experiment.data.global_batch // 2
        self.mine = slice(rank * self.share // world_size, (rank + 1) * self.share // world_size)

    def epoch(self, step):
        return step / 10

    def batch(self, step):
        random = np.random.default_rng([self.seed, step])
        image = random.integers(0, 256, (2, self.share, 3, 8, 8), dtype=np.uint8)[:, self.mine]
        domain = torch.arange(2).repeat_interleave(image.shape[1])
        return {"image": torch.from_numpy(image.reshape(-1, 3, 8, 8)), "domain": domain}

    def batches(self, start_step):
        step = start_step
        while True:
            yield self.batch(step)
            step += 1


class Watching(Watcher):
    """Keeps the rows; asks to stop once `stop_after` steps were counted."""

    def __init__(self, stop_after=None):
        self.rows, self.saves, self.asked, self.stop_after = [], [], 0, stop_after

    def saved(self, step):
        self.saves.append(step)

    def row(self, row):
        self.rows.append(row)

    def stop_requested(self):
        self.asked += 1
        return self.asked == self.stop_after


def experiment(storage, steps=10, workers=1, **train):
    return Experiment.model_validate(
        {
            "run": {"name": "toy", "storage": str(storage), "seed": 3},
            "data": {"uri": str(storage), "global_batch": 8},
            "train": {
                "steps": steps,
                "precision": "fp32",
                "log_every": 2,
                "checkpoint_every": 5,
                "preview_every": 5,
                "evaluate_every": 5,
                **train,
            },
            "scaling": {"workers": workers},
        }
    )


def engine(settings, rank=0, world_size=1, watcher=None, poison=None):
    """An engine around the toys, in a run folder that exists."""
    RunFolder(settings.run.storage, settings.run.name).create()
    torch.manual_seed(settings.run.seed)
    data = ToyData(settings, rank, world_size)
    place = Place(rank, world_size, torch.device("cpu"))
    batches = [ToyData(settings).batch(step) for step in range(3)]
    held_out = HeldOut(batches[0] if rank == 0 else None, batches[rank::world_size])
    return Engine(settings, Toy(poison), data, place, watcher or Watching(), held_out)


def main():
    task = json.loads(sys.argv[1])
    out, rank, world_size = Path(task["out"]), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if world_size > 1:
        dist.init_process_group("gloo", f"file://{out}/rendezvous", rank=rank, world_size=world_size)
    settings = experiment(task["storage"], workers=world_size, **task.get("train", {}))
    stops_here = task.get("stop", {}).get("rank") == rank
    watcher = Watching(task["stop"]["after"] if stops_here else None)
    trainer = engine(settings, rank, world_size, watcher, task.get("poison"))
    result = {"error": None}
    try:
        result["finished"] = trainer.run()
    except RunError as error:
        result["error"] = str(error)
    gradients = {name: p.grad for name, p in trainer.model.named_parameters()}
    state = trainer.state()
    result |= {"step": state.step, "skipped": state.skipped, "gradients": gradients}
    torch.save(result | {"tensors": state.tensors}, out / f"{rank}.pt")
    if world_size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
