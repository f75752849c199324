"""Shards are ordinary, deterministic and whole."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from data_shards.build import BuildOptions, Encoded, SourceImage, build, encode, to_rgb
from data_shards.errors import DataError
from data_shards.folders import find_images
from data_shards.manifest import Manifest
from data_shards.samples import read_split
from data_shards.store import LocalStore, open_store
from data_shards.verify import faults

Made = Callable[..., str]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_stock_webdataset_reads_the_shards(digits: Path) -> None:
    ours = {sample.key: sample for sample in read_split(str(digits), "test", "mnist-m")}
    shards = [str(path) for path in sorted(digits.glob("mnist-m/test-*.tar"))]
    theirs = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode("rgb8")
    count = 0
    for sample in theirs:
        mine = ours[sample["__key__"]]
        np.testing.assert_array_equal(sample["png"].transpose(2, 0, 1), mine.image.numpy())
        assert sample["json"] == mine.meta
        count += 1
    assert count == len(ours) == 500


def test_the_same_images_give_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    first = build(find_images(photos), tmp_path / "one", BuildOptions(resize=20))
    copy = tmp_path / "copy"
    for path in sorted(photos.rglob("*.jpg"), reverse=True):
        (copy / path.relative_to(photos)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy / path.relative_to(photos))
        os.utime(copy / path.relative_to(photos), (1.5, 1.5))
    second = build(find_images(copy), tmp_path / "two", BuildOptions(resize=20))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert first.digest == second.digest
    assert build(find_images(photos), tmp_path / "three", BuildOptions(resize=21)).digest != first.digest


def test_a_manifest_survives_writing(make: Made) -> None:
    uri = make({"a": 30, "b": 3})
    manifest = Manifest.read(open_store(uri))
    assert [len(manifest.shards("a", split)) > 1 for split in ("train", "test")] == [True, False]
    assert sum(shard.count for shard in manifest.shards("a", "train")) == 30
    again = Manifest.model_validate(manifest.model_dump(mode="json"))
    assert again.digest == manifest.digest
    assert list(faults(open_store(uri), manifest, deep=True)) == []


def test_cyclegan_layout(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = build(find_images(photos, names={"A": "apple"}), tmp_path / "out")
    assert sorted(manifest.domains) == ["B", "apple"]
    assert {split for splits in manifest.domains.values() for split in splits} == {"train", "test"}
    assert "skipped, not named like an image (2): trainA/._0.jpg, trainA/Thumbs.db" in caplog.text
    sample = next(read_split(str(tmp_path / "out"), "train", "apple"))
    original = Image.open(photos / "trainA" / sample.meta["name"])
    np.testing.assert_array_equal(sample.image.numpy().transpose(1, 2, 0), np.asarray(original))


def test_split_folders_and_domain_folders(photos: Path, tmp_path: Path) -> None:
    by_split = tmp_path / "by_split"
    for split in ("train", "test"):
        for domain in "AB":
            shutil.copytree(photos / f"{split}{domain}", by_split / split / domain)
    expected = {(image.domain, image.split, image.name) for image in find_images(photos)}
    assert {(image.domain, image.split, image.name) for image in find_images(by_split)} == expected

    by_domain = find_images(by_split / "train", test_fraction=0.25)
    assert [image.split for image in by_domain].count("test") == 2
    assert by_domain == find_images(by_split / "train", test_fraction=0.25)
    assert {image.split for image in find_images(by_split / "train", test_fraction=0)} == {"train"}


@pytest.mark.parametrize(
    ("size", "expected"), [((50, 40), (25, 20)), ((33, 60), (20, 36)), ((10, 10), (20, 20))]
)
def test_resize_sets_the_short_side(size: tuple[int, int], expected: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "red")
    made = encode(SourceImage("a", "train", "x", image), BuildOptions(resize=20))
    assert (made.width, made.height) == expected


def stored(path: Path, **options: object) -> tuple[Encoded, np.ndarray]:
    made = encode(SourceImage("a", "train", path.name, path), BuildOptions(**options))
    path.with_suffix(".stored").write_bytes(made.data)
    return made, np.asarray(Image.open(path.with_suffix(".stored")))


def test_images_are_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    made, shown = stored(tmp_path / "turned.jpg")
    assert (made.width, made.height) == (20, 30)
    assert shown[:, 11:].min() > 200
    assert shown[:, :9].max() < 50


def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path) -> None:
    deep = np.repeat(np.linspace(0, 65535, 30, dtype=np.uint16)[None], 20, axis=0)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    made, shown = stored(tmp_path / "deep.png")
    np.testing.assert_array_equal(shown, np.repeat((deep // 256).astype(np.uint8)[..., None], 3, axis=-1))
    assert made.extension == "png"
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"):
        assert to_rgb(Image.new(mode, (4, 4))).mode == "RGB"
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert to_rgb(clear).getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(DataError, match="32 bits"):
        encode(SourceImage("a", "train", "x", Image.new("F", (4, 4))), BuildOptions())


def test_fitting_files_are_kept_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.effect_noise((80, 80), 50).convert("RGB").save(path, quality=60)
    assert stored(path)[0].data == path.read_bytes()
    assert stored(path, resize=80)[0].data == path.read_bytes()
    assert stored(path, encoding="png")[0].extension == "png"
    assert stored(path, resize=70)[0].extension == "jpg"
    assert stored(path, resize=60)[0].extension == "png"


def test_bad_images_can_be_left_out(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "trainB" / "2.jpg").write_bytes((photos / "trainB" / "2.jpg").read_bytes()[:500])
    manifest = build(find_images(photos), tmp_path / "out", BuildOptions(skip_bad=True))
    assert sum(shard.count for shard in manifest.shards("B", "train")) == 3
    assert "left out: cannot use" in caplog.text


def test_an_interrupted_build_leaves_the_old_data_set(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(find_images(photos), out)
    before = contents(out)

    def interrupted(images: object) -> object:
        yield from list(images)[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(find_images(photos), out, BuildOptions(resize=8), overwrite=True, watch=interrupted)
    assert contents(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "pixels"])
def test_verify_names_the_damaged_shard(make: Made, damage: str) -> None:
    uri = make({"a": 30, "b": 10})
    store = LocalStore(Path(uri))
    manifest = Manifest.read(store)
    shard = manifest.shards("a", "train")[1]
    path = Path(uri, shard.path)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1  # padding: no sample is hurt
    elif damage == "pixels":
        data[shard.data_offset[1] + shard.size[1] - 20] ^= 1
    path.write_bytes(data[:-1] if damage == "cut" else data)
    if damage == "remove":
        path.unlink()
    shallow = list(faults(store, manifest, deep=False))
    assert len(shallow) == 1
    assert shard.path in shallow[0]
    hurt = [fault for fault in faults(store, manifest, deep=True) if shard.key[1] in fault]
    assert len(hurt) == (1 if damage == "pixels" else 0)


def test_a_manifest_that_leads_elsewhere_is_refused(make: Made) -> None:
    uri = make({"a": 3, "b": 3})
    content = json.loads(Path(uri, "manifest.json").read_text())
    content["domains"]["a"]["train"][0]["path"] = "../../etc/passwd"
    Path(uri, "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="leads out of the data set"):
        Manifest.read(open_store(uri))
