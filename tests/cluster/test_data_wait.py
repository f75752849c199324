"""`data_wait`, the figure by which a user sees whether data or computing bounds the speed."""

import pytest
from toy import ToyData, Watching, engine, experiment

from cluster import metrics


class Clock:
    """Takes the place of the module `time`; stands still but for what is said to take time."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize(
    ("batch_seconds", "step_seconds", "data_wait", "images_per_second"),
    [(1.0, 0.0, 1.0, 8.0), (0.0, 1.0, 0.0, 8.0), (3.0, 1.0, 0.75, 2.0)],
)
def test_it_is_the_share_of_time_in_which_the_engine_waited_for_batches(
    tmp_path, monkeypatch, batch_seconds, step_seconds, data_wait, images_per_second
):
    clock = Clock()
    monkeypatch.setattr(metrics, "time", clock)

    class SlowData(ToyData):
        def batch(self, step):
            clock.now += batch_seconds
            return super().batch(step)

    settings = experiment(tmp_path, steps=6, preview_every=0, evaluate_every=0, checkpoint_every=100)
    watcher = Watching()
    trainer = engine(settings, watcher=watcher)
    trainer.loader = SlowData(settings)
    train_step = trainer.model.train_step

    def slow_step(*arguments):
        clock.now += step_seconds
        return train_step(*arguments)

    trainer.model.train_step = slow_step
    trainer.run()
    assert [row["data_wait"] for row in watcher.rows] == [data_wait] * 3
    assert [row["images_per_second"] for row in watcher.rows] == [images_per_second] * 3
