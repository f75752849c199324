"""From images to shards: resize, encode, pack into WebDataset tars, write the manifest.

The same images give the same bytes and the same digest (with the same version of Pillow). A data set appears
whole or not at all: it is built in a hidden sibling folder, which is renamed at the end.
"""

import hashlib
import io
import json
import logging
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps, UnidentifiedImageError

from data_shards.ahead import in_order
from data_shards.errors import DataError
from data_shards.manifest import FILE_NAME, Manifest, Shard

logger = logging.getLogger(__name__)

Encoding = Literal["auto", "png", "jpg"]
LOSSLESS_UP_TO = 64  # pixels; JPEG saves little on smaller images and its blocks would show in them


@dataclass(frozen=True)
class SourceImage:
    """An image on its way into a data set."""

    domain: str
    split: str
    name: str
    """Name of origin, unique within domain and split; kept in the metadata."""
    image: Path | Image.Image
    meta: Mapping[str, object] = field(default_factory=dict)
    """What else the metadata of the sample shall say, such as ``label``."""


@dataclass(frozen=True)
class BuildOptions:
    """How images are stored."""

    resize: int | None = None
    """Short side in pixels to which images are resized (bicubic, antialiased), or None to keep their size."""
    encoding: Encoding = "auto"
    """File format in the shards; ``auto`` is PNG for images of at most 64 pixels, JPEG above."""
    quality: int = 95
    """JPEG quality, 1 to 100."""
    shard_bytes: int = 128 * 2**20
    """A shard is closed once it has grown to this many bytes."""
    skip_bad: bool = False
    """Leave out images that cannot be read, instead of stopping at the first."""


@dataclass(frozen=True)
class Encoded:
    """An image as it goes into a tar."""

    data: bytes
    extension: str
    width: int
    height: int


def build(
    images: Iterable[SourceImage],
    out: Path,
    options: BuildOptions | None = None,
    *,
    overwrite: bool = False,
    watch: Callable[[Sequence[SourceImage]], Iterable[SourceImage]] = iter,
) -> Manifest:
    """Write ``images`` as a data set at ``out`` and return its manifest; ``watch`` sees each when it is done.

    Within a split, samples lie in the order of a hash of their names, so that neighbours in a shard have
    nothing in common, whatever the order of the files was.
    """
    try:
        out = out.resolve()
        _check_destination(out, overwrite)
        unfinished = out.with_name(f".{out.name}.building-{os.getpid()}")
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            by_hash = sorted(images, key=lambda one: (one.domain, one.split, name_hash(one.name), one.name))
            manifest = _write(by_hash, unfinished, options or BuildOptions(), watch)
            _put_in_place(unfinished, out)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror or error}") from None
    return manifest


