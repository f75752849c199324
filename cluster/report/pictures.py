"""Pictures as data URIs, each within a budget of bytes."""

import base64
import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

QUALITIES = (88, 75, 60)
LONGEST_SIDE = 1600


def data_uri(path: Path, budget: int) -> str | None:
    """The picture, re-encoded and then shrunk until it takes at most `budget` bytes; None if it cannot be read.

    A kill can cut a picture short as it can a line.
    """
    try:
        with Image.open(path) as file:
            picture = file.convert("RGB")
    except (OSError, UnidentifiedImageError):
        return None
    if path.stat().st_size <= budget and max(picture.size) <= LONGEST_SIDE:
        return _uri("png", path.read_bytes())
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    while True:
        for quality in QUALITIES:
            encoded = io.BytesIO()
            picture.save(encoded, "WEBP", quality=quality, method=4)
            if encoded.tell() <= budget:
                return _uri("webp", encoded.getvalue())
        picture = picture.resize((max(1, picture.width * 2 // 3), max(1, picture.height * 2 // 3)))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
