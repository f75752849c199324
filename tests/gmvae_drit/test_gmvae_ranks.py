"""The GMVAE on two gloo processes with DDP against one process on the joined batch, in float64.

Noise is a function of (step, draw, sample), as in `test_ranks`. Rank r holds the r-th half of the joined batch.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import test_ranks
import tiny
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from gmvae_drit.gmvae.model import Gmvae
from gmvae_drit.gmvae.settings import GmvaeSettings
from gmvae_drit.model import Progress

pytestmark = pytest.mark.slow

STEPS, BATCH = 2, 8
SETTINGS = {
    "components": 3,
    "latent_size": 4,
    "image_size": 16,
    "network": {"kind": "conv", "width": 8, "features": 16},
    "loss": {"usage": 200, "entropy": 50, "consistency": 200, "categ": 0.3},
    "usage_momentum": 0.5,
}


def train(rank, world_size):
    """Gradients as the optimizer saw them, logs and the final state."""
    torch.manual_seed(0)
    model = Gmvae(GmvaeSettings.model_validate(SETTINGS)).train()
    nets = model.networks()
    if world_size > 1:
        nets = {name: DistributedDataParallel(net, forward_sync_buffers=False) for name, net in nets.items()}
    sgd = {name: torch.optim.SGD(net.parameters(), lr=1e-4) for name, net in nets.items()}
    update, gradients, logs = tiny.Update(nets, sgd), [], []
    ids = torch.arange(BATCH).chunk(world_size)[rank]
    for step in range(STEPS):
        image = 2 * torch.rand(BATCH, 3, 16, 16, generator=torch.Generator().manual_seed(step)) - 1
        batch = {"image": image[ids], "domain": torch.zeros(len(ids), dtype=torch.int64)}
        untouched = torch.get_rng_state()
        with pytest.MonkeyPatch.context() as monkeypatch:
            test_ranks.noise_of_samples(monkeypatch, ids, step)
            logs.append(model.train_step(nets, batch, update, Progress(step, 100, 0.0)))
        assert torch.equal(torch.get_rng_state(), untouched), "a random draw escaped the patches"
        gradients.append(update.gradients["gmvae"])
        update.gradients = {}
    return {"gradients": gradients, "logs": logs, "state": model.state_dict()}


def main(rank, world_size, folder):
    """One process."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = lambda x: x  # it would lower the precision here
    if world_size > 1:
        store = dist.FileStore(str(folder / "store"), world_size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    torch.save(train(rank, world_size), folder / f"{rank}-of-{world_size}.pt")
    if world_size > 1:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What rank 0 and 1 of two processes, and a single process, computed."""
    folder = tmp_path_factory.mktemp("gmvae-ranks")
    places = [(0, 2), (1, 2), (0, 1)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(rank), str(world_size), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, world_size in places
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(errors)
    return [torch.load(folder / f"{rank}-of-{world_size}.pt") for rank, world_size in places]


def test_two_ranks_compute_the_loss_and_gradient_of_the_joined_batch(runs):
    first, second, joined = runs
    for step in range(STEPS):
        for name, value in joined["logs"][step].items():
            mean = (first["logs"][step][name] + second["logs"][step][name]) / 2
            torch.testing.assert_close(mean, value, rtol=1e-9, atol=1e-12, msg=name)
        scale = max(float(g.abs().max()) for g in joined["gradients"][step].values())
        for name, g in joined["gradients"][step].items():
            for rank in (first, second):
                assert float((rank["gradients"][step][name] - g).abs().max()) < 1e-10 * scale, name
    assert joined["logs"][-1]["usage"] > 0


def test_two_ranks_end_in_the_same_state_as_one_process(runs):
    first, second, joined = (run["state"] for run in runs)
    assert first.keys() == joined.keys()
    for name, value in joined.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-9, atol=1e-11, msg=name)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
