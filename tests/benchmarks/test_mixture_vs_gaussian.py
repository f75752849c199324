"""What is compared with what, and the tables. That a run trains and goes on is the business of `test_runs`."""

import pytest
import torch

from benchmarks import mixture_tables, mixture_vs_gaussian
from benchmarks.comparison import Result
from benchmarks.mixture_tables import (
    CLUSTERING,
    DOMAINS,
    KINDS,
    Job,
    clustering_table,
    clusterings,
    planted,
)
from benchmarks.mixture_vs_gaussian import Setting, experiment_of
from cluster.checkpoint import differences


def test_the_two_kinds_differ_in_the_mixture_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(mixture_vs_gaussian, "data_of", lambda spread, setting: tmp_path)
    setting = Setting(tmp_path, None, 500)
    mixture, single = (experiment_of(Job("wide", kind, 0), setting).model_dump(mode="json") for kind in KINDS)
    changed = {line.split(" was ")[0] for line in differences(mixture, single)}
    only_of_a_mixture = {
        "categ",
        "categ_floor",
        "component_regression",
        "consistency",
        "entropy",
        "gauss",
        "usage",
    }
    only_of_a_mixture |= {"information", "information_floor"}
    assert changed == {
        "run.name",
        "model.kind",
        "model.mixture",
        "model.gumbel",
        *(f"model.loss.{name}" for name in only_of_a_mixture),
    }


def test_clusters_are_fitted_to_the_training_codes_and_judged_on_the_test_codes():
    generator = torch.Generator().manual_seed(0)
    mode = torch.arange(80) % 4
    corners = 10 * torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    test = corners[mode] + torch.randn(80, 3, generator=generator)
    train = corners[torch.arange(400) % 4] + torch.randn(400, 3, generator=generator)
    assert all(nmi == pytest.approx(1) for nmi in clusterings(train, test, mode).values())
    assert max(clusterings(torch.randn(400, 3, generator=generator), test, mode).values()) < 0.99


def test_the_planted_colours_of_well_separated_modes_are_told_apart():
    assert planted("easy")[DOMAINS[0]]["afterwards, gmm, full"] == pytest.approx(1)


def test_a_table_has_the_median_and_every_seed(monkeypatch):
    monkeypatch.setattr(
        mixture_tables,
        "planted",
        lambda _: {d: dict.fromkeys(CLUSTERING.values(), 1.0) for d in DOMAINS},
    )
    values = {0: 0.5, 1: 0.9, 2: 0.6}
    results = {
        Job("easy", kind, seed): Result(
            seed, 60.0, {d: dict.fromkeys(CLUSTERING.values(), nmi) for d in DOMAINS}
        )
        for kind in KINDS
        for seed, nmi in values.items()
    }
    lines = clustering_table(results, "easy").splitlines()
    assert lines[2].startswith("| mixture | plain | **0.600** (0.500, 0.900, 0.600) | ")
    assert lines[3].startswith("| single Gaussian | plain | - | **0.600**")
