"""Photographs for the benchmark of loaders, laid out for each of them, in a folder and in a bucket.

Crops of the two photographs that scikit-learn carries, at random scales, mirrored or not, with random gains of
colour: 256 x 256 pixels, JPEG of quality 95 without chroma subsampling, 40 kB on average. All loaders read the
same encoded bytes.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from data_shards.build import BuildOptions, SourceImage, build
from data_shards.store import LocalStore

SIDE = 256
SHARD_SAMPLES = 512  # 20 MB: as many shards as two workers and a shuffle of shards need
DOMAINS = ("china", "flower")
TRAINING = "train"


@dataclass(frozen=True)
class Data:
    """Where the same images lie in the layouts of the contestants."""

    root: Path
    bucket: str

    @property
    def files(self) -> Path:
        """torchvision's ImageFolder: a folder per domain."""
        return self.root / "files" / TRAINING

    @property
    def shards(self) -> Path:
        """Of data_shards, which are those of webdataset."""
        return self.root / "shards"

    @property
    def mds(self) -> Path:
        """Of mosaicml-streaming."""
        return self.root / "mds"

    @property
    def remote_shards(self) -> str:
        """The same in the bucket."""
        return f"s3://{self.bucket}/shards"

    @property
    def remote_mds(self) -> str:
        """The same in the bucket."""
        return f"s3://{self.bucket}/mds"

    def tars(self) -> list[str]:
        """Files of the shards."""
        return sorted(map(str, self.shards.rglob("*.tar")))


def make(data: Data, images: int) -> None:
    """Write ``images`` photographs in all layouts that are not there yet."""
    if not data.files.is_dir():
        make_files(data.files, images)
    options, sources = BuildOptions(shard_samples=SHARD_SAMPLES), list(source_images(data.files.parent))
    for uri in (str(data.shards), data.remote_shards):
        build(sources, uri, options, source=data.files.parent)
    if not data.mds.is_dir():
        make_mds(data.files, data.mds)
    upload(data.mds, data.bucket)


def make_files(folder: Path, images: int) -> None:
    """JPEG files in a folder per domain."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, (domain, photograph) in enumerate(zip(DOMAINS, photographs, strict=True)):
            (folder / domain).mkdir(parents=True)
            for index in range(images // len(DOMAINS)):
                seed = number, index
                pool.submit(crop_of, photograph, seed, folder / domain / f"{index:06d}.jpg")


def crop_of(photograph: Image.Image, seed: tuple[int, int], path: Path) -> None:
    """Write one crop."""
    random = np.random.default_rng(seed)
    side = int(random.integers(200, 421))
    left, top = random.integers((photograph.width - side + 1, photograph.height - side + 1)).tolist()
    box = (left, top, left + side, top + side)
    crop = photograph.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    if random.random() < 0.5:
        crop = ImageOps.mirror(crop)
    pixels = np.asarray(crop) * random.uniform(0.8, 1.2, 3)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, "JPEG", quality=95, subsampling=0)


def source_images(folder: Path) -> Iterator[SourceImage]:
    """The files as the builder wants them."""
    for entry in LocalStore(folder).list():
        split, domain, name = entry.path.split("/")
        yield SourceImage(domain, split, name, entry)


def make_mds(files: Path, out: Path) -> None:
    """The format of mosaicml-streaming, at its default shard size; JPEG files go in as they are."""
    from streaming import MDSWriter

    paths = sorted(files.rglob("*.jpg"), key=lambda path: path.name)
    with MDSWriter(out=str(out), columns={"image": "jpeg", "domain": "int"}) as writer:
        for path in paths:
            with Image.open(path) as image:
                writer.write({"image": image, "domain": DOMAINS.index(path.parent.name)})


def upload(folder: Path, bucket: str) -> None:
    """All files of ``folder``, under its name."""
    client = s3_client()
    for path in folder.iterdir():
        client.upload_file(str(path), bucket, f"{folder.name}/{path.name}")


def presigned(bucket: str, prefix: str) -> list[str]:
    """URLs of the tars under ``prefix`` that need no credentials."""
    client = s3_client()
    found = client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    names = [item["Key"] for item in found if item["Key"].endswith(".tar")]
    return [client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": name}) for name in names]


def s3_client() -> Any:
    """As the environment says."""
    import boto3

    return boto3.session.Session().client("s3")
