"""The cost model against closed forms, and the counted step against the model itself."""

from dataclasses import replace

import pytest

from benchmarks import scaling_costs as costs
from benchmarks.scaling_costs import H100
from benchmarks.scaling_step import Bucket, at_batch, count_step
from gmvae_drit.build import build_model
from gmvae_drit.config import GmvaeDritSettings

SMALL = GmvaeDritSettings.model_validate(
    {
        "content": {"width": 8, "max_width": 16, "residual_blocks": 1},
        "attribute": {"width": 8, "max_width": 16, "downsamplings": 2},
        "generator": {"residual_blocks": 1},
        "discriminator": {"width": 8, "max_width": 16, "downsamplings": 2},
        "content_discriminator": {"width": 8},
    }
)


@pytest.fixture(scope="module")
def count():
    return count_step(SMALL, 2, 32)


def test_parameters_and_buckets_are_those_of_the_built_model(count):
    nets = build_model(SMALL, ("a", "b")).networks()
    assert {name: part.parameters for name, part in count.parts.items()} == {
        name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()
    }
    for part in count.parts.values():
        assert sum(bucket.size for bucket in part.buckets) == 4 * part.parameters
        assert part.buckets[-1].ready == pytest.approx(1, abs=0.05)
        assert list(part.buckets) == sorted(part.buckets, key=lambda bucket: bucket.ready)


@pytest.mark.slow
def test_a_step_is_linear_in_its_batch(count):
    four, eight = (count_step(SMALL, batch, 32) for batch in (4, 8))
    expected = at_batch(count, four, 8)
    assert expected.flops == eight.flops
    assert expected.operators == eight.operators
    assert expected.bytes_moved == pytest.approx(eight.bytes_moved, rel=0.02)
    assert expected.bytes_kept == pytest.approx(eight.bytes_kept, rel=0.02)


def test_one_gpu_sends_nothing():
    assert costs.volume(1) == costs.ring(1e9, 1, H100) == costs.tree(1e9, 1, H100) == 0
    assert costs.two_level(1e9, 1, H100) == costs.stop_agreement(1) == 0


@pytest.mark.parametrize("gpus", [8, 64, 512])
def test_a_ring_without_latency_sends_just_under_twice_the_message(monkeypatch, gpus):
    for name in ("RING_BASE", "RING_NVLINK", "RING_NETWORK"):
        monkeypatch.setattr(costs, name, 0.0)
    rate = costs.LINK_SHARE * (H100.nvlink if gpus == 8 else H100.network)
    assert costs.ring(1e9, gpus, H100) == pytest.approx(2 * (gpus - 1) / gpus * 1e9 / rate)
    assert costs.ring(1e9, 10**9, H100) == pytest.approx(2 * 1e9 / (costs.LINK_SHARE * H100.network))


def test_latency_of_a_ring_grows_with_the_gpus_and_that_of_a_tree_with_their_logarithm():
    ring, tree = ([how(0, gpus, H100) for gpus in (64, 128, 256)] for how in (costs.ring, costs.tree))
    assert ring[2] - ring[1] == pytest.approx(2 * (ring[1] - ring[0]))
    assert tree[2] - tree[1] == pytest.approx(tree[1] - tree[0])


def test_a_backward_pass_hides_all_but_its_last_bucket():
    early, last = Bucket(10**6, 0.1), Bucket(10**6, 1.0)
    alone = costs.all_reduce(10**6, 64, H100)
    assert costs.exposed([early, last], 1.0, 64, H100) == pytest.approx(alone)
    assert costs.exposed([early, last], 0.0, 64, H100) == pytest.approx(2 * alone)
    assert costs.exposed([early], 1.0, 64, H100) == 0


def test_the_host_bounds_a_small_step_and_the_gpu_a_large_one(count):
    assert costs.compute_time(count, H100) == count.operators * costs.PER_OPERATOR
    large = replace(count, flops=10**15, bytes_moved=0)
    assert costs.compute_time(large, H100) == pytest.approx(1e15 / (costs.MATRIX_SHARE * H100.bf16))


@pytest.mark.parametrize(("mean_time", "expected"), [(24 * 60, 117), (6 * 60, 57), (15, 9.1)])
def test_checkpoint_interval_is_the_published_one(mean_time, expected):
    """Daly 2006, figures 3 to 5: a checkpoint takes 5 minutes."""
    assert costs.daly(5, mean_time) == pytest.approx(expected, rel=0.01)


def test_the_best_interval_loses_least():
    best = costs.young(5, 36_000)
    assert costs.lost(best, 5, 36_000) < min(costs.lost(best * f, 5, 36_000) for f in (0.5, 2))
