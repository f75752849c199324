"""Runs without Ray: killed and continued, refused, and the single Gaussian that a mixture is compared with."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from benchmarks import runs
from cluster.checkpoint import differences
from cluster.config import load
from cluster.errors import RunError
from data_shards.build import SourceImage, build
from gmvae_drit.config import DritSettings

DEMO = Path(__file__).parents[2] / "cluster" / "configs" / "demo.yaml"
CONFIG = {
    "run": {"name": "tiny"},
    "data": {"global_batch": 4},
    "model": {
        "content": {"width": 4, "max_width": 8, "residual_blocks": 1},
        "attribute": {"size": 4, "width": 4, "downsamplings": 3},
        "mixture": {"components": 3},
        "gumbel": {"hard": True},
        "generator": {"residual_blocks": 1},
        "discriminator": {"width": 4, "max_width": 8, "downsamplings": 3},
        "content_discriminator": {"width": 4},
        "loss": {"usage": 2, "latent_regression": 0.5},
        "optimizer": {"learning_rate": 1e-2},
        "ema_decay": 0.5,
    },
    "train": {"steps": 5, "precision": "fp32", "checkpoint_every": 2, "preview_every": 0},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    random = np.random.default_rng(0)
    images = [
        SourceImage(
            domain, "train", f"{i}", Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        )
        for domain in ("day", "night")
        for i in range(8)
    ]
    build(images, folder / "data")
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"data": {"global_batch": 4, "uri": str(folder / "data")}}))
    return path


def same(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def killed_after(steps):
    asked = iter(range(1, steps + 1))

    def stop_requested(self):
        if next(asked) == steps:
            raise KeyboardInterrupt
        return False

    return stop_requested


@pytest.mark.parametrize("kind", ["gmvae_drit", "drit"])
def test_a_killed_run_goes_on_to_the_weights_of_an_undisturbed_one(config, tmp_path, monkeypatch, kind):
    whole = runs.configure(config, {"model.kind": kind, "run.storage": str(tmp_path / "whole")})
    parts = runs.configure(config, {"model.kind": kind, "run.storage": str(tmp_path / "parts")})
    undisturbed, _ = runs.train(whole)
    with monkeypatch.context() as patch:
        patch.setattr(runs.CpuClock, "stop_requested", killed_after(3))
        with pytest.raises(KeyboardInterrupt):
            runs.train(parts)
    resumed, seconds = runs.train(parts)
    assert same(undisturbed, resumed)
    before = json.loads((tmp_path / "parts" / "tiny" / "cpu_seconds.json").read_text())["2"]
    assert seconds > before > 0
    again, as_before = runs.train(parts)  # read, not trained once more
    assert same(again, resumed)
    assert as_before == seconds


def test_a_seed_draws_the_weights(config, tmp_path):
    seeds = [{"run.seed": seed, "run.name": f"seed-{seed}", "train.steps": 1} for seed in (0, 1)]
    one, other = (
        runs.train(runs.configure(config, seed | {"run.storage": str(tmp_path)}))[0] for seed in seeds
    )
    assert not same(one, other)


def test_a_folder_of_another_run_is_refused(config, tmp_path):
    storage = {"run.storage": str(tmp_path)}
    runs.train(runs.configure(config, storage | {"train.steps": 1}))
    with pytest.raises(RunError, match=r"model\.loss\.usage was 2\.0, is 0\.0"):
        runs.train(runs.configure(config, storage | {"train.steps": 1, "model.loss.usage": 0}))


def test_the_single_gaussian_has_all_settings_of_the_mixture_but_for_the_mixture():
    mixture = load(DEMO)
    single = runs.configure(DEMO, {"model.kind": "drit"})
    assert isinstance(single.model, DritSettings)
    mine, theirs = single.model_dump(mode="json"), mixture.model_dump(mode="json")
    lost = {key.split(" was ")[0] for key in differences(theirs, mine)}
    assert lost == {
        "model.kind",
        "model.mixture",
        "model.gumbel",
        *(
            f"model.loss.{name}"
            for name in ("gauss", "categ", "categ_floor", "usage", "entropy", "consistency")
        ),
        "model.loss.information",
        "model.loss.information_floor",
        "model.loss.component_regression",
    }
