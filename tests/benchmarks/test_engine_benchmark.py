"""What the figures of `benchmarks/engine.py` are made of, on rows and moments that were not measured."""

import pytest

from benchmarks.engine import PARTS
from benchmarks.engine_runs import Run, under_ray, under_torchrun
from benchmarks.engine_speed import Place
from benchmarks.engine_tables import (
    against,
    images_side_by_side,
    ratios,
    split,
    spread,
    step_seconds,
    times_table,
)
from cluster.config import load, parse_overrides


def rows(*speeds, begin=100.0, every=8, batch=16):
    """One row per speed in images per second."""
    made, seconds = [], begin
    for number, speed in enumerate(speeds, start=1):
        seconds += every * batch / speed
        made.append({"step": number * every, "seconds": seconds, "images_per_second": speed})
    return made


def test_warm_up_does_not_count():
    slow_first = rows(1, 32, 32, 64)
    assert step_seconds(slow_first, 8) == pytest.approx((0.5 + 0.5 + 0.25) / 3)


def test_runs_side_by_side_count_only_while_both_train():
    early, late = rows(10, 20, 80, 80, 20), rows(10, 40, 20, 20, begin=103.0)
    # Both are warm from 115.8 on and train until 125.6. The early one's row of 119.2 is its first after that.
    assert images_side_by_side([early, late], 8) == pytest.approx(50 + 30)


def test_ratios_are_of_neighbours():
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2, 3]
    assert spread([3, 1, 2], 1) == "2.0 (1.0 to 3.0)"
    text = against("ms", {"a": [2.0, 9.0], "b": [1.0, 3.0]}, {"a / b": ("a", "b", "≤ 2")}, 1)
    assert "| a | 5.5 (2.0 to 9.0) |" in text
    assert "| a / b | 2.500 (2.000 to 3.000) | ≤ 2 |" in text


def test_parts_of_a_time_add_up_to_it():
    first = {"begin": 10.0, "up": 12.0, "done": 15.0}
    assert split(first) == {"up": 2.0, "done": 3.0, "in all": 5.0}
    text = times_table([first, {"begin": 0.0, "up": 4.0, "done": 5.0}], "≤ 9")
    assert "| up | 3.0 (2.0 to 4.0) |  |" in text
    assert "| in all | 5.0 (5.0 to 5.0) | ≤ 9 |" in text


@pytest.mark.parametrize("command", [under_ray, under_torchrun])
def test_commands_train_the_demo_with_the_settings_of_the_benchmark(command, tmp_path):
    place = Place(tmp_path, "shards", rounds=1, steps=64, warm_up=16)
    words = command(place.settings(2, log_every=50))
    experiment = load(
        "cluster/configs/demo.yaml", parse_overrides(words[words.index("cluster/configs/demo.yaml") + 1 :])
    )
    assert (experiment.scaling.workers, experiment.train.steps, experiment.train.log_every) == (2, 114, 50)
    assert place.run(words).folder == tmp_path / experiment.run.name


def test_a_command_that_fails_is_told_with_its_output(tmp_path):
    with Run(["python", "-c", "print('no data'); exit(3)"], tmp_path / "run") as run:
        with pytest.raises(RuntimeError, match=r"(?s)ended with 3.*no data"):
            run.wait_for_row(1)
        assert run.processes() == {}


def test_every_part_has_a_title():
    assert list(PARTS) == ["ray", "workers", "checkpoints", "times", "memory"]
