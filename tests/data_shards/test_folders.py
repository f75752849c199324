"""What is found in a folder: layouts, odd names, links, metadata."""

import json
import os
import shutil
from pathlib import Path

import pytest

from data_shards.errors import DataError
from data_shards.folders import find_images
from data_shards.samples import read_split
from data_shards.store import LocalStore

from .conftest import build_folder, noise_image


def found(source: Path, **options: object) -> set[tuple[str, str, str]]:
    return {
        (image.domain, image.split, image.name) for image in find_images(LocalStore(source), **options)[0]
    }


def put(source: Path, *names: str | bytes) -> None:
    """An image of noise under each name."""
    for number, name in enumerate(names):
        path = Path(os.fsdecode(os.path.join(os.fsencode(source), os.fsencode(name))))
        path.parent.mkdir(parents=True, exist_ok=True)
        noise_image(20, 20, number, len(name)).save(path, "PNG")


def test_three_layouts_mean_the_same(photos: Path, tmp_path: Path) -> None:
    by_split = tmp_path / "by_split"
    for split in ("train", "test"):
        for domain in "AB":
            shutil.copytree(photos / f"{split}{domain}", by_split / split / domain)
    (by_split / "train" / "loose.jpg").write_bytes(b"")
    assert found(by_split) == found(photos)
    skipped = {skip.path: skip.reason for skip in find_images(LocalStore(by_split))[1]}
    assert skipped["train/loose.jpg"] == "it lies in no folder of a domain"

    by_domain = by_split / "train"
    (by_domain / "loose.jpg").unlink()
    splits = [split for _, split, _ in found(by_domain, test_fraction=0.25)]
    assert sorted(splits) == ["test"] * 2 + ["train"] * 6
    assert found(by_domain, test_fraction=0.25) == found(by_domain, test_fraction=0.25)
    assert {split for _, split, _ in found(by_domain, test_fraction=0)} == {"train"}


def test_what_is_not_taken_for_an_image_is_said(photos: Path) -> None:
    (photos / ".git" / "objects").mkdir(parents=True)
    (photos / ".git" / "objects" / "1").write_text("")
    (photos / "trainA" / ".cache").mkdir()
    shutil.copy(photos / "trainA" / "0.jpg", photos / "trainA" / ".cache" / "0.jpg")
    (photos / "readme.md").write_text("")
    skipped = find_images(LocalStore(photos))[1]
    assert {skip.path: skip.reason for skip in skipped} == {
        ".git/": "it is hidden",
        "trainA/.cache/": "it is hidden",
        "trainA/._0.jpg": "it is hidden",
        "trainA/Thumbs.db": "it is not named like an image",
        "readme.md": "it lies in no folder of a domain",
    }


def test_odd_names(tmp_path: Path) -> None:
    names = [
        "é ü/日本.PNG",
        "a.b.c/x.y.jpg",
        "one/a.jpg",
        "two/a.jpg",
        "new\nline.png",
        "quote'\"\\.png",
        " .png",
    ]
    put(tmp_path / "src" / "A", *names, b"latin-\xe9.png")
    put(tmp_path / "src" / "B", "b.png")
    shutil.rmtree(tmp_path / "src" / "B")
    put(tmp_path / "src" / "B é", "b.png", "c.png")
    manifest = build_folder(tmp_path / "src", tmp_path / "out")
    assert sorted(manifest.domains) == ["A", "B é"]
    stored = [
        sample.meta["name"]
        for split in ("train", "test")
        for sample in read_split(str(tmp_path / "out"), split, "A")
    ]
    assert sorted(stored) == sorted([*names, "latin-\\xe9.png"])
    json.dumps(stored, ensure_ascii=False).encode()  # no half characters that nobody can print


def test_links_are_followed_once(tmp_path: Path) -> None:
    source = tmp_path / "src"
    put(source / "trainA", "a.png")
    put(source / "trainB", "b.png")
    put(tmp_path / "elsewhere", "c.png", "deep/d.png")
    (source / "trainA" / "link.png").symlink_to("a.png")
    (source / "trainA" / "folder").symlink_to(tmp_path / "elsewhere")
    (source / "trainA" / "loop").symlink_to(source / "trainA")
    (source / "trainA" / "nowhere.png").symlink_to("gone.png")
    manifest = build_folder(source, tmp_path / "out")
    names = {sample.meta["name"] for sample in read_split(str(tmp_path / "out"), "train", "A")}
    assert names == {"a.png", "link.png", "folder/c.png", "folder/deep/d.png"}
    assert [(skip.path, skip.reason) for skip in manifest.skipped] == [
        ("trainA/nowhere.png", "it is a link to nothing")
    ]


def test_a_pipe_is_not_waited_for(photos: Path, tmp_path: Path) -> None:
    os.mkfifo(photos / "trainA" / "pipe.jpg")
    manifest = build_folder(photos, tmp_path / "out")
    assert "trainA/pipe.jpg" in {skip.path for skip in manifest.skipped}


def test_metadata_reaches_the_samples(photos: Path, tmp_path: Path) -> None:
    (photos / "metadata.csv").write_text(
        "file_name,label,code,note\n"
        + "".join(f'trainA/{index}.jpg,{index},00{index},"a, b\nc"\n' for index in range(3))
        + "./trainA/3.jpg,,,\n"
    )
    manifest = build_folder(photos, tmp_path / "out")
    assert "metadata.csv" not in {skip.path for skip in manifest.skipped}
    stored = {sample.meta["name"]: sample.meta for sample in read_split(str(tmp_path / "out"), "train", "A")}
    size = {"width": 50, "height": 40}
    assert stored["2.jpg"] == {"name": "2.jpg", "label": 2, "code": "002", "note": "a, b\nc", **size}
    assert stored["3.jpg"] == {"name": "3.jpg", "label": None, "code": None, "note": None, **size}
    for sample in read_split(str(tmp_path / "out"), "train", "B"):
        assert set(sample.meta) == {"name", "width", "height"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"name,label\nx,1\n", "has no column 'file_name'"),
        (b"", "has no column 'file_name'"),
        (b"file_name,label\ntrainA/9.jpg,1\n", "names 'trainA/9.jpg', which is no image"),
        (b"file_name,label\ntrainA/Thumbs.db,1\n", "names 'trainA/Thumbs.db', which is no image"),
        (b"file_name,label\ntrainA/0.jpg,1\ntrainA/0.jpg,2\n", "two rows for 'trainA/0.jpg'"),
        (b"file_name,label\ntrainA/0.jpg\n", "number of cells in row 1"),
        (b"file_name,label\ntrainA/0.jpg,1,2\n", "number of cells in row 1"),
        (b"file_name,width\ntrainA/0.jpg,1\n", "has a column 'width'"),
        (b"file_name,a,a\ntrainA/0.jpg,1,2\n", "columns without a name of their own"),
        (b"file_name,label\ntrainA/0.jpg,\xe9\n", "not in UTF-8"),
        (b'file_name,label\ntrainA/0.jpg,"1\n', "not a CSV file"),
    ],
)
def test_metadata_that_does_not_fit(photos: Path, text: bytes, complaint: str) -> None:
    (photos / "metadata.csv").write_bytes(text)
    with pytest.raises(DataError, match=complaint):
        find_images(LocalStore(photos))
