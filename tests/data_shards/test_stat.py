"""What is said of a data set is so, and its sheets show its own pictures."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_shards.__main__ import app
from data_shards.build import BuildOptions, SourceImage, build
from data_shards.manifest import Manifest, Skip
from data_shards.samples import read_split
from data_shards.stat import SHEET_COLUMNS, SHEET_ROWS, TILE
from data_shards.store import LocalStore


def stat(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["stat", *map(str, arguments)])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["stat", *map(str, arguments)])
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    return done.stderr


def grey(level: int, size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, (level, level, level))


def ramps() -> Iterator[SourceImage]:
    """Greys from black to white in two domains; their sizes differ in the second."""
    for level in range(200):
        yield SourceImage("A", "train", f"{level}", grey(level, (30, 20)))
    for level in range(7):
        size = (30 + level, 300 + 20 * level)
        yield SourceImage("photos of B", "train" if level < 5 else "test", f"{level}", grey(level, size))


@pytest.fixture
def greys(tmp_path: Path) -> Path:
    skips = [Skip(path=f"{place}.txt", reason="it is not named like an image") for place in range(1200)]
    skips += [
        Skip(path=f"{place}.jpg", reason=reason) for place, reason in enumerate(("empty", "torn", "odd"))
    ]
    options = BuildOptions(shard_samples=80, encoding="png")
    build(ramps(), tmp_path / "greys", options, skipped=skips)
    return tmp_path / "greys"


def test_the_table_and_the_remarks(greys: Path) -> None:
    said = stat(greys)
    rows = [line.split() for line in said.splitlines()]
    manifest = Manifest.read(LocalStore(greys))
    bytes_of = {
        (domain, split): [len(Path(greys, shard.path).read_bytes()) for shard in made.shards]
        for domain, splits in manifest.domains.items()
        for split, made in splits.items()
    }
    mebibytes = f"{sum(bytes_of['A', 'train']) / 2**20:.1f}"
    image = next(read_split(str(greys), "train", "A"))
    assert rows[1][:5] == ["A", "train", "200", "3", mebibytes]
    assert rows[1][6:] == ["30x20", "kept"]
    assert 0.05 < float(rows[1][5]) < 0.2, "PNGs of one colour"
    assert image.image.shape == (3, 20, 30)
    assert rows[2][:6] == ["photos", "of", "B", "test", "2", "1"]
    assert rows[2][8:] == ["35-36", "x", "400-420", "kept"]
    assert rows[3][8:] == ["30-34", "x", "300-380", "kept"]
    assert f"digest {manifest.digest}" in said
    assert (
        "1,203 files of the source were left out: 1,200 x it is not named like an image; 1 x empty; "
        "1 x torn; 1 more reasons" in said
    )


def test_a_sheet_shows_the_whole_split_evenly(greys: Path, tmp_path: Path) -> None:
    sheets = tmp_path / "new" / "sheets"
    said = stat(greys, "--sheets", sheets)
    assert sorted(path.name for path in sheets.iterdir()) == ["A.png", "photos of B.png"]
    assert f"drew {sheets / 'photos of B.png'}" in said

    drawn = np.asarray(Image.open(sheets / "A.png"))
    assert drawn.shape == (SHEET_ROWS * TILE, SHEET_COLUMNS * TILE, 3)
    tiles = (
        drawn.reshape(SHEET_ROWS, TILE, SHEET_COLUMNS, TILE, 3)
        .transpose(0, 2, 1, 3, 4)
        .reshape(-1, TILE**2 * 3)
    )
    assert (tiles == tiles[:, :1]).all()
    stored = [int(sample.image[0, 0, 0]) for sample in read_split(str(greys), "train", "A")]
    places = [stored.index(int(tile[0])) for tile in tiles]
    assert places[0] == 0
    assert places[-1] == 199
    assert set(np.diff(places)) == {3, 4}

    few = np.asarray(Image.open(sheets / "photos of B.png"))
    assert few.shape == (TILE, 5 * TILE, 3)
    assert sorted(few[TILE // 2, TILE // 2 :: TILE, 0].tolist()) == [0, 1, 2, 3, 4]


def test_tiles_keep_colours_and_shapes(tmp_path: Path) -> None:
    # The central square of a wide image: a red disc would stay one.
    wide = Image.new("RGB", (400, 200), "blue")
    wide.paste((255, 0, 0), (100, 0, 300, 200))
    images = [SourceImage(domain, "val", "x", wide) for domain in ("a", "b")]
    build(images, tmp_path / "out", BuildOptions(encoding="png"))
    stat(tmp_path / "out", "--sheets", tmp_path)
    drawn = np.asarray(Image.open(tmp_path / "a.png"))
    assert drawn.shape == (TILE, TILE, 3)
    assert (drawn == (255, 0, 0)).all()


def test_refusals(greys: Path, tmp_path: Path) -> None:
    assert "no data set at" in refused(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(greys, "--sheets", tmp_path / "file")
    index = greys / Manifest.read(LocalStore(greys)).split("A", "train").index.path
    index.rename(tmp_path / "elsewhere")
    assert index.name in refused(greys)
    shutil.copyfile(tmp_path / "elsewhere", index)
    shard = next(greys.glob("A/train-00000-*.tar"))
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    assert "changed after it was built" in refused(greys, "--sheets", tmp_path / "sheets")
    manifest = Manifest.read(LocalStore(greys))
    domains = {"../escaped": manifest.domains["A"]}
    manifest.model_copy(update={"domains": domains}).write(LocalStore(greys))
    assert "cannot name a file" in refused(greys, "--sheets", tmp_path / "sheets")
    assert not (tmp_path / "escaped.png").exists()
