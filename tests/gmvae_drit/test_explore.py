"""`python -m gmvae_drit explore`, called as a user calls it."""

import pytest
import tiny
import torch
from PIL import Image
from typer.testing import CliRunner

from gmvae_drit.__main__ import app
from gmvae_drit.build import build_model
from gmvae_drit.explore import domain_styles
from gmvae_drit.export import ExportConfig, save_export
from gmvae_drit.sheets import CAPTION_WIDTH
from gmvae_drit.translator import Translator

SIDE = 2 * 32 + 2
"""Of a 32 px picture in a sheet, which enlarges it and puts a margin beside it."""


def saved(folder, **changes):
    torch.manual_seed(0)
    settings = tiny.settings(**changes)
    config = ExportConfig(model=settings, domains=("day", "night"), image_size=32, step=0)
    save_export(folder, build_model(settings, ("day", "night")), config)
    return folder


@pytest.fixture
def photo(tmp_path):
    Image.effect_noise((80, 50), 90).convert("RGB").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def explore(*words):
    return CliRunner().invoke(app, ["explore", *map(str, words)])


def size(path):
    with Image.open(path) as picture:
        return picture.size


def test_a_row_for_the_source_each_component_and_the_way_between_them(photo, tmp_path):
    out = tmp_path / "new" / "sheet.png"
    result = explore(saved(tmp_path / "m"), photo, photo, "--columns", 5, "--out", out)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = 2 * (1 + 2 * (3 + 1))
    assert size(out) == (CAPTION_WIDTH + 5 * SIDE + 2, rows * SIDE + 2)


def test_one_domain(photo, tmp_path):
    result = explore(saved(tmp_path / "m"), photo, "--to", "day", "--out", tmp_path / "sheet.jpg")
    assert result.exit_code == 0
    assert size(tmp_path / "sheet.jpg") == (CAPTION_WIDTH + 8 * SIDE + 2, (1 + 4) * SIDE + 2)


def test_a_single_gaussian_has_no_way_to_another(photo, tmp_path):
    result = explore(saved(tmp_path / "m", kind="drit"), photo, "--out", tmp_path / "sheet.png")
    assert result.exit_code == 0
    assert size(tmp_path / "sheet.png")[1] == (1 + 2) * SIDE + 2


def test_rows_begin_with_means_and_the_last_one_goes_through_them():
    torch.manual_seed(0)
    translator = Translator(tiny.settings(), 2).eval()
    means = translator.prior(torch.tensor([1]))[0][0]
    *components, between = domain_styles(translator, 1, "night", 5, 1.0, 0)
    for k, style in enumerate(components):
        torch.testing.assert_close(style.codes[0], means[k])
        assert len(style.codes.unique(dim=0)) == 5
    torch.testing.assert_close(between.codes[::2], means)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "dusk"), "--to dusk: this model knows the domains day, night"),
        (("--out", "sheet.pdf"), "--out sheet.pdf: its name must end in .png"),
        (("absent.png",), "absent.png: no such file or folder"),
        (("--device", "cuda:99"), "--device cuda:99: this machine has"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(photo, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    result = explore(saved(tmp_path / "m"), photo, *words)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "explore.png").exists()