def name_hash(name: str) -> bytes:
    """A fixed pseudo-random key of a name, the same on every machine."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()


def _check_destination(out: Path, overwrite: bool) -> None:
    nearest = next(parent for parent in out.parents if parent.exists())
    if not nearest.is_dir():
        raise DataError(f"cannot write {out}: {nearest} is not a folder")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / FILE_NAME).is_file():
        raise DataError(f"{out} exists and is not a data set: choose another place")
    if not overwrite:
        raise DataError(f"{out} already holds a data set: give --overwrite to replace it")


def _put_in_place(unfinished: Path, out: Path) -> None:
    if out.is_dir():
        replaced = unfinished.with_name(unfinished.name.replace("building", "replaced"))
        out.rename(replaced)
        unfinished.rename(out)
        shutil.rmtree(replaced)
    else:
        unfinished.rename(out)


def _write(
    images: Sequence[SourceImage],
    folder: Path,
    options: BuildOptions,
    watch: Callable[[Sequence[SourceImage]], Iterable[SourceImage]],
) -> Manifest:
    domains: dict[str, dict[str, tuple[Shard, ...]]] = {}

    def encode_or_explain(image: SourceImage) -> Encoded | DataError:
        try:
            return encode(image, options)
        except DataError as error:
            return error

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        encoded = in_order(pool, encode_or_explain, images, ahead=2 * threads)
        try:
            for (domain, split), group in groupby(
                zip(watch(images), encoded, strict=True), key=lambda pair: (pair[0].domain, pair[0].split)
            ):
                writer = ShardWriter(folder, domain, split, options.shard_bytes)
                for image, result in group:
                    if isinstance(result, Encoded):
                        writer.add(result, {"name": image.name, **image.meta})
                    elif options.skip_bad:
                        logger.warning("left out: %s", result)
                    else:
                        raise DataError(f"{result}; repair it, remove it or give --skip-bad")
                if not (shards := writer.close()):
                    raise DataError(f"no readable image in split {split!r} of domain {domain!r}")
                domains.setdefault(domain, {})[split] = shards
        finally:
            encoded.close()
    manifest = Manifest(load_size=options.resize, domains=domains)
    manifest.write(folder)
    return manifest


def encode(source: SourceImage, options: BuildOptions) -> Encoded:
    """The image upright, in RGB, at load size. A file that is already so is taken over byte for byte."""
    try:
        if isinstance(source.image, Path):
            original = source.image.read_bytes()
            image: Image.Image = Image.open(io.BytesIO(original))
            kind = image.format
            image.load()
        else:
            original, image, kind = b"", source.image, None
        upright = ImageOps.exif_transpose(image)
        resized = resize_short_side(to_rgb(upright), options.resize)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        # Pillow reports broken files by all of these; SyntaxError is its word for a broken PNG.
        reason = "it is not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(f"cannot use {source.image}: {reason}") from None
    width, height = resized.size
    encoding = options.encoding
    if encoding == "auto":
        encoding = "png" if min(width, height) <= LOSSLESS_UP_TO else "jpg"
    untouched = resized.size == image.size and image.mode == "RGB" and "transparency" not in image.info
    upright_already = image.getexif().get(0x0112, 1) == 1
    same_kind = kind == "JPEG" if encoding == "jpg" else kind == "PNG"
    if (
        untouched
        and upright_already
        and (same_kind or (options.encoding == "auto" and kind in ("JPEG", "PNG")))
    ):
        return Encoded(original, "jpg" if kind == "JPEG" else "png", width, height)
    buffer = io.BytesIO()
    if encoding == "png":
        resized.save(buffer, "PNG", optimize=False, compress_level=6)
    else:
        resized.save(buffer, "JPEG", quality=options.quality, subsampling=0)
    return Encoded(buffer.getvalue(), encoding, width, height)


def to_rgb(image: Image.Image) -> Image.Image:
    """Three channels of 8 bits; 16-bit grey is scaled, not clipped; transparency is laid over white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits; save it with 8 or 16")
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def resize_short_side(image: Image.Image, side: int | None) -> Image.Image:
    """Scale to a short side of ``side`` pixels (bicubic; Pillow filters antialiased when it shrinks)."""
    if side is None or min(image.size) == side:
        return image
    scale = side / min(image.size)
    width, height = (side if edge == min(image.size) else round(edge * scale) for edge in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


class ShardWriter:
    """Packs the samples of one split of one domain into tars of deterministic bytes."""

    def __init__(self, folder: Path, domain: str, split: str, shard_bytes: int) -> None:
        self._folder, self._domain, self._split, self._shard_bytes = folder, domain, split, shard_bytes
        self._shards: list[Shard] = []
        self._rows: list[tuple[str, int, int, int, int, int, int, int]] = []
        self._count = 0
        self._tar: tarfile.TarFile | None = None

    def add(self, image: Encoded, meta: Mapping[str, object]) -> None:
        """Append one sample: its image, then its metadata as JSON."""
        if self._tar is None:
            path = self._folder / self._path()
            path.parent.mkdir(exist_ok=True)
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        key = f"{self._count:08d}"
        self._count += 1
        text = json.dumps(meta, sort_keys=True, ensure_ascii=True).encode()
        data_offset = self._member(f"{key}.{image.extension}", image.data)
        meta_offset = self._member(f"{key}.json", text)
        row = (key, data_offset, len(image.data), zlib.crc32(image.data), meta_offset, len(text))
        self._rows.append((*row, image.width, image.height))
        if self._tar.offset >= self._shard_bytes:
            self._finish_shard()

    def close(self) -> tuple[Shard, ...]:
        """Finish the last tar; the shards written."""
        if self._tar is not None:
            self._finish_shard()
        return tuple(self._shards)

    def _path(self) -> str:
        return f"{self._domain}/{self._split}-{len(self._shards):05d}.tar"

    def _member(self, name: str, data: bytes) -> int:
        assert self._tar is not None
        # TarInfo starts with owner 0 and mtime 0: an integer, so that no PAX header moves the data.
        info = tarfile.TarInfo(name)
        info.size = len(data)
        info.mode = 0o644
        data_offset = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(info, io.BytesIO(data))
        return data_offset

    def _finish_shard(self) -> None:
        assert self._tar is not None
        self._tar.close()
        self._tar = None
        path = self._path()
        with (self._folder / path).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            length = file.seek(0, os.SEEK_END)
        names = ("key", "data_offset", "size", "crc32", "meta_offset", "meta_size", "width", "height")
        columns = dict(zip(names, zip(*self._rows, strict=True), strict=True))
        shard = {"path": path, "bytes": length, "sha256": sha256, "count": len(self._rows), **columns}
        self._shards.append(Shard.model_validate(shard))
        self._rows = []
