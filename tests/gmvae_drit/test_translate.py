"""`python -m gmvae_drit translate`, called as a user calls it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from gmvae_drit.__main__ import app
from gmvae_drit.build import build_model
from gmvae_drit.export import ExportConfig, load_export, save_export
from gmvae_drit.images import read_image, to_bytes
from gmvae_drit.translate import prior_attributes, reference_attribute, translate_image

DOMAINS = ("day", "night")


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """A model of three components with noise injection, so that seeds matter."""
    folder = tmp_path_factory.mktemp("export")
    settings = tiny.settings(generator={"kind": "adain", "noise_injection": True})
    torch.manual_seed(0)
    model = build_model(settings, DOMAINS)
    for name, p in model.averaged.named_parameters():
        if "noise" in name:
            p.data.fill_(0.1)
    save_export(folder, model, ExportConfig(model=settings, domains=DOMAINS, image_size=32, step=0))
    return folder


def save_noise(path, size=(32, 32), seed=0, mode="RGB"):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=generator)
    Image.fromarray(pixels.numpy()).convert(mode).save(path)
    return path


@pytest.fixture
def photo(tmp_path):
    return save_noise(tmp_path / "photo.png")


def translate(*words):
    return CliRunner().invoke(app, ["translate", *map(str, words)])


def translated(*words):
    """The words of a call that must succeed."""
    result = translate(*words)
    assert result.exit_code == 0, result.output
    return result


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_components_take_turns(export, photo, tmp_path):
    result = translated(photo, "--model", export, "--to", "night", "--samples", 4, "--out", tmp_path / "out")
    expected = [f"photo-night-{name}.png" for name in ("c0-s0", "c0-s1", "c1-s0", "c2-s0")]
    assert sorted(os.listdir(tmp_path / "out")) == expected
    assert all(Image.open(tmp_path / "out" / name).size == (32, 32) for name in expected)
    assert len(set(contents(tmp_path / "out").values())) == 4
    assert "1 x 4 translations to night" in result.stdout
    assert result.stderr == ""


def test_one_component(export, photo, tmp_path):
    translated(
        photo, "--model", export, "--to", "night", "--component", 2, "--samples", 3, "--out", tmp_path / "out"
    )
    assert sorted(os.listdir(tmp_path / "out")) == [f"photo-night-c2-s{i}.png" for i in range(3)]


def test_component_draws_from_that_component(export):
    translator, _ = load_export(export)
    means, _ = translator.prior(torch.tensor([1]))
    for k in range(3):
        codes = prior_attributes(translator, 1, 2, k, temperature=0.0, seed=0).codes
        torch.testing.assert_close(codes, means[0, k].expand(2, -1))


def test_a_folder_in_the_order_of_its_names(export, tmp_path):
    (tmp_path / "in").mkdir()
    for seed, name in enumerate(("b.png", "a.jpg", "c.bmp")):
        save_noise(tmp_path / "in" / name, seed=seed)
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    arguments = ("--model", export, "--to", "day", "--samples", 1)
    translated(tmp_path / "in", *arguments, "--out", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [f"{stem}-day-c0-s0.png" for stem in "abc"]
    translated(tmp_path / "in", *arguments, "--limit", 2, "--out", tmp_path / "two")
    assert sorted(os.listdir(tmp_path / "two")) == [f"{stem}-day-c0-s0.png" for stem in "ab"]


def test_two_images_of_one_stem_do_not_overwrite_each_other(export, tmp_path):
    (tmp_path / "in").mkdir()
    save_noise(tmp_path / "in" / "a.png", seed=0)
    save_noise(tmp_path / "in" / "a.jpg", seed=1)
    arguments = ("--model", export, "--to", "day", "--samples", 1, "--out", tmp_path / "out")
    translated(tmp_path / "in", *arguments)
    assert len(os.listdir(tmp_path / "out")) == 2


def test_reference(export, photo, tmp_path):
    """The attribute of the picture that is asked for, and no draw from the prior."""
    reference = save_noise(tmp_path / "reference.png", seed=5)
    translated(photo, "--model", export, "--to", "night", "--reference", reference, "--out", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["photo-night-reference.png"]
    translator, _ = load_export(export)
    attribute = reference_attribute(translator, read_image(reference), 1)
    expected = translator.attribute(read_image(reference)[None], torch.tensor([1])).mode()
    torch.testing.assert_close(attribute.codes, expected)
    picture = to_bytes(translate_image(translator, read_image(photo), 1, attribute, 0))[0]
    written = to_bytes(read_image(tmp_path / "out" / "photo-night-reference.png"))
    assert torch.equal(written, picture)


def test_grid(export, tmp_path):
    """A row for each image: itself at twice its size, then its translations."""
    (tmp_path / "in").mkdir()
    for seed in range(2):
        save_noise(tmp_path / "in" / f"{seed}.png", seed=seed)
    arguments = ("--model", export, "--to", "night", "--samples", 3, "--grid", tmp_path / "deep" / "grid.png")
    translated(tmp_path / "in", *arguments, "--out", tmp_path / "out")
    grid = to_bytes(read_image(tmp_path / "deep" / "grid.png"))
    assert grid.shape == (3, 2 + 2 * 66, 2 + 4 * 66)
    for row in range(2):
        source = grid[:, 2 + 66 * row :, 2:][:, :64:2, :64:2]
        assert torch.equal(source, to_bytes(read_image(tmp_path / "in" / f"{row}.png")))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [(33, 32), (35, 50), (47, 61), (128, 32), (9, 8)], ids=str)
def test_sizes_that_are_no_multiple_of_a_cell(export, tmp_path, size):
    photo = save_noise(tmp_path / "photo.png", size)
    out = ("--samples", 1, "--out", tmp_path / "out")
    translated(photo, "--model", export, "--to", "night", "--size", min(size), *out)
    assert Image.open(tmp_path / "out" / "photo-night-c0-s0.png").size == size[::-1]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_grey_palette_and_alpha(export, tmp_path, mode):
    photo = save_noise(tmp_path / "photo.png", mode=mode)
    out = ("--samples", 1, "--out", tmp_path / "out")
    translated(photo, "--model", export, "--to", "night", *out)
    assert Image.open(tmp_path / "out" / "photo-night-c0-s0.png").mode == "RGB"


def test_a_turned_photo_comes_out_upright(export, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32), "red").save(tmp_path / "photo.jpg", exif=exif)
    out = ("--samples", 1, "--out", tmp_path / "out")
    translated(tmp_path / "photo.jpg", "--model", export, "--to", "night", *out)
    assert Image.open(tmp_path / "out" / "photo-night-c0-s0.png").size == (32, 64)


def test_a_seed_gives_the_same_files(export, photo, tmp_path):
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        translated(photo, "--model", export, "--to", "night", "--seed", seed, "--out", tmp_path / name)
    first, again, other = (contents(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_a_draw_looks_the_same_on_every_image(export, tmp_path):
    """Two copies of a picture get the same translations: neither codes nor injected noise depend on the order."""
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        save_noise(tmp_path / "in" / name)
    translated(tmp_path / "in", "--model", export, "--to", "night", "--out", tmp_path / "out")
    written = contents(tmp_path / "out")
    assert all(
        written[name] == written[name.replace("a-", "b-", 1)] for name in written if name.startswith("a-")
    )


def test_temperature_narrows_the_draws(export):
    translator, _ = load_export(export)
    spread = [
        float(prior_attributes(translator, 0, 64, 0, temperature, seed=0).codes.std(0).mean())
        for temperature in (0.0, 0.5, 1.0)
    ]
    assert spread[0] == pytest.approx(0, abs=1e-6)
    assert spread[1] == pytest.approx(spread[2] / 2, rel=1e-3)


def test_many_draws_are_rendered_in_batches(export):
    """As one by one; the injected noise is off here, for it is drawn per batch."""
    translator, _ = load_export(export)
    for name, p in translator.named_parameters():
        if "noise" in name:
            p.data.zero_()
    attributes = prior_attributes(translator, 0, 5, None, 1.0, seed=0)
    image = torch.rand(3, 32, 32)
    together = translate_image(translator, image, 0, attributes, seed=0, batch=16)
    apart = translate_image(translator, image, 0, attributes, seed=0, batch=2)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def broken_export(export, tmp_path, **changes):
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in export.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | changes))
    return folder


def truncated(path):
    save_noise(path)
    path.write_bytes(path.read_bytes()[:1500])
    return path


def text(path):
    path.write_text("not an image")
    return path


def folder(path, *names):
    path.mkdir()
    for name in names:
        save_noise(path / name, size=(32, 32 + 8 * len(name)))
    return path


FAULTS = {
    "unknown domain": (lambda p, e: {"--to": "dusk"}, "--to dusk: this model knows the domains day, night"),
    "component too large": (lambda p, e: {"--component": 3}, "component 3: this model has components 0 to 2"),
    "component negative": (
        lambda p, e: {"--component": -1},
        "component -1: this model has components 0 to 2",
    ),
    "source missing": (lambda p, e: {"source": p / "absent.png"}, "absent.png: no such file or folder"),
    "source empty": (lambda p, e: {"source": folder(p / "empty")}, "empty: no image in this folder"),
    "not an image": (lambda p, e: {"source": text(p / "fake.png")}, "fake.png: not an image"),
    "truncated image": (
        lambda p, e: {"source": truncated(p / "half.png")},
        "half.png: cannot read the image",
    ),
    "reference missing": (
        lambda p, e: {"--reference": p / "absent.png"},
        "absent.png: cannot read the image",
    ),
    "reference not an image": (lambda p, e: {"--reference": text(p / "fake.png")}, "fake.png: not an image"),
    "reference and component": (lambda p, e: {"--reference": "a", "--component": 0}, "exclude each other"),
    "model missing": (lambda p, e: {"--model": p / "absent"}, "config.yaml: No such file"),
    "model of a newer version": (
        lambda p, e: {"--model": broken_export(e, p, format=2)},
        "config.yaml: written by a newer version",
    ),
    "another model": (lambda p, e: {"--model": broken_export(e, p, model={})}, "is not of the model"),
    "out is a file": (lambda p, e: {"--out": text(p / "file")}, "cannot write the picture"),
    "out below a file": (lambda p, e: {"--out": text(p / "file") / "out"}, "cannot write the picture"),
    "grid is a folder": (
        lambda p, e: {"--grid": folder(p / "grid.png")},
        "grid.png: cannot write the picture",
    ),
    "grid of unlike images": (
        lambda p, e: {"source": folder(p / "in", "a.png", "bc.png"), "--grid": p / "grid.png"},
        "a grid needs images of one shape",
    ),
    "reference too small": (
        lambda p, e: {"--reference": save_noise(p / "r.png"), "--size": 8, "--model": deep_export(p)},
        "the reference must be at least 32 pixels on each side; raise --size",
    ),
}


def deep_export(tmp_path):
    """Its attribute encoder halves an image five times: 32 px are the least that it can see."""
    settings = tiny.settings(attribute={"downsamplings": 5})
    model = build_model(settings, DOMAINS)
    config = ExportConfig(model=settings, domains=DOMAINS, image_size=32, step=0)
    save_export(tmp_path / "deep", model, config)
    return tmp_path / "deep"


@pytest.mark.parametrize("fault", list(FAULTS))
def test_bad_input_is_one_clear_line(export, photo, tmp_path, fault):
    make, message = FAULTS[fault]
    options = {"source": photo, "--model": export, "--to": "night", "--out": tmp_path / "out"}
    options |= make(tmp_path, export)
    before = contents(tmp_path)
    source = options.pop("source")
    result = translate(source, *(word for pair in options.items() for word in pair))
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert message in result.stderr
    assert result.stdout == ""
    assert contents(tmp_path) == before


def test_nothing_half_written_where_one_image_of_many_is_bad(export, tmp_path):
    source = folder(tmp_path / "in", "a.png", "c.png")
    truncated(source / "b.png")
    result = translate(source, "--model", export, "--to", "night", "--samples", 2, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {source / 'b.png'}")
    for path in (tmp_path / "out").iterdir():
        assert not path.name.startswith(".")
        Image.open(path).load()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--samples", 0), ("--size", 4), ("--temperature", -1), ("--limit", 0), ("--seed", "x")],
)
def test_options_out_of_range_are_refused(export, photo, option, value):
    result = translate(photo, "--model", export, "--to", "night", option, value)
    assert result.exit_code == 2
    assert option in result.stderr
    assert "Traceback" not in result.stderr


def run_python(*words, cwd):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )


def test_the_real_command_fails_without_a_traceback(export, photo, tmp_path):
    result = run_python(
        "-m", "gmvae_drit", "translate", photo, "--model", export, "--to", "dusk", cwd=tmp_path
    )
    assert result.returncode == 1
    assert result.stderr == "error: --to dusk: this model knows the domains day, night\n"


@pytest.mark.parametrize("words", [("--help",), ("translate", "--help")], ids=" ".join)
def test_help_is_fast(tmp_path, words):
    """No torch on the way."""
    result = run_python("-X", "importtime", "-m", "gmvae_drit", *words, cwd=tmp_path)
    assert result.returncode == 0
    assert "translate" in result.stdout
    imported = {line.split("|")[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert "typer" in imported
    assert imported.isdisjoint({"torch", "torchvision", "numpy", "PIL", "ray", "safetensors"})
