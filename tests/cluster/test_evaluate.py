"""`python -m cluster evaluate` on a run made by hand: labelled shards and an untrained export."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from cluster.__main__ import app
from cluster.evaluate import evaluate
from data_shards.build import SourceImage, build
from gmvae_drit.build import build_model
from gmvae_drit.config import GmvaeDritSettings
from gmvae_drit.export import ExportConfig, save_export

DOMAINS = ("day", "night")
MODEL = {
    "content": {"width": 4, "max_width": 8, "residual_blocks": 1},
    "attribute": {"size": 4, "width": 4, "downsamplings": 3},
    "mixture": {"components": 3},
    "generator": {"residual_blocks": 1},
}


def sides(labelled):
    """Images whose label is the side that is bright: what a classifier must learn perfectly."""
    random = np.random.default_rng(0)
    for domain in DOMAINS:
        for split, count in (("train", 60), ("test", 12)):
            for i in range(count):
                pixels = random.integers(0, 80, (32, 32, 3), dtype=np.uint8)
                pixels[:, 16 * (i % 2) : 16 * (i % 2) + 16] += 150
                meta = {"label": i % 2} if labelled else {}
                yield SourceImage(domain, split, f"{i}", Image.fromarray(pixels), meta)


def make_run(folder, labelled=True):
    build(sides(labelled), folder / "data")
    config = {"run": {"name": "run"}, "data": {"uri": str(folder / "data")}, "train": {"steps": 1}}
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text(yaml.safe_dump(config | {"model": MODEL}))
    settings = GmvaeDritSettings.model_validate(MODEL)
    torch.manual_seed(0)
    model = build_model(settings, DOMAINS)
    export = ExportConfig(model=settings, domains=DOMAINS, image_size=32, step=7)
    save_export(folder / "run" / "export", model, export)
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("evaluate"))


def test_every_direction_and_domain_is_measured_and_written(run):
    evaluation = evaluate(run, limit=12, temperature=1.0, seed=0)
    directions = ["day to night", "night to day"]
    assert list(evaluation.content_kept) == directions
    spaces = [f"{direction}, {space}" for direction in directions for space in ("pixels", "features")]
    assert list(evaluation.distances) == spaces
    for distances in evaluation.distances.values():
        assert distances["between"] > 0
        assert distances["within"] > 0
    for direction in directions:
        kept = evaluation.content_kept[direction]
        assert kept["real images"] == 1.0  # the judge can tell the classes of real test images apart
        assert 0 <= kept["by prior"] <= 1
    assert set(evaluation.domains) == set(DOMAINS)
    written = json.loads((run / "evaluation.json").read_text())
    assert written["content_kept"] == evaluation.content_kept
    assert written["step"] == 7
    with Image.open(run / "translations.png") as picture:
        # Two directions, each of source, three components, references, by reference; 64 px a row.
        assert picture.height >= 2 * 6 * 64


def test_the_same_seed_gives_the_same_figures(run):
    first, second = (evaluate(run, limit=6, temperature=1.0, seed=3) for _ in range(2))
    assert first == second


def test_without_labels_content_is_not_judged(tmp_path):
    evaluation = evaluate(make_run(tmp_path, labelled=False), limit=12, temperature=1.0, seed=0)
    assert evaluation.content_kept == {}
    assert list(evaluation.distances) == ["day to night, pixels", "night to day, pixels"]


def test_the_command_prints_its_tables(run):
    result = CliRunner().invoke(app, ["evaluate", str(run), "--limit", "6"])
    assert result.exit_code == 0, result.output
    assert "day to night" in result.stdout
    assert "translations.png" in result.stdout


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "nothing")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_a_run_without_an_export_is_refused(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text((run / "config.yaml").read_text())
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "export" in result.stderr
    assert result.stderr.count("\n") == 1
