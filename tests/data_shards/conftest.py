"""Small data sets to test on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_shards.build import BuildOptions, SourceImage, build
from data_shards.digits import digit_images
from data_shards.folders import find_images
from data_shards.manifest import Manifest
from data_shards.store import LocalStore

Made = Callable[..., str]


def noise_image(height: int, width: int, *key: int) -> Image.Image:
    """Noise that no other key gives."""
    random = np.random.default_rng(key)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def noise_images(counts: dict[str, int]) -> Iterator[SourceImage]:
    """``counts`` training images of each domain, and 5 test images; 12 x 14 pixels."""
    for domain, (name, count) in enumerate(counts.items()):
        for index in range(count + 5):
            image = noise_image(12, 14, domain, index)
            yield SourceImage(name, "train" if index < count else "test", f"image {index}", image)


@pytest.fixture
def make(tmp_path: Path) -> Made:
    """Builds a data set of noise images, in shards of some samples; returns its place."""

    def made(counts: dict[str, int], name: str = "shards", shard_samples: int = 8) -> str:
        build(noise_images(counts), tmp_path / name, BuildOptions(shard_samples=shard_samples))
        return str(tmp_path / name)

    return made


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digit sample of seed 0."""
    out = tmp_path_factory.mktemp("sample") / "digits"
    build(digit_images(0), out, BuildOptions(encoding="png"))
    return out


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder in CycleGAN's layout: JPEGs of 40 x 50 pixels, and files that are no images."""
    source = tmp_path / "photos"
    for domain, folder in enumerate(("trainA", "trainB", "testA", "testB")):
        (source / folder).mkdir(parents=True)
        for index in range(4):
            noise_image(40, 50, domain, index).save(source / folder / f"{index}.jpg", quality=90)
    (source / "trainA" / "Thumbs.db").write_bytes(b"not an image")
    (source / "trainA" / "._0.jpg").write_bytes(b"not an image either")
    return source


def build_folder(source: Path, dest: Path, options: BuildOptions | None = None, **more: Any) -> Manifest:
    """What `python -m data_shards build` does, in this process unless ``processes`` says otherwise."""
    names = more.pop("names", None)
    images, skipped = find_images(LocalStore(source), names=names)
    return build(images, dest, options, source=source, skipped=skipped, **more)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
