"""The training loop without Ray, on one and on two gloo processes."""

import json
import shutil

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from toy import Toy, Watching, engine, experiment

from cluster.checkpoint import Identity
from cluster.checkpoints import Checkpoints, index_name
from cluster.errors import RunError
from cluster.parts import Shares
from cluster.run_folder import RunFolder
from cluster.update import GuardedUpdate


def rows(storage):
    """Rows of metrics.jsonl without the timings."""
    text = RunFolder(str(storage), "toy").metrics.read_text()
    timings = ("images_per_second", "data_wait", "seconds", "workers")
    return [{k: v for k, v in json.loads(line).items() if k not in timings} for line in text.splitlines()]


def assert_same(state, other):
    """Equal bit for bit."""
    assert type(state) is type(other)
    if isinstance(state, dict):
        assert state.keys() == other.keys()
        for key in state:
            assert_same(state[key], other[key])
    elif isinstance(state, torch.Tensor):
        assert torch.equal(state, other)
    else:
        assert state == other


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_gradients_of_workers_equal_those_of_one_on_the_joined_batch(processes, tmp_path, workers):
    """Also where the four images of a domain cannot be shared out evenly."""
    (alone,) = processes(1, storage=str(tmp_path / "one"), train={"steps": 1})
    ranks = processes(workers, storage=str(tmp_path / "more"), train={"steps": 1})
    for name, gradient in alone["gradients"].items():
        torch.testing.assert_close(ranks[0]["gradients"][name], gradient, rtol=1e-5, atol=1e-7)
        assert all(torch.equal(ranks[0]["gradients"][name], rank["gradients"][name]) for rank in ranks)
    one, more = rows(tmp_path / "one")[-1], rows(tmp_path / "more")[-1]
    assert one["discriminator"] == pytest.approx(more["discriminator"], rel=1e-5)


@pytest.mark.slow
def test_accumulated_gradients_equal_those_of_the_whole_batch(processes, tmp_path):
    """On two workers in two passes each, of which only the last talks. Exact for what is updated first; what comes
    after it sees, in all passes but the last, the discriminator of the step before."""
    (whole,) = processes(1, storage=str(tmp_path / "whole"), train={"steps": 1})
    ranks = processes(2, storage=str(tmp_path / "parts"), train={"steps": 1, "images_per_pass": 1})
    for name, gradient in whole["gradients"].items():
        close = (
            {"rtol": 1e-5, "atol": 1e-7} if name.startswith("discriminator") else {"rtol": 0.05, "atol": 1e-3}
        )
        torch.testing.assert_close(ranks[0]["gradients"][name], gradient, **close)
        assert torch.equal(ranks[0]["gradients"][name], ranks[1]["gradients"][name])


@pytest.mark.slow
def test_a_stopped_and_resumed_run_equals_an_undisturbed_one_on_two_workers(processes, tmp_path):
    whole = processes(2, storage=str(tmp_path / "whole"))
    # Rank 1 alone is asked to stop, at its sixth step; both ranks stop one step later.
    stopped = processes(2, storage=str(tmp_path / "parts"), stop={"rank": 1, "after": 6})
    assert [rank["step"] for rank in stopped] == [7, 7]
    assert not any(rank["finished"] for rank in stopped)
    resumed = processes(2, storage=str(tmp_path / "parts"))
    for rank in (0, 1):
        assert_same(resumed[rank]["tensors"], whole[rank]["tensors"])


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_on_one_rank_is_skipped_on_all(processes, tmp_path):
    left, right = processes(2, storage=str(tmp_path / "run"), poison={"rank": 1, "steps": [3, 4, 7]})
    assert left["skipped"] == right["skipped"] == 3
    assert_same(left["tensors"], right["tensors"])
    assert all(value.isfinite().all() for value in left["tensors"].values())
    assert left["tensors"]["optimizer/generator/0/step"] == 7
    assert left["tensors"]["optimizer/discriminator/0/step"] == 10
    last = rows(tmp_path / "run")[-1]
    assert last["skipped"] == 3
    assert rows(tmp_path / "run")[1]["generator"] is None, "NaN is null in JSON"


@pytest.mark.slow
def test_too_many_skipped_steps_in_a_row_stop_all_ranks(processes, tmp_path):
    train = {"max_skipped_in_a_row": 3}
    ranks = processes(2, storage=str(tmp_path / "run"), train=train, poison={"rank": 0, "steps": [1, 2, 3]})
    for rank in ranks:
        assert rank["error"].startswith("3 steps in a row before step 4 had an infinite or NaN loss or")


def test_rows_after_the_resumed_step_are_dropped_and_written_again(tmp_path):
    assert engine(experiment(tmp_path)).run()
    whole = rows(tmp_path)
    assert [row["step"] for row in whole] == [2, 4, 5, 6, 8, 10]
    folder = RunFolder(str(tmp_path), "toy")
    (folder.root / index_name(10)).unlink()
    with folder.metrics.open("a") as file:
        file.write('{"step": 11, "gener')  # a kill while writing
    (folder.root / ".building" / "step-00000010.safetensors").touch()
    resumed = engine(experiment(tmp_path))
    assert resumed.run()
    assert rows(tmp_path) == whole
    assert Checkpoints(folder).steps()[0] == 10, (
        "the toy may be faster than the storage, which leaves step 5 out then"
    )
    assert not list((folder.root / ".building").iterdir())
    assert sorted(path.name for path in folder.previews.iterdir()) == ["step-000005.png", "step-000010.png"]


