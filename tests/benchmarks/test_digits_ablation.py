"""The rows and the tables of the ablation on digits. That a run trains and goes on is the business of `test_runs`."""

import pytest

from benchmarks.comparison import Result, table
from benchmarks.digits_ablation import BATCH, VARIANTS, Job, Setting, by_row, experiment_of
from cluster.checkpoint import differences


def test_rows_of_the_ablation_differ_from_the_mixture_in_what_they_say(tmp_path):
    setting = Setting(tmp_path, "data/digits", 16000, 500)
    mixture = experiment_of(Job("mixture", BATCH, 0), setting).model_dump(mode="json")
    for variant, overrides in VARIANTS.items():
        row = experiment_of(Job(variant, BATCH, 0), setting).model_dump(mode="json")
        changed = {line.split(" was ")[0] for line in differences(mixture, row)} - {"run.name"}
        if variant != "single Gaussian":
            assert changed == set(overrides)
    assert len({experiment_of(Job(v, BATCH, s), setting).run.name for v in VARIANTS for s in (0, 1)}) == 16


def test_a_smaller_batch_sees_as_many_images_and_averages_over_as_many(tmp_path):
    setting = Setting(tmp_path, "data/digits", 16000, 500)
    large, small = (experiment_of(Job("mixture", batch, 0), setting) for batch in (32, 2))
    assert (large.train.steps, small.train.steps) == (500, 8000)
    assert large.model.ema_decay**500 == pytest.approx(small.model.ema_decay**8000)
    assert large.model.ema_decay**500 == pytest.approx(0.998**2200)


def test_a_table_has_the_mean_over_the_seeds_of_a_row():
    def result(seed, kept):
        return Result(
            seed, 60.0, {"a to b": {"label kept, by prior": kept}, "b": {"components, information": 1.0}}
        )

    results = {Job("mixture", 16, 1): result(1, 0.5), Job("mixture", 16, 0): result(0, 0.7)}
    rows = by_row(results, {"M": ("mixture", 16), "none": ("mixture", 2)})
    (line,) = [line for line in table(rows, "a", "b").splitlines() if line.startswith("| M ")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["M", "0, 1", "0.600 ± 0.141", *["-"] * 7, "1.000 ± 0.000", "-", "-", "60 ± 0"]
