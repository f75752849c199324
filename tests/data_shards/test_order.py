"""The order of samples: exactly once, in chunks, and a pure function of its key."""

import subprocess
import sys
from collections import Counter
from itertools import combinations
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.order import DomainOrder, PairOrder, Stream, generator

orders = st.builds(
    DomainOrder,
    seed=st.integers(0, 2**63),
    domain=st.integers(0, 5),
    samples=st.integers(1, 600),
    batch=st.integers(1, 40),
    chunk=st.just(0),
    window=st.integers(1, 6),
    tail=st.sampled_from(["drop", "pad"]),
).flatmap(
    lambda order: st.integers(1, 50).map(
        lambda chunk: DomainOrder(
            order.seed, order.domain, order.samples, order.batch, chunk, chunk * order.window, order.tail
        )
    )
)


def lane_samples(order: DomainOrder, epoch: int, lane: int) -> list[int]:
    windows = [order.lane_window(epoch, lane, window) for window in range(order.windows_per_epoch(lane))]
    return np.concatenate(windows).tolist() if windows else []


@settings(max_examples=150, deadline=None)
@given(order=orders, epoch=st.integers(0, 10_000))
def test_an_epoch_shows_every_sample_once(order: DomainOrder, epoch: int) -> None:
    lanes = [lane_samples(order, epoch, lane) for lane in range(order.batch)]
    assert {len(lane) for lane in lanes} == {order.steps_per_epoch}
    shown = Counter(sample for lane in lanes for sample in lane)
    if order.tail == "drop":
        assert set(shown) <= set(range(order.samples))
        assert set(shown.values()) <= {1}
        assert order.samples - len(shown) < order.batch
    else:
        assert set(shown) == set(range(order.samples))
        assert shown.total() - order.samples < order.batch


@settings(max_examples=100, deadline=None)
@given(order=orders, epoch=st.integers(0, 100), data=st.data())
def test_a_window_is_read_in_few_runs_of_neighbours(
    order: DomainOrder, epoch: int, data: st.DataObject
) -> None:
    if order.steps_per_epoch == 0:
        return
    lane = data.draw(st.integers(0, order.batch - 1))
    window = data.draw(st.integers(0, order.windows_per_epoch(lane) - 1))
    ascending = np.unique(order.lane_window(epoch, lane, window))
    runs = 1 + int(np.sum(np.diff(ascending) != 1))
    # Chunks of the window, one cut at either end, the two short chunks of the phase, one wrap of "pad".
    assert runs <= order.window // order.chunk + 4


@settings(max_examples=60, deadline=None)
@given(order=orders, epoch=st.integers(0, 100))
def test_a_position_is_found_in_its_window(order: DomainOrder, epoch: int) -> None:
    for lane in range(order.batch):
        found = []
        for position in range(order.steps_per_epoch):
            window, place = order.window_at(lane, position)
            found.append(int(order.lane_window(epoch, lane, window)[place]))
        assert found == lane_samples(order, epoch, lane)


def test_lanes_turn_to_their_next_window_at_different_steps() -> None:
    # 32 lanes with windows of 128 samples: eight of them or so turn in any 32 steps, never all at once.
    order = DomainOrder(0, 0, 100_000, 32, 32, 128, "drop")
    turning = [sum(order.window_at(lane, step)[1] == 0 for lane in range(32)) for step in range(1, 1000)]
    assert max(turning) == 1


def test_epochs_seeds_and_domains_differ() -> None:
    def first(seed: int, domain: int, epoch: int) -> tuple[int, ...]:
        order = DomainOrder(seed, domain, 500, 4, 16, 64, "drop")
        return tuple(order.lane_window(epoch, 0, 0).tolist())

    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**32, 0, 0)]
    assert len({first(*key) for key in keys}) == len(keys)
    assert first(3, 1, 2) == first(3, 1, 2)


@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_a_batch_mixes_the_whole_data_set(tail: Literal["drop", "pad"]) -> None:
    # Were batches read in storage order, 16 samples of 10,000 would span 16; a full permutation spans 8,800.
    order = DomainOrder(0, 0, 10_000, 16, 32, 128, tail)
    lanes = np.array([lane_samples(order, 0, lane) for lane in range(16)])
    spans = lanes.max(axis=0) - lanes.min(axis=0)
    assert spans.mean() > 8_000


@pytest.mark.parametrize("resume_at", [0, 10**6])
def test_ten_million_samples_begin_at_any_step_at_once(resume_at: int) -> None:
    # In a process of its own: the memory of this one says nothing.
    code = f"""
import time
from pathlib import Path
from data_shards.order import DomainOrder, PairOrder
began = time.process_time()
used = PairOrder(0, 2).at({resume_at})[1][0]
order = DomainOrder(0, 0, 10_000_000, 32, 32, 128, "drop")
epoch, position = divmod(used, order.steps_per_epoch)
for lane in range(32):
    window, place = order.window_at(lane, position)
    assert len(order.lane_window(epoch, lane, window)[place:]) > 0
cpu = time.process_time() - began
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(cpu, int(peak.split()[1]) / 1024)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    cpu_seconds, mebibytes = map(float, said.split())
    assert cpu_seconds < 0.5
    assert mebibytes < 600


def test_streams_of_random_numbers_do_not_meet() -> None:
    keys = [(0, Stream.WINDOW, 1), (0, Stream.WINDOW, 1, 0), (0, Stream.CHUNKS, 1), (1, Stream.WINDOW, 1)]
    drawn = {generator(seed, stream, *key).random() for seed, stream, *key in keys}
    assert len(drawn) == len(keys)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**40), domains=st.integers(2, 7), turn=st.integers(0, 1000))
def test_a_round_visits_every_pair_once(seed: int, domains: int, turn: int) -> None:
    pairs = PairOrder(seed, domains)
    steps = range(turn * pairs.steps_per_round, (turn + 1) * pairs.steps_per_round)
    visited = Counter(pairs.at(step)[0] for step in steps)
    assert visited == Counter(combinations(range(domains), 2))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**40), domains=st.integers(2, 6))
def test_the_position_of_a_domain_is_what_it_used_before(seed: int, domains: int) -> None:
    pairs = PairOrder(seed, domains)
    used = Counter(dict.fromkeys(range(domains), 0))
    for step in range(5 * pairs.steps_per_round):
        now, positions = pairs.at(step)
        assert positions == (used[now[0]], used[now[1]])
        used.update(now)
