"""`python -m cluster evaluate` on a run made by hand: labelled shards and an untrained export."""

import json
import re

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from cluster.__main__ import app
from cluster.evaluate import evaluate
from cluster.evaluation.network import Network
from data_shards.build import SourceImage, build
from gmvae_drit.build import build_model
from gmvae_drit.config import GmvaeDritSettings
from gmvae_drit.export import ExportConfig, save_export

DOMAINS = ("day", "night")
DIRECTIONS = ("day to night", "night to day")
PICTURES = ("translations.png", "interpolation.png", "attributes.png", "nearest.png")
LITE0 = "efficientnet-lite0@128"
MODEL = {
    "content": {"width": 4, "max_width": 8, "residual_blocks": 1},
    "attribute": {"size": 4, "width": 4, "downsamplings": 3},
    "mixture": {"components": 3},
    "generator": {"residual_blocks": 1},
}


def sides(labelled, train=60, test=12):
    """Images whose label is the side that is bright, and whose mode is the colour of that side: what a classifier
    must learn perfectly."""
    random = np.random.default_rng(0)
    for domain in DOMAINS:
        for split, count in (("train", train), ("test", test)):
            for i in range(count):
                label, mode = i % 2, i // 2 % 2
                pixels = random.integers(0, 80, (32, 32, 3), dtype=np.uint8)
                pixels[:, 16 * label : 16 * label + 16, 2 * mode] += 150
                meta = {"label": label, "mode": mode} if labelled else {}
                yield SourceImage(domain, split, f"{i}", Image.fromarray(pixels), meta)


def make_run(folder, labelled=True, components=3, **counts):
    build(sides(labelled, **counts), folder / "data")
    config = {"run": {"name": "run"}, "data": {"uri": str(folder / "data")}, "train": {"steps": 1}}
    (folder / "run").mkdir()
    model = MODEL | {"mixture": {"components": components}}
    (folder / "run" / "config.yaml").write_text(yaml.safe_dump(config | {"model": model}))
    settings = GmvaeDritSettings.model_validate(model)
    torch.manual_seed(0)
    export = ExportConfig(model=settings, domains=DOMAINS, image_size=32, step=7)
    save_export(folder / "run" / "export", build_model(settings, DOMAINS), export)
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def evaluation(run):
    return evaluate(run, limit=12)


def test_every_direction_and_domain_is_measured(evaluation):
    assert tuple(evaluation.directions) == DIRECTIONS
    for measured in evaluation.directions.values():
        figures = dict(measured)
        for name in (
            f"KID, {LITE0}",
            "KID, classifier of real images",
            "NDB, 2 bins of pixels@32",
            "JSD, 2 bins of pixels@32",
            "cycle, L1",
            "label kept, by prior",
            "label kept, by reference",
            "component recovered by the encoder",
            "NMI, component and mode shown",
            "distance between components, pixels",
            f"distance within a component, perceptual, {LITE0}",
        ):
            assert figures.pop(name).n == 12, name
        assert {key.split()[1] for key in figures} <= {"component", "overall,", "between", "within"}
    assert tuple(evaluation.domains) == DOMAINS
    for figures in evaluation.domains.values():
        # The judges can tell the labels and the modes of real test images apart.
        assert figures["label recognised, real images"].value == 1
        assert figures["mode recognised, real images"].value == 1
        assert figures[f"KID of real images, {LITE0}"].n_real == 12
        assert 0 <= figures["NMI, component and mode"].value <= 1
        assert figures["NMI, gmm, full of z and mode"].n == 12
        assert "NMI, gmm, full of z and label" not in figures
        assert not [key for key in figures if key.startswith("FID")], "1280 features want more images"


@pytest.mark.parametrize("picture", PICTURES)
def test_pictures_are_drawn(run, evaluation, picture):
    with Image.open(run / picture) as image:
        assert min(image.size) > 200
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50


def test_what_is_written_is_what_was_measured(run, evaluation):
    written = json.loads((run / "evaluation.json").read_text())
    assert written["step"] == 7
    assert written["options"] == {"temperature": 1.0, "samples": 3, "seed": 0}
    figure = evaluation.directions["day to night"]["cycle, L1"]
    assert written["directions"]["day to night"]["cycle, L1"] == {
        "value": figure.value,
        "n": 12,
        "standard_error": figure.standard_error,
    }


def test_fid_where_there_are_more_images_than_features(tmp_path):
    run = make_run(tmp_path, train=20, test=140)
    figures = evaluate(run, limit=140, network=Network.NONE).directions["day to night"]
    assert figures["FID, classifier of real images"].n_real == 140
    assert not [key for key in figures if LITE0 in key]


def test_the_same_seed_gives_the_same_figures(run):
    first, second = (evaluate(run, limit=6, network=Network.NONE, seed=3) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("components", [1, 3])
def test_the_fewest_images_without_labels(tmp_path, components):
    run = make_run(tmp_path, labelled=False, components=components, train=3, test=2)
    evaluation = evaluate(run, limit=2)
    for figures in (*evaluation.directions.values(), *evaluation.domains.values()):
        assert not [key for key in figures if re.search("label|mode|KID", key)]
    recovered = "component recovered by the encoder" in evaluation.directions["day to night"]
    assert recovered == (components > 1)
    assert all((run / picture).exists() for picture in PICTURES)


def test_an_export_is_evaluated_on_the_data_it_is_given(run):
    words = ["evaluate", str(run / "export"), "--data", str(run.parent / "data"), "--features", "none"]
    result = CliRunner().invoke(app, [*words, "--limit", "6"])
    assert result.exit_code == 0, result.output
    assert json.loads((run / "export" / "evaluation.json").read_text())["data"] == str(run.parent / "data")


def test_the_command_prints_its_tables(run):
    result = CliRunner().invoke(app, ["evaluate", str(run), "--limit", "6", "--features", "none"])
    assert result.exit_code == 0, result.output
    for words in ("day to night", "cycle, L1", "0.", "±", "6 / 6", "nearest.png"):
        assert words in result.stdout


def refusal(*words):
    """The one line of an evaluation that is refused."""
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    assert "neither the folder of a run" in refusal(tmp_path / "nothing")


def test_a_run_without_an_export_is_refused(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text((run / "config.yaml").read_text())
    assert "export" in refusal(tmp_path / "run")


def test_an_export_without_data_is_refused(run):
    assert "--data" in refusal(run / "export")


def test_inception_without_its_weights_is_refused(run, tmp_path):
    missing = tmp_path / "inception.pth"
    assert "inception.pth" in refusal(run, "--features", "inception", "--inception-weights", missing)
