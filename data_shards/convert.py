"""One image on its way into a shard: upright, 8-bit RGB, at load size, as JPEG or PNG.

What counts as an image is decided by its content (``FORMATS``); of animations and documents the first frame is
taken. ICC profiles are ignored: numbers are taken as sRGB. CMYK goes to RGB by Pillow's plain formula,
transparency is laid over white, 16-bit pixels are divided by 256, and other metadata of the file is dropped.
"""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data_shards.index import LARGEST_SIDE
from data_shards.sources import BuildOptions

# What Pillow may open. It knows more, but its EPS, for one, runs a program on the file.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000")
LOSSLESS_UP_TO = 64  # pixels; JPEG saves little on smaller images and its blocks would show in them
LARGEST_PIXELS = 2**27  # 134 million: photographs of 100 megapixels pass, decompression bombs do not
LARGEST_FILE = 2**29  # bytes: a file is held in memory whole
ORIENTATION = 0x0112  # EXIF tag


class Unusable(Exception):
    """Why an image cannot be in a data set."""


@dataclass(frozen=True)
class Encoded:
    """An image as it goes into a tar."""

    data: bytes
    extension: str
    width: int
    height: int
    original_size: tuple[int, int]
    """(width, height) of the image it was made of, upright."""


def encode(source: bytes | Image.Image, options: BuildOptions) -> Encoded:
    """The image of a file or of memory as it shall be stored; ``Unusable`` with the reason if it cannot be.

    The bytes of a file that is already as it shall be (JPEG or PNG, 8-bit RGB, upright, of the right size, not
    animated) are taken over.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about files that it reads all the same
            return _encode(source, options)
    except (Unusable, MemoryError):
        raise
    except UnidentifiedImageError:
        raise Unusable(f"it is none of {', '.join(FORMATS)}, or broken at its beginning") from None
    except Image.DecompressionBombError:
        raise Unusable(f"it has more than {LARGEST_PIXELS:,} pixels") from None
    except Exception as error:
        # Pillow reports broken files by nearly every class of exception, SyntaxError and struct.error included.
        raise Unusable(f"it is broken: {error or type(error).__name__}") from None


def _encode(source: bytes | Image.Image, options: BuildOptions) -> Encoded:
    image = _open(source) if isinstance(source, bytes) else source
    _check_size(image.size, options.resize)
    image.load()
    if image.format == "PPM" and image.mode == "I":
        image = image.convert("I;16")  # which is what 16-bit PGM has, whatever Pillow says
    turned = image.getexif().get(ORIENTATION, 1) != 1
    upright = ImageOps.exif_transpose(image) if turned else image
    resized = resize_short_side(to_rgb(upright), options.resize)
    encoding = options.encoding
    if encoding == "auto":
        encoding = "png" if min(resized.size) <= LOSSLESS_UP_TO else "jpg"
    wanted = ("JPEG", "PNG") if options.encoding == "auto" else {"jpg": ("JPEG",), "png": ("PNG",)}[encoding]
    if isinstance(source, bytes) and resized is image and image.format in wanted and _is_plain(image, source):
        data, extension = source, "jpg" if image.format == "JPEG" else "png"
    else:
        # A bare copy, since Pillow writes comments and colour profiles of the original into the new file.
        bare = Image.frombytes("RGB", resized.size, resized.tobytes())
        data, extension = _compressed(bare, encoding, options.quality), encoding
    return Encoded(data, extension, *resized.size, original_size=upright.size)


def _open(source: bytes) -> Image.Image:
    Image.init()
    return Image.open(io.BytesIO(source), formats=[name for name in FORMATS if name in Image.OPEN])


def _check_size(size: tuple[int, int], side: int | None) -> None:
    """Refuse what is too large to decode or to store; before either."""
    if size[0] * size[1] > LARGEST_PIXELS:
        raise Unusable(f"it has {size[0]} x {size[1]} pixels, more than {LARGEST_PIXELS:,}")
    width, height = scaled(size, side)
    if max(width, height) > LARGEST_SIDE or width * height > LARGEST_PIXELS:
        raise Unusable(
            f"it would have {width} x {height} pixels: sides end at {LARGEST_SIDE}, areas at {LARGEST_PIXELS:,}"
        )


def _is_plain(image: Image.Image, source: bytes) -> bool:
    """Whether any decoder sees in the file what Pillow does."""
    deep = image.format == "PNG" and source[24] != 8  # bits per channel; of 16 Pillow shows only 8
    return not deep and not getattr(image, "is_animated", False)


def _compressed(image: Image.Image, encoding: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    if encoding == "png":
        image.save(buffer, "PNG", optimize=False, compress_level=6)
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def to_rgb(image: Image.Image) -> Image.Image:
    """Three channels of 8 bits: the same object if it has them already."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise Unusable("its pixels have 32 bits, whose range nobody knows: save it with 8 or 16")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def scaled(size: tuple[int, int], side: int | None) -> tuple[int, int]:
    """The (width, height) that ``resize_short_side`` gives."""
    short = min(size)
    if side is None or short == side:
        return size
    width, height = (side if edge == short else round(edge * side / short) for edge in size)
    return width, height


def resize_short_side(image: Image.Image, side: int | None) -> Image.Image:
    """The image with its short side at ``side`` pixels, bicubic and antialiased; the same object if it has."""
    size = scaled(image.size, side)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
