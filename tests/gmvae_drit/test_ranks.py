"""Two gloo processes with DDP against one process on the joined batch, in float64.

The real model and step, with everything random in them made a function of (step, draw, sample): so a sample meets the
same noise wherever it is computed. Rank r holds the images [A_r, B_r]; the joined batch is [A_0, A_1, B_0, B_1].
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from gmvae_drit.model import Progress

pytestmark = pytest.mark.slow

HALF = 2  # images of either domain on each of two ranks
STEPS = 2
TERMS = {"usage": 0.7, "information": 0.8, "information_floor": 1.0, "component_regression": 0.3}
CASES = {
    "concat": {
        "loss": {**TERMS, "content_reconstruction": 0.4, "free_bits": 0.05},
        "discriminator": {"r1_weight": 0.3, "r1_every": 2},
        "content_discriminator": {"clip_norm": 0.01},
    },
    "adain": {
        "loss": TERMS,
        "gumbel": {"hard": True},
        "content": {"jitter": 0.5},
        "generator": {"kind": "adain", "noise_injection": True},
        "discriminator": {"conditioning": "select", "scales": 2, "spectral_norm": True},
        "content_discriminator": None,
    },
    "responsibilities": {
        "loss": {**TERMS, "entropy": 0.4, "consistency": 0.5, "attribute_consistency": 0.6},
        "mixture": {
            "posterior": "responsibilities",
            "covariance": "full",
            "warmup": {"share": 0.01, "codes": 5, "restarts": 2},  # ends with the first step
        },
    },
    "drit": {
        "kind": "drit",
        "loss": {"reconstruction_type": "bce"},
        "generator": {"kind": "featurewise", "up_convolutions": 2},
        "discriminator": {"norm": "instance"},
        "content_discriminator": {"every": 2},
    },
}


def noise_of_samples(monkeypatch, ids, step):
    """Replaces torch's random functions. `ids` are the samples of this process; m times as many rows are m copies."""
    draws = iter(range(1000))

    def fill(tensor, draw_into):
        draw, n = next(draws), len(ids)
        rows = tensor if tensor.shape[0] % n == 0 else tensor.transpose(0, 1)
        for i, row in enumerate(rows):
            copy, sample = divmod(i, n)
            seed = ((step * 1000 + draw) * 100 + copy) * 100 + int(ids[sample])
            draw_into(row, torch.Generator().manual_seed(seed))
        return tensor

    normal, exponential = torch.Tensor.normal_, torch.Tensor.exponential_
    patches = {
        (torch, "randn_like"): lambda x: fill(torch.empty_like(x), lambda row, g: normal(row, generator=g)),
        (torch, "rand"): lambda *shape, device: fill(
            torch.empty(shape), lambda row, g: row.uniform_(generator=g)
        ),
        (torch, "randint"): lambda high, shape, device: fill(
            torch.empty(shape, dtype=torch.int64), lambda row, g: row.random_(high, generator=g)
        ),
        (torch.Tensor, "normal_"): lambda x: fill(x, lambda row, g: normal(row, generator=g)),
        (torch.Tensor, "exponential_"): lambda x: fill(x, lambda row, g: exponential(row, generator=g)),
    }
    for (owner, name), function in patches.items():
        monkeypatch.setattr(owner, name, function)


def domains_of(case):
    """Three, of which batches hold two; but a warm-up has to see all."""
    return 2 if case == "responsibilities" else 3


def joined_batch(case, step):
    """The last domain and the first, 2 * HALF images each."""
    return tiny.batch((domains_of(case) - 1, 0), half=2 * HALF, seed=step)


def samples_of(rank, world_size):
    """Which rows of the joined batch a rank holds."""
    first = torch.arange(2 * HALF).chunk(world_size)[rank]
    return torch.cat([first, 2 * HALF + first])


def train(case, rank, world_size):
    """Gradients as each optimizer saw them, logs and the final state."""
    model = tiny.model(domains_of(case), optimizer={"weight_decay": 0}, **CASES[case])
    nets = model.networks()
    if world_size > 1:
        nets = {name: DistributedDataParallel(net, forward_sync_buffers=False) for name, net in nets.items()}
    sgd = {name: torch.optim.SGD(net.parameters(), lr=0.01) for name, net in nets.items()}
    update, gradients, logs = tiny.Update(nets, sgd), [], []
    ids = samples_of(rank, world_size)
    for step in range(STEPS):
        batch = {name: x[ids] for name, x in joined_batch(case, step).items()}
        untouched = torch.get_rng_state()
        with pytest.MonkeyPatch.context() as monkeypatch:
            noise_of_samples(monkeypatch, ids, step)
            logs.append(model.train_step(nets, batch, update, Progress(step, 100, 0.0)))
        assert torch.equal(torch.get_rng_state(), untouched), "a random draw escaped the patches"
        gradients.append(update.gradients)
        update.gradients = {}
    return {"gradients": gradients, "logs": logs, "state": model.state_dict()}


def main(rank, world_size, folder):
    """One process: all cases, saved to `folder`."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = lambda x: x  # it would lower the precision here
    if world_size > 1:
        store = dist.FileStore(str(folder / "store"), world_size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    torch.save({case: train(case, rank, world_size) for case in CASES}, folder / f"{rank}-of-{world_size}.pt")
    if world_size > 1:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What rank 0 and 1 of two processes, and a single process, computed."""
    folder = tmp_path_factory.mktemp("ranks")
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
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(errors)
    return [torch.load(folder / f"{rank}-of-{world_size}.pt") for rank, world_size in places]


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_two_ranks_are_those_of_the_joined_batch(runs, case):
    for rank in (0, 1):
        for step in range(STEPS):
            ours, theirs = runs[rank][case]["gradients"][step], runs[2][case]["gradients"][step]
            assert ours.keys() == theirs.keys()
            for network in theirs:
                scale = max(float(g.abs().max()) for g in theirs[network].values())
                worst = max(float((ours[network][k] - g).abs().max()) for k, g in theirs[network].items())
                assert worst < 1e-10 * scale, (rank, step, network, worst / scale)


@pytest.mark.parametrize("case", CASES)
def test_logs_of_two_ranks_average_to_those_of_the_joined_batch(runs, case):
    for step in range(STEPS):
        first, second, joined = (run[case]["logs"][step] for run in runs)
        assert first.keys() == joined.keys()
        for name, value in joined.items():
            torch.testing.assert_close(
                (first[name] + second[name]) / 2, value, rtol=1e-9, atol=1e-12, msg=name
            )
    assert all(joined[name] > 0 for name in ("usage", "information") if CASES[case]["loss"].get(name))


@pytest.mark.parametrize("case", CASES)
def test_ranks_end_in_the_same_state_as_one_process(runs, case):
    """Weights, averaged weights, the running mean of the components, power iterations; by the same names."""
    first, second, joined = (run[case]["state"] for run in runs)
    assert first.keys() == joined.keys()
    assert not any(name.startswith("module.") or ".module." in name for name in first)
    for name, value in joined.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-9, atol=1e-11, msg=name)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
