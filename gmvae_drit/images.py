"""Pictures in and out: files to tensors in [-1, 1] and back, grids, and animations.

Files are understood as `data_shards build` understands them, so that a model sees here what it saw in training: the
first frame of an animation, upright by EXIF, transparency over white, 16 bits divided by 256, CMYK by Pillow's plain
formula, colour profiles ignored.
"""

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from gmvae_drit.errors import ModelError

# What Pillow may open. It knows more, but its EPS, for one, runs a program on the file.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000")
LARGEST_PIXELS = 2**27  # 134 million: photographs of 100 megapixels pass, decompression bombs do not
WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Formats of a written picture, by suffix."""
MARGIN = 2
"""White pixels around the images of a grid."""


def to_unit(image: Tensor) -> Tensor:
    """uint8 [0, 255] to float [-1, 1]; a float image is returned as it is."""
    return image.float().div(127.5).sub(1) if image.dtype == torch.uint8 else image


def to_bytes(image: Tensor) -> Tensor:
    """Float [-1, 1] to uint8 [0, 255], rounded."""
    return image.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def read_image(path: Path, size: int | None = None) -> Tensor:
    """The image at `path` as (3, H, W) in [-1, 1], its short side resized to `size` (bicubic, antialiased).

    Raises ModelError if the file is missing, not an image, truncated or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about files that it reads all the same
            rgb = _read(path, size)
    except (ModelError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ModelError(f"{path}: not an image that Pillow can read") from None
    except Image.DecompressionBombError:
        raise ModelError(f"{path}: too large an image: it has over {LARGEST_PIXELS:,} pixels") from None
    except Exception as error:
        # Pillow reports broken files by nearly every class of exception, SyntaxError and struct.error included.
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{path}: cannot read the image: {reason}") from None
    return to_unit(torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous())


def _read(path: Path, size: int | None) -> Image.Image:
    Image.init()
    with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as file:
        width, height = _scaled(file.size, size)
        if max(file.width * file.height, width * height) > LARGEST_PIXELS:
            raise ModelError(f"{path}: too large an image: {file.width} x {file.height} pixels")
        file.load()
        image = file.convert("I;16") if file.format == "PPM" and file.mode == "I" else file
        rgb = _eight_bit_rgb(path, ImageOps.exif_transpose(image))
    target = _scaled(rgb.size, size)
    return rgb if target == rgb.size else rgb.resize(target, Image.Resampling.BICUBIC)


def _scaled(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """(width, height) with the shorter one at `short_side`."""
    short = min(size)
    if short_side is None:
        return size
    width, height = (short_side if edge == short else round(edge * short_side / short) for edge in size)
    return width, height


def _eight_bit_rgb(path: Path, image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ModelError(f"{path}: pixels of 32 bits, whose range nobody knows: save it with 8 or 16")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def save_picture(path: Path, image: Tensor) -> None:
    """Write uint8 (3, H, W) in the format of the suffix (`WRITTEN`), whole or not at all."""
    picture, kind = _pillow(image), WRITTEN[path.suffix.lower()]
    lossy = {} if kind == "PNG" else {"quality": 95}
    _write(path, lambda partial: picture.save(partial, format=kind, **lossy))


def save_gif(path: Path, frames: Tensor, durations: list[int]) -> None:
    """Write uint8 frames (F, 3, H, W) as an endless GIF, frame i shown for `durations[i]` ms; whole or not at all."""
    first, *others = [_pillow(frame) for frame in frames]
    _write(
        path,
        lambda partial: first.save(
            partial, format="GIF", save_all=True, append_images=others, duration=durations, loop=0
        ),
    )


def _pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def _write(path: Path, save: Callable[[Path], None]) -> None:
    """Let `save` write to a hidden name beside `path`, which then takes its place."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(partial)
        partial.replace(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path}: cannot write the picture: {reason}") from None
    finally:
        with suppress(OSError):  # where the folder itself is a file, there is nothing to take away
            partial.unlink(missing_ok=True)


def save_png(path: Path, image: Tensor) -> None:
    """`save_picture` for a path that must end in .png."""
    save_picture(path.with_suffix(".png"), image)


def enlargement(height: int) -> int:
    """Whole factor that brings an image of this height to about 64 px."""
    return max(1, 64 // height)


def grid(rows: list[Tensor], scale: int = 1) -> Tensor:
    """Rows of images (n, 3, H, W) in [-1, 1] or uint8, all of the same n, as one uint8 picture (3, H', W').

    `scale` enlarges every pixel to a square of that many, so that 32 px digits can be looked at. Raises ModelError
    if the images differ in shape.
    """
    if len({row.shape for row in rows}) > 1:
        raise ModelError("a grid needs images of one shape; write one file per translation instead")
    every = torch.cat([row if row.dtype == torch.uint8 else to_bytes(row.cpu()) for row in rows])
    images = every.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    cells = F.pad(images, (0, MARGIN, 0, MARGIN), value=255).unflatten(0, (len(rows), -1))
    picture = (
        cells.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    )  # (row, n, 3, h, w) to (3, row * h, n * w)
    return F.pad(picture, (MARGIN, 0, MARGIN, 0), value=255)
