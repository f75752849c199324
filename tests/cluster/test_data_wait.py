"""`data_wait`, the figure by which a user sees whether data or computing bounds the speed."""

import statistics
import time

import pytest
from toy import ToyData, Watching, engine, experiment

from cluster import metrics
from cluster.metrics import Pace

SLOW = 0.15  # seconds; a step of the toy takes a hundredth of that


class SlowData(ToyData):
    """Makes its reader wait for each batch."""

    def batch(self, step):
        time.sleep(SLOW)
        return super().batch(step)


def data_waits(tmp_path, data, compute_seconds):
    settings = experiment(tmp_path, steps=6, preview_every=0, checkpoint_every=100)
    watcher = Watching()
    trainer = engine(settings, watcher=watcher)
    trainer.loader = data(settings)
    train_step = trainer.model.train_step

    def slow_step(*arguments):
        time.sleep(compute_seconds)
        return train_step(*arguments)

    trainer.model.train_step = slow_step
    trainer.run()
    return [row["data_wait"] for row in watcher.rows]


def test_it_is_near_one_where_data_is_slow_and_near_zero_where_computing_is(tmp_path):
    slow_data = data_waits(tmp_path / "data", SlowData, 0.0)
    slow_step = data_waits(tmp_path / "step", ToyData, SLOW)
    assert len(slow_data) == len(slow_step) == 3
    # The first row holds the warming up of torch.
    assert 0.6 < statistics.median(slow_data[1:]) <= 1
    assert 0 <= statistics.median(slow_step[1:]) < 0.3


def test_it_is_a_share_of_the_time_since_the_row_before(monkeypatch):
    now = 100.0
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: now)
    pace = Pace(10)
    with pace.waiting():
        now += 3
    now += 1
    assert pace.take(12, 8) == pytest.approx((4.0, 0.75))
    with pace.waiting():
        now += 1
    with pace.waiting():
        now += 1
    now += 2
    assert pace.take(16, 8) == pytest.approx((8.0, 0.5))
