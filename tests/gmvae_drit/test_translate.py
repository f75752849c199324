"""`python -m gmvae_drit translate`, called as a user calls it."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from gmvae_drit.__main__ import app
from gmvae_drit.build import build_model
from gmvae_drit.export import ExportConfig, load_export, save_export
from gmvae_drit.images import read_image, to_bytes
from gmvae_drit.outputs import FRAME_MS, PAUSE_MS
from gmvae_drit.styles import reference_code

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
    """A call that must succeed."""
    result = translate(*words)
    assert result.exit_code == 0, result.output
    return result


def pixels(path):
    return to_bytes(read_image(path)).int()


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


def test_one_draw_of_each_component_is_the_default(export, photo, tmp_path):
    translated(photo, "--model", export, "--to", "night", "--out", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [f"photo-night-c{k}-s0.png" for k in range(3)]


def test_some_components(export, photo, tmp_path):
    arguments = ("--component", 2, "--component", 0, "--samples", 3)
    translated(photo, "--model", export, "--to", "night", *arguments, "--out", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [f"photo-night-c{k}.png" for k in ("0-s0", "2-s0", "2-s1")]


def test_one_component(export, photo, tmp_path):
    translated(
        photo, "--model", export, "--to", "night", "--component", 2, "--samples", 3, "--out", tmp_path / "out"
    )
    assert sorted(os.listdir(tmp_path / "out")) == [f"photo-night-c2-s{i}.png" for i in range(3)]


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


def test_reference(export, photo, tmp_path):
    """The attribute of the picture that is asked for, and no draw from the prior."""
    reference = save_noise(tmp_path / "reference.png", seed=5)
    translated(photo, "--model", export, "--to", "night", "--reference", reference, "--out", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["photo-night-by-reference.png"]
    translator, _ = load_export(quiet_export(export, tmp_path / "quiet"))
    translated(
        photo, "--model", tmp_path / "quiet", "--to", "night", "--reference", reference, "--out", tmp_path
    )
    code = reference_code(translator, read_image(reference), 1)
    with torch.inference_mode():
        expected = translator.translate(read_image(photo)[None], code, torch.tensor([1]))[0]
    assert (pixels(tmp_path / "photo-night-by-reference.png") - to_bytes(expected).int()).abs().max() <= 1


def quiet_export(export, folder):
    """A copy whose generator injects no noise."""
    translator, config = load_export(export)
    model = build_model(config.model, DOMAINS)
    model.averaged.load_state_dict(translator.state_dict())
    for name, p in model.averaged.named_parameters():
        if "noise" in name:
            p.data.zero_()
    save_export(folder, model, config)
    return folder


def test_references_of_a_folder(export, photo, tmp_path):
    folder(tmp_path / "refs", "a.png", "b.png")
    save_noise(tmp_path / "a.jpg", seed=9)
    arguments = ("--reference", tmp_path / "refs", "--out", tmp_path / "out")
    translated(photo, "--model", export, "--to", "day", *arguments)
    assert sorted(os.listdir(tmp_path / "out")) == ["photo-day-by-a.png", "photo-day-by-b.png"]
    translated(
        photo,
        "--model",
        export,
        "--to",
        "day",
        *arguments,
        "--reference",
        tmp_path / "a.jpg",
        "--out",
        tmp_path / "3",
    )
    assert sorted(os.listdir(tmp_path / "3")) == [f"photo-day-by-{n}.png" for n in ("0-a", "1-b", "2-a")]


def test_references_are_seen_at_the_size_of_the_training(export, photo, tmp_path):
    """As a picture of it that has the right size already."""
    save_noise(tmp_path / "large.png", (64, 80))
    picture = to_bytes(read_image(tmp_path / "large.png", 32)).permute(1, 2, 0).numpy()
    Image.fromarray(picture).save(tmp_path / "small.png")
    references = ("--reference", tmp_path / "large.png", "--reference", tmp_path / "small.png")
    translated(photo, "--model", export, "--to", "day", *references, "--out", tmp_path / "out")
    large, small = (tmp_path / "out" / f"photo-day-by-{n}.png" for n in ("large", "small"))
    assert torch.equal(pixels(large), pixels(small))


def test_all_domains_at_once(export, photo, tmp_path):
    """As one by one."""
    result = translated(photo, "--model", export, "--to", "all", "--samples", 2, "--out", tmp_path / "all")
    assert "1 x 4 translations to day, night" in result.stdout
    for domain in DOMAINS:
        translated(photo, "--model", export, "--to", domain, "--samples", 2, "--out", tmp_path / "each")
    translated(
        photo, "--model", export, "--to", "night", "--to", "day", "--samples", 2, "--out", tmp_path / "both"
    )
    assert (
        sorted(contents(tmp_path / "all"))
        == sorted(contents(tmp_path / "each"))
        == sorted(contents(tmp_path / "both"))
    )
    for name in contents(tmp_path / "all"):
        assert (pixels(tmp_path / "all" / name) - pixels(tmp_path / "each" / name)).abs().max() <= 1


def test_sub_folders_are_kept(export, tmp_path):
    source = folder(tmp_path / "in", "a.png")
    folder(source / "deep", "a.png")
    save_noise(source / "a.jpg")
    translated(source, "--model", export, "--to", "day", "--samples", 1, "--out", tmp_path / "out")
    expected = ["a.jpg-day-c0-s0.png", "a.png-day-c0-s0.png", "deep/a-day-c0-s0.png"]
    assert sorted(contents(tmp_path / "out")) == expected


@pytest.mark.parametrize(("word", "kind"), [("jpg", "JPEG"), ("webp", "WEBP")])
def test_formats(export, photo, tmp_path, word, kind):
    arguments = ("--samples", 1, "--format", word, "--out", tmp_path)
    translated(photo, "--model", export, "--to", "day", *arguments)
    with Image.open(tmp_path / f"photo-day-c0-s0.{word}") as file:
        assert (file.format, file.size) == (kind, (32, 32))


def strip_frames(path, side=32):
    picture = pixels(path)
    return [picture[:, 2 : 2 + side, x + 2 : x + 2 + side] for x in range(0, picture.shape[2] - 2, side + 2)]


def test_interpolation_ends_at_the_components_translations(export, photo, tmp_path):
    options = ("--model", export, "--to", "night", "--component", 0, "--component", 2, "--out", tmp_path)
    translated(photo, *options)
    translated(photo, *options, "--interpolate", "both", "--frames", 5)
    frames = strip_frames(tmp_path / "photo-night-c0-c2-s0.png")
    assert len(frames) == 5
    for frame, k in ((frames[0], 0), (frames[-1], 2)):
        assert (frame - pixels(tmp_path / f"photo-night-c{k}-s0.png")).abs().max() <= 1
    away = [float((frame - frames[0]).abs().float().mean()) for frame in frames]
    assert away == sorted(away)
    with Image.open(tmp_path / "photo-night-c0-c2-s0.gif") as file:
        assert (file.n_frames, file.size, file.info["loop"]) == (8, (32, 32), 0)
        shown = []
        for i in range(file.n_frames):
            file.seek(i)
            shown.append(file.info["duration"])
            still = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1).int()
            assert (still - frames[min(i, 8 - i)]).abs().float().mean() < 12
    assert shown == [PAUSE_MS, *[FRAME_MS] * 3, PAUSE_MS, *[FRAME_MS] * 3]


def test_interpolation_ends_at_the_references_translations(export, photo, tmp_path):
    for seed, name in enumerate("ab"):
        Image.new("RGB", (32, 32), ("red", "blue")[seed]).save(tmp_path / f"{name}.png")
    options = ("--model", export, "--to", "night", "--out", tmp_path / "out")
    references = ("--reference", tmp_path / "a.png", "--reference", tmp_path / "b.png")
    translated(photo, *options, *references)
    translated(photo, *options, *references, "--interpolate", "strip", "--frames", 3)
    assert len(os.listdir(tmp_path / "out")) == 3
    frames = strip_frames(tmp_path / "out" / "photo-night-by-a-b.png")
    for frame, name in ((frames[0], "a"), (frames[2], "b")):
        assert (frame - pixels(tmp_path / "out" / f"photo-night-by-{name}.png")).abs().max() <= 1


def test_interpolation_through_all_components(export, photo, tmp_path):
    options = ("--interpolate", "strip", "--frames", 4, "--samples", 2, "--out", tmp_path / "out")
    translated(photo, "--model", export, "--to", "day", *options)
    names = sorted(os.listdir(tmp_path / "out"))
    assert names == ["photo-day-c0-c1-c2-s0.png", "photo-day-c0-c1-c2-s1.png"]
    assert len(strip_frames(tmp_path / "out" / names[0])) == 7


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


@pytest.mark.parametrize("size", [(33, 32), (35, 50), (128, 31), (1, 1), (2, 9), (3, 40)], ids=str)
def test_sizes_that_are_no_multiple_of_a_cell(export, tmp_path, size):
    photo = save_noise(tmp_path / "photo.png", size)
    out = ("--samples", 1, "--out", tmp_path / "out")
    translated(photo, "--model", export, "--to", "night", *out)
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


PLACES = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 5),
        "others": st.lists(st.sampled_from([(32, 32), (31, 30), (40, 24)]), max_size=4),
        "first": st.booleans(),
        "samples": st.integers(2, 4),
    }
)


@settings(max_examples=12)
@given(place=PLACES, fresh=st.booleans())
def test_translations_do_not_depend_on_batch_or_company(export, tmp_path_factory, place, fresh):
    """Up to the rounding of a pixel: other convolution algorithms may serve other batches."""
    root = tmp_path_factory.mktemp("company")
    options = ("--model", export, "--to", "night", *(["--fresh-draws"] if fresh else []))
    (root / "alone").mkdir()
    (root / "in").mkdir()
    for source in ("alone", "in"):
        save_noise(root / source / "m.png", (31, 32), seed=1)
    for i, size in enumerate(place["others"]):
        save_noise(root / "in" / f"{'z' if place['first'] else 'a'}{i}.png", size, seed=2 + i)
    translated(root / "alone", *options, "--samples", 2, "--out", root / "1")
    batch = ("--batch-size", place["batch"], "--samples", place["samples"])
    translated(root / "in", *options, *batch, "--out", root / "2")
    for name in ("m-night-c0-s0.png", "m-night-c1-s0.png"):
        assert (pixels(root / "1" / name) - pixels(root / "2" / name)).abs().max() <= 1


def test_fresh_draws_differ_by_name(export, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        save_noise(tmp_path / "in" / name)
    options = ("--model", export, "--to", "night", "--fresh-draws", "--samples", 1)
    translated(tmp_path / "in", *options, "--out", tmp_path / "out")
    a, b = (pixels(tmp_path / "out" / f"{name}-night-c0-s0.png") for name in "ab")
    assert not torch.equal(a, b)
    save_noise(tmp_path / "in" / "a.jpg", seed=3)  # which changes what a.png's translation is called
    translated(tmp_path / "in", *options, "--out", tmp_path / "out")
    assert (a - pixels(tmp_path / "out" / "a.png-night-c0-s0.png")).abs().max() <= 1


def test_padding_leaves_an_image_of_whole_cells_alone(export, photo, tmp_path):
    """As the translator itself renders it, in the other precision about the same."""
    quiet = quiet_export(export, tmp_path / "quiet")
    options = ("--model", quiet, "--to", "night", "--samples", 1, "--temperature", 0)
    for precision in ("fp32", "bf16"):
        translated(
            photo, *options, "--precision", precision, "--device", "cpu", "--out", tmp_path / precision
        )
    translator, _ = load_export(quiet)
    with torch.inference_mode():
        mean = translator.prior(torch.tensor([1]))[0][:, 0]
        expected = to_bytes(translator.translate(read_image(photo)[None], mean, torch.tensor([1]))[0]).int()
    assert (pixels(tmp_path / "fp32" / "photo-night-c0-s0.png") - expected).abs().max() <= 1
    away = (pixels(tmp_path / "bf16" / "photo-night-c0-s0.png") - expected).abs()
    assert away.max() > 0
    assert away.float().mean() < 4


def test_existing_files_are_replaced_or_skipped(export, tmp_path):
    source = folder(tmp_path / "in", "a.png", "b.png")
    options = (source, "--model", export, "--to", "night", "--samples", 2, "--out", tmp_path / "out")
    translated(*options)
    before = contents(tmp_path / "out")
    stale, missing = (tmp_path / "out" / f"{name}-night-c0-s0.png" for name in "ab")
    stale.write_bytes(b"old")
    missing.unlink()
    result = translated(*options, "--skip-existing")
    assert "1 x 2 translations to night" in result.stdout
    assert "(had theirs already: 1)" in result.stdout
    after = contents(tmp_path / "out")
    assert after.keys() == before.keys()
    assert after[stale.name] == b"old"
    # Alone in a batch, an image may be rounded otherwise.
    assert (pixels(missing) - pixels(io.BytesIO(before[missing.name]))).abs().max() <= 1
    translated(*options)
    assert contents(tmp_path / "out") == before


def test_large_images_are_remarked_upon(export, tmp_path):
    photo = save_noise(tmp_path / "photo.png", (130, 128))
    result = translated(photo, "--model", export, "--to", "night", "--samples", 1, "--out", tmp_path)
    assert result.stderr.startswith("note: 4 times as large as the images of the training, or more: 1; ")
    assert "--size 32" in result.stderr
    translated(photo, "--model", export, "--to", "night", "--samples", 1, "--size", 32, "--out", tmp_path)
    assert Image.open(tmp_path / "photo-night-c0-s0.png").size == (32, 32)  # of 32.5 the even one


def test_an_image_that_does_not_fit_is_refused(export, tmp_path, monkeypatch):
    source = folder(tmp_path / "in", "a.png")
    save_noise(source / "big.png", (200, 100))
    monkeypatch.setattr("gmvae_drit.devices.Device.free_bytes", lambda device: 1_500_000)
    result = translate(source, "--model", export, "--to", "night", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"error: {source / 'big.png'}: 100 x 200 pixels need about 0.0 GB" in result.stderr
    assert "--size" in result.stderr
    assert sorted(os.listdir(tmp_path / "out")) == [f"a-night-c{k}-s0.png" for k in range(3)]


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError])
def test_memory_that_runs_out_is_one_line(export, tmp_path, monkeypatch, kind):
    """For each image of the batch; the batches before and after it are translated."""
    source = folder(tmp_path / "in", "a.png", "b.png")
    save_noise(source / "c.png", (48, 48))
    generator = type(load_export(export)[0].generator)
    rendered = generator.render

    def render(self, shared, attribute, domain):
        if shared.shape[2] == 12:
            raise kind("DefaultCPUAllocator: can't allocate memory\nstack")
        return rendered(self, shared, attribute, domain)

    monkeypatch.setattr(generator, "render", render)
    result = translate(source, "--model", export, "--to", "night", "--samples", 2, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {source / 'c.png'}: out of memory on cpu with 2 pictures of 48 x 48: "
        "use a smaller --batch-size or --size\n"
    )
    assert len(os.listdir(tmp_path / "out")) == 4


def test_a_gaussian_has_one_component(photo, tmp_path):
    settings = tiny.settings(kind="drit")
    config = ExportConfig(model=settings, domains=DOMAINS, image_size=32, step=0)
    save_export(tmp_path / "single", build_model(settings, DOMAINS), config)
    options = (photo, "--model", tmp_path / "single", "--to", "night", "--out", tmp_path / "out")
    translated(*options, "--component", 0, "--samples", 2)
    assert sorted(os.listdir(tmp_path / "out")) == ["photo-night-c0-s0.png", "photo-night-c0-s1.png"]
    for words, message in (
        (("--component", 1), "component 1: this model has a single Gaussian, which is component 0"),
        (("--interpolate", "gif"), "--interpolate needs two references or two components"),
    ):
        result = translate(*options, *words)
        assert (result.exit_code, result.stderr) == (1, f"error: {message}\n")


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
    "reference missing": (lambda p, e: {"--reference": p / "absent.png"}, "absent.png: no such file"),
    "reference and samples": (lambda p, e: {"--reference": "a", "--samples": 2}, "are for draws"),
    "reference and all domains": (lambda p, e: {"--reference": "a", "--to": "all"}, "needs one --to"),
    "frames of nothing": (lambda p, e: {"--frames": 3}, "--frames needs --interpolate"),
    "a way to nowhere": (
        lambda p, e: {"--interpolate": "gif", "--component": 1},
        "--interpolate needs two references or two components",
    ),
    "a way from one reference": (
        lambda p, e: {"--interpolate": "gif", "--reference": save_noise(p / "r.png")},
        "--interpolate needs two references or two components",
    ),
    "grid of ways": (lambda p, e: {"--interpolate": "gif", "--grid": p / "g.png"}, "exclude each other"),
    "grid of no format": (lambda p, e: {"--grid": p / "grid.gif"}, "must end in .png, .jpg, .jpeg, .webp"),
    "device of another kind": (lambda p, e: {"--device": "tpu"}, "choose auto, cpu, cuda or cuda:N"),
    "device that is not there": (lambda p, e: {"--device": "cuda:99"}, "this machine has"),
    "out is the source": (
        lambda p, e: {"source": folder(p / "in", "a.png"), "--out": p / "in"},
        "is the folder of the images",
    ),
    "out holds a source": (
        lambda p, e: {
            "source": save_noise(p / "a-night-c0-s0.png"),
            "more": save_noise(p / "a.png"),
            "--out": p,
        },
        "a-night-c0-s0.png: is one of the images to translate",
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
        "a reference must be at least 32 pixels on each side; raise --size",
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
    sources = [options.pop("source"), *([options.pop("more")] if "more" in options else [])]
    result = translate(*sources, *(word for pair in options.items() for word in pair))
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert message in result.stderr
    assert result.stdout == ""
    assert contents(tmp_path) == before


def test_bad_images_are_listed_and_the_others_translated(export, tmp_path):
    source = folder(tmp_path / "in", "a.png", "c.png")
    truncated(source / "b.png")
    text(source / "d.jpg")
    options = ("--model", export, "--to", "night", "--samples", 2)
    result = translate(source, *options, "--out", tmp_path / "out")
    assert result.exit_code == 1
    first, second = result.stderr.splitlines()
    assert first.startswith(f"error: {source / 'b.png'}: cannot read the image")
    assert second.startswith(f"error: {source / 'd.jpg'}: not an image")
    assert "2 x 2 translations to night" in result.stdout
    assert sorted(contents(tmp_path / "out")) == [
        f"{stem}-night-c{k}-s0.png" for stem in "ac" for k in (0, 1)
    ]
    for path in (tmp_path / "out").iterdir():
        Image.open(path).load()


def test_strict_stops_at_a_bad_image(export, tmp_path):
    source = folder(tmp_path / "in", "b.png")
    truncated(source / "a.png")
    result = translate(source, "--model", export, "--to", "night", "--strict", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {source / 'a.png'}")
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_grid_leaves_bad_images_out(export, tmp_path):
    source = folder(tmp_path / "in", "a.png", "b.png")
    text(source / "c.png")
    result = translate(source, "--model", export, "--to", "night", "--grid", tmp_path / "grid.png")
    assert result.exit_code == 1
    assert pixels(tmp_path / "grid.png").shape == (3, 2 + 2 * 66, 2 + 4 * 146)


def test_names_across_domains_do_not_collide(photo, tmp_path):
    domains = ("b", "a-b")
    config = ExportConfig(model=tiny.settings(), domains=domains, image_size=32, step=0)
    save_export(tmp_path / "model", build_model(tiny.settings(), domains), config)
    source = folder(tmp_path / "in", "x.png", "x-a.png")
    result = translate(source, "--model", tmp_path / "model", "--to", "all", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "translations would share a name; use one --to at a time" in result.stderr
    translated(source, "--model", tmp_path / "model", "--to", "b", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--samples", 0),
        ("--size", 0),
        ("--temperature", -1),
        ("--limit", 0),
        ("--seed", "x"),
        ("--batch-size", 0),
        ("--frames", 1),
        ("--precision", "fp8"),
        ("--format", "exr"),
        ("--interpolate", "mp4"),
    ],
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


@pytest.mark.parametrize("words", [("--help",), ("translate", "--help"), ("explore", "--help")], ids=" ".join)
def test_help_is_fast(tmp_path, words):
    """No torch on the way."""
    result = run_python("-X", "importtime", "-m", "gmvae_drit", *words, cwd=tmp_path)
    assert result.returncode == 0
    assert words[0] in (result.stdout if len(words) > 1 else "--help")
    imported = {line.split("|")[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert "typer" in imported
    assert imported.isdisjoint({"torch", "torchvision", "numpy", "PIL", "ray", "safetensors"})
