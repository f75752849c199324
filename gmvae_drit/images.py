"""Pictures in and out: files to tensors in [-1, 1] and back, and grids."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as TF
from torchvision.utils import make_grid

from gmvae_drit.errors import ModelError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def to_unit(image: Tensor) -> Tensor:
    """uint8 [0, 255] to float [-1, 1]; a float image is returned as it is."""
    return image.float().div(127.5).sub(1) if image.dtype == torch.uint8 else image


def to_bytes(image: Tensor) -> Tensor:
    """Float [-1, 1] to uint8 [0, 255], rounded."""
    return image.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def read_image(path: Path, size: int | None = None) -> Tensor:
    """The image at `path` as (3, H, W) in [-1, 1], turned by its EXIF orientation, short side resized to `size`.

    Raises ModelError if the file is missing, not an image or truncated.
    """
    try:
        with Image.open(path) as file:
            rgb = _eight_bits(ImageOps.exif_transpose(file)).convert("RGB")
    except UnidentifiedImageError:
        raise ModelError(f"{path}: not an image that Pillow can read") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ModelError(
            f"{path}: cannot read the image: {getattr(error, 'strerror', None) or error}"
        ) from None
    image = TF.pil_to_tensor(rgb)
    if size is not None:
        image = TF.resize(image, [size], antialias=True)
    return to_unit(image)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey scaled to 8 bits, which Pillow's own conversion would cut off instead; others as they are."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))


def list_images(source: Path) -> list[Path]:
    """`source` itself if it is a file, else the images directly in that folder by suffix, sorted by name."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ModelError(f"{source}: no such file or folder")
    found = sorted(p for p in source.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise ModelError(f"{source}: no image in this folder (looked for {', '.join(sorted(SUFFIXES))})")
    return found


def save_png(path: Path, image: Tensor) -> None:
    """Write uint8 (3, H, W) as PNG, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(partial, format="PNG")
        partial.replace(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot write the picture: {error.strerror or error}") from None
    finally:
        with suppress(OSError):  # where the folder itself is a file, there is nothing to take away
            partial.unlink(missing_ok=True)


def enlargement(height: int) -> int:
    """Whole factor that brings an image of this height to about 64 px."""
    return max(1, 64 // height)


def grid(rows: list[Tensor], scale: int = 1) -> Tensor:
    """Rows of images (n, 3, H, W) in [-1, 1], all of the same n, as one uint8 picture (3, H', W').

    `scale` enlarges every pixel to a square of that many, so that 32 px digits can be looked at. Raises ModelError
    if the images differ in shape.
    """
    if len({row.shape for row in rows}) > 1:
        raise ModelError("a grid needs images of one shape; write one file per translation instead")
    images = to_bytes(torch.cat(rows).cpu()).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    picture: Tensor = make_grid(images, nrow=len(rows[0]), padding=2, pad_value=255)
    return picture
