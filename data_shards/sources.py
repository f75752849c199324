"""What a data set is built of: images with their domain, split and name, and how they shall be stored."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image

from data_shards.store import Entry

Encoding = Literal["auto", "png", "jpg"]


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image on its way into a data set."""

    domain: str
    split: str
    name: str
    """Name of origin, unique within domain and split; kept in the metadata."""
    image: Entry | Image.Image
    """A file of the source, or pixels."""
    meta: Mapping[str, object] = field(default_factory=dict)
    """What else the metadata of the sample shall say, such as ``label``."""

    @property
    def origin(self) -> str:
        """How to call the image in messages: its path in the source, or domain, split and name."""
        place = (
            self.image.path if isinstance(self.image, Entry) else f"{self.domain}/{self.split}/{self.name}"
        )
        return printable(place)


@dataclass(frozen=True)
class BuildOptions:
    """How images are stored."""

    resize: int | None = None
    """Short side in pixels to which images are resized (bicubic, antialiased), or None to keep their size."""
    encoding: Encoding = "auto"
    """File format in the shards; ``auto`` is PNG for images of at most 64 pixels, JPEG above."""
    quality: int = 95
    """JPEG quality, 1 to 100."""
    shard_samples: int = 2048
    """Images of the source that make one shard, at least 1; those that cannot be used leave it smaller."""
    strict: bool = False
    """Stop at the first image that cannot be used, instead of leaving it out."""


def name_hash(name: str) -> bytes:
    """A fixed pseudo-random key of a name, the same on every machine."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()


def printable(name: str) -> str:
    r"""``name`` with ``\xNN`` for each byte of a file's name that is not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def fingerprint(image: SourceImage) -> str:
    """Differs wherever what is stored of the image may differ: of a file, its path, size and version."""
    if isinstance(image.image, Entry):
        content: object = [image.image.path, image.image.size, image.image.version]
    else:
        pixels = image.image
        look = [pixels.getpalette(), repr(pixels.info.get("transparency")), pixels.getexif().get(0x0112)]
        content = [pixels.mode, pixels.size, hashlib.sha256(pixels.tobytes()).hexdigest(), look]
    return json.dumps([image.name, dict(image.meta), content], sort_keys=True)
