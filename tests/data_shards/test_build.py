"""Shards are ordinary, deterministic and whole; what replaces what."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_shards.build import BuildOptions, SourceImage, build
from data_shards.errors import DataError
from data_shards.manifest import Manifest
from data_shards.samples import read_split
from data_shards.sources import name_hash
from data_shards.store import open_store
from data_shards.units import in_shard_order, plan

from .conftest import build_folder, contents, noise_image, noise_images

Made = Callable[..., str]


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
    """Whatever the order of files on disk, their age, and the number of processes."""
    options = BuildOptions(resize=20, shard_samples=2)
    first = build_folder(photos, tmp_path / "one", options)
    copy = tmp_path / "copy"
    for path in sorted(photos.rglob("*.*"), reverse=True):
        (copy / path.relative_to(photos)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy / path.relative_to(photos))
        os.utime(copy / path.relative_to(photos), (1.5, 1.5))
    second = build_folder(copy, tmp_path / "two", options, processes=3)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    manifests = [Manifest.model_validate_json(files.pop("manifest.json")) for files in (one, two)]
    assert one == two
    assert manifests == [first, second]
    assert first.model_copy(update={"source": ""}) == second.model_copy(update={"source": ""})
    assert first.digest == second.digest
    other = build_folder(photos, tmp_path / "three", BuildOptions(resize=21, shard_samples=2))
    assert other.digest != first.digest


def test_shards_are_named_by_their_content(photos: Path, tmp_path: Path) -> None:
    manifest = build_folder(photos, tmp_path / "out", BuildOptions(shard_samples=3))
    shards = manifest.split("A", "train").shards
    assert [shard.count for shard in shards] == [3, 1]
    for number, shard in enumerate(shards):
        assert shard.path == f"A/train-{number:05d}-{shard.sha256[:8]}.tar"
    assert {file.path for file in manifest.files()} | {"manifest.json"} == set(contents(tmp_path / "out"))


def test_a_skip_leaves_other_shards_as_they_are(tmp_path: Path) -> None:
    """Keys count candidates, so that a bad image moves nothing but its own shard."""
    images = list(noise_images({"a": 20, "b": 5}))
    good = build(images, tmp_path / "good", BuildOptions(shard_samples=4))
    bad = in_shard_order(images)[5]  # of the second of the shards of a
    spoilt = [image if image.name != bad.name else spoil(image) for image in images]
    skipped = build(spoilt, tmp_path / "spoilt", BuildOptions(shard_samples=4))
    part = in_shard_order(images)[5]
    before, after = (made.split(part.domain, part.split).shards for made in (good, skipped))
    different = [old != new for old, new in zip(before, after, strict=True)]
    assert sum(different) == 1
    assert after[different.index(True)].count == before[different.index(True)].count - 1
    assert [(skip.path, skip.reason[:22]) for skip in skipped.skipped if skip.path.startswith("a")] == [
        (f"{bad.domain}/{bad.split}/{bad.name}", "its pixels have 32 bit")
    ]


def spoil(image: SourceImage) -> SourceImage:
    return SourceImage(image.domain, image.split, image.name, Image.new("F", (4, 4)))


def test_a_unit_of_bad_images_makes_no_shard(tmp_path: Path) -> None:
    images = in_shard_order(noise_images({"a": 9, "b": 5}))
    trains = [image for image in images if (image.domain, image.split) == ("a", "train")]
    spoilt = [spoil(image) if image in trains[3:6] else image for image in images]
    manifest = build(spoilt, tmp_path / "out", BuildOptions(shard_samples=3))
    assert [shard.path.split("-")[1] for shard in manifest.split("a", "train").shards] == ["00000", "00002"]
    keys = [sample.key for sample in read_split(str(tmp_path / "out"), "train", "a")]
    assert keys == ["00000000", "00000001", "00000002", "00000006", "00000007", "00000008"]


def test_a_domain_without_a_usable_image_is_refused(photos: Path, tmp_path: Path) -> None:
    for path in (photos / "testB").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(
        DataError, match=r"no usable image in split 'test' of domain 'B': testB/\d\.jpg: it is none"
    ):
        build_folder(photos, tmp_path / "out")


def test_skips_are_told_and_kept(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "trainB" / "2.jpg").write_bytes((photos / "trainB" / "2.jpg").read_bytes()[:500])
    with caplog.at_level(logging.WARNING):
        manifest = build_folder(photos, tmp_path / "out")
    assert manifest.split("B", "train").count == 3
    assert [skip.path for skip in manifest.skipped] == ["trainA/._0.jpg", "trainA/Thumbs.db", "trainB/2.jpg"]
    assert "skipped 3 (all in the manifest): trainA/._0.jpg (it is hidden), trainA/Thumbs.db" in caplog.text
    with pytest.raises(DataError, match=r"cannot use trainB/2.jpg: it is broken: .*without --strict"):
        build_folder(photos, tmp_path / "strict", BuildOptions(strict=True))
    with pytest.raises(DataError, match=r"cannot use trainB/2.jpg: "):
        build_folder(photos, tmp_path / "out", BuildOptions(strict=True))


def test_a_second_build_has_nothing_to_do(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = build_folder(photos, out)
    ages = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert build_folder(photos, out) == first
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == ages
    shard = out / first.split("A", "train").shards[0].path
    shard.unlink()
    before = contents(out)
    assert build_folder(photos, out) == first, "a shard that is gone is built again"
    assert contents(out) == {**before, shard.relative_to(out).as_posix(): shard.read_bytes()}


@pytest.mark.parametrize(
    "change", ["options", "a new image", "a changed image", "one image less", "metadata"]
)
def test_another_data_set_is_replaced_only_on_demand(photos: Path, tmp_path: Path, change: str) -> None:
    out = tmp_path / "out"
    build_folder(photos, out)
    before = contents(out)
    options = BuildOptions(resize=20 if change == "options" else None)
    if change == "a new image":
        noise_image(40, 50, 99).save(photos / "trainA" / "new.jpg")
    elif change == "a changed image":
        noise_image(40, 50, 99).save(photos / "trainA" / "0.jpg")
    elif change == "one image less":
        (photos / "trainA" / "0.jpg").unlink()
    elif change == "metadata":
        (photos / "metadata.csv").write_text("file_name,label\ntrainA/0.jpg,1\n")
    with pytest.raises(DataError, match="give --overwrite"):
        build_folder(photos, out, options)
    assert contents(out) == before
    (out / "notes.txt").write_text("mine")
    manifest = build_folder(photos, out, options, overwrite=True)
    named = {file.path for file in manifest.files()}
    assert set(contents(out)) == {*named, "manifest.json", "notes.txt"}


def test_an_interrupted_build_leaves_the_old_data_set(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_folder(photos, out)
    before = contents(out)

    def interrupted(done: int, total: int) -> None:
        if done > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_folder(photos, out, BuildOptions(resize=8, shard_samples=2), overwrite=True, watch=interrupted)
    assert before.items() < contents(out).items()
    assert len(list(read_split(str(out), "train", "A"))) == 4


def test_names_that_occur_twice_are_refused(tmp_path: Path) -> None:
    images = [SourceImage("a", "train", "same", noise_image(4, 4, index)) for index in range(2)]
    with pytest.raises(DataError, match="two images are named 'same' in split 'train' of 'a'"):
        build(images, tmp_path / "out")


def test_a_manifest_survives_writing(make: Made) -> None:
    manifest = Manifest.read(open_store(make({"a": 30, "b": 3})))
    assert [len(manifest.split("a", split).shards) > 1 for split in ("train", "test")] == [True, False]
    assert manifest.split("a", "train").count == 30
    again = Manifest.model_validate(manifest.model_dump(mode="json"))
    assert again == manifest
    assert again.digest == manifest.digest


def test_a_manifest_that_leads_elsewhere_is_refused(make: Made) -> None:
    uri = make({"a": 3, "b": 3})
    content = json.loads(Path(uri, "manifest.json").read_text())
    content["domains"]["a"]["train"]["shards"][0]["path"] = "../../etc/passwd"
    Path(uri, "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="leads out of the data set"):
        Manifest.read(open_store(uri))


PIXEL = Image.new("RGB", (1, 1))


@settings(deadline=None, max_examples=30)
@given(
    names=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["train", "test"]), st.text()), unique=True
    ),
    shard_samples=st.integers(1, 9),
    order=st.randoms(use_true_random=False),
)
def test_units_depend_on_nothing_but_the_set_of_images(
    names: list[tuple[str, str, str]], shard_samples: int, order: object
) -> None:
    options = BuildOptions(shard_samples=shard_samples)
    images = [
        SourceImage(*name, PIXEL) for name in names if not any("\ud800" <= c <= "\udfff" for c in name[2])
    ]
    units = list(plan(in_shard_order(images), options))
    order.shuffle(images)  # type: ignore[attr-defined]
    assert list(plan(in_shard_order(images), options)) == units
    assert sorted(id(image) for unit in units for image in unit.images) == sorted(map(id, images))
    assert len({unit.key for unit in units}) == len(units)
    for unit in units:
        hashes = [name_hash(image.name) for image in unit.images]
        assert hashes == sorted(hashes)
        assert unit.first == unit.number * shard_samples
        assert {(image.domain, image.split) for image in unit.images} == {(unit.domain, unit.split)}


MEASURE = """
import resource, sys
from pathlib import Path
from data_shards.build import BuildOptions, build
from data_shards.folders import find_images
from data_shards.store import LocalStore
source, dest = map(Path, sys.argv[1:])
build(find_images(LocalStore(source))[0], dest, BuildOptions(resize=64), source=source)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    peaks = []
    for count in (6, 40):  # of 12 MB each, as files and decoded: 32 MiB of them are read ahead
        source = tmp_path / f"source-{count}"
        for domain in "AB":
            (source / f"train{domain}").mkdir(parents=True)
            first = source / f"train{domain}" / "0.bmp"
            Image.new("RGB", (2000, 2000), "red").save(first)
            for index in range(1, count // 2):
                os.link(first, first.with_name(f"{index}.bmp"))
        words = [sys.executable, "-c", MEASURE, str(source), str(tmp_path / f"out-{count}")]
        peaks.append(int(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < peaks[0] + 40, peaks