@pytest.mark.slow
def test_held_out_means_do_not_depend_on_the_number_of_workers(processes, tmp_path):
    """Nor on a rank that has nothing to measure: there are three batches."""
    for workers in (1, 4):
        processes(workers, storage=str(tmp_path / str(workers)), train={"steps": 1})  # whose noise is none
    one, four = (rows(tmp_path / workers)[-1]["held_out/reconstruction"] for workers in ("1", "4"))
    assert one == pytest.approx(four, rel=1e-4)


def test_a_checkpoint_of_another_run_is_refused_naming_what_differs(tmp_path):
    engine(experiment(tmp_path)).run()
    other = experiment(tmp_path)
    mixture = other.model.mixture.model_copy(update={"components": 7})
    other = other.model_copy(update={"model": other.model.model_copy(update={"mixture": mixture})})
    with pytest.raises(RunError, match=r"belongs to another run: model\.mixture\.components was 2, is 7$"):
        engine(other).run()
    trainer = engine(experiment(tmp_path))
    trainer.identity = Identity(trainer.identity.model, {"digest": "new"}, trainer.identity.seed)
    with pytest.raises(RunError, match=r"data\.digest was toy, is new"):
        trainer.run()


def test_a_stop_on_one_worker_is_at_once(tmp_path):
    watcher = Watching(stop_after=3)
    assert not engine(experiment(tmp_path), watcher=watcher).run()
    assert [row["step"] for row in watcher.rows] == [2, 3]
    assert Checkpoints(RunFolder(str(tmp_path), "toy")).steps() == [3]


def test_weights_cached_by_autocast_are_fresh_after_an_update():
    """Inside one autocast region, the forward after an update must see the updated weights."""
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    update = GuardedUpdate({"net": optimizer}, torch.device("cpu"))
    x = torch.randn(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        update("net", net(x).square().sum())
        inside = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(inside, net(x))


def test_learning_rates_follow_the_schedule_of_the_model(tmp_path):
    trainer = engine(experiment(tmp_path, steps=4))
    seen = []
    batches = trainer.loader.batches(0)
    for _ in range(4):
        trainer.train_one(next(batches))
        seen.append(trainer.optimizers["generator"].param_groups[0]["lr"])
    assert seen == pytest.approx([1e-2, 0.75e-2, 0.5e-2, 0.25e-2])
    assert isinstance(trainer.model, Toy)


@pytest.mark.parametrize(
    ("train", "told"),
    [
        (
            {"compile": ["translator"]},
            "train.compile = translator: the networks are generator, discriminator",
        ),
        ({"best_metric": "cycle"}, "train.best_metric = cycle: must be one of reconstruction"),
    ],
)
def test_names_that_nothing_has_are_refused_soon(tmp_path, train, told):
    with pytest.raises(RunError) as caught:
        engine(experiment(tmp_path, **train)).run()
    assert str(caught.value) == told


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPUs")
def test_a_compiled_network_trains_as_the_plain_one(tmp_path):
    """As far as one process on a CPU can tell; under the same names in its checkpoint."""
    plain, compiled = (
        engine(experiment(tmp_path / name, steps=2, **train))
        for name, train in (("plain", {}), ("compiled", {"compile": ["generator"]}))
    )
    assert plain.run()
    assert compiled.run()
    ours, theirs = compiled.state().tensors, plain.state().tensors
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_not_finite_is_skipped_though_its_gradient_is_zero():
    net = torch.nn.Linear(2, 1)
    update = GuardedUpdate({"net": torch.optim.SGD(net.parameters(), lr=1.0)}, torch.device("cpu"))
    before = net.weight.detach().clone()
    update("net", (net(torch.ones(1, 2)) * 0).sum() + torch.tensor(float("inf")))
    update.end_step()
    assert update.skipped == 1
    assert torch.equal(net.weight, before)


@given(
    share=st.integers(1, 24),
    ranks=st.integers(1, 24),
    per_pass=st.integers(1, 24),
    halves=st.sampled_from([1, 2]),
)
def test_every_image_is_in_one_pass_of_one_rank_and_counts_the_same(share, ranks, per_pass, halves):
    assume(ranks <= share)
    shares = Shares(share, ranks, per_pass)
    seen, weight = [], 0.0
    for rank in range(ranks):
        mine = torch.arange(rank * share // ranks, (rank + 1) * share // ranks)
        batch = {"index": mine.repeat(halves), "domain": torch.arange(halves).repeat_interleave(len(mine))}
        parts = shares.parts(batch)
        assert len(parts) == shares.passes, "ranks meet in each pass"
        assert [part.is_last for _, part in parts] == [False] * (len(parts) - 1) + [True]
        for images, part in parts:
            assert len(images["index"]) > 0
            seen += zip(images["domain"].tolist(), images["index"].tolist(), strict=True)
            # DDP takes the mean over ranks, a loss the mean over its images.
            each = part.weight / ranks / (len(images["index"]) / halves)
            assert each == pytest.approx(1 / share)
            weight += part.weight / ranks
    assert sorted(seen) == [(d, i) for d in range(halves) for i in range(share)]
    assert weight == pytest.approx(1)
