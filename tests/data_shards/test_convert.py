"""Every kind of file that a folder of images may hold: what becomes of it, and of its pixels."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_shards.build import BuildOptions
from data_shards.convert import Encoded, Unusable, encode
from data_shards.manifest import Manifest
from data_shards.reader import decode
from data_shards.samples import read_split
from data_shards.store import LocalStore

from .conftest import build_folder, noise_image

SIZE = (70, 66)  # width, height: large enough for JPEG where the format is auto


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo() -> Image.Image:
    """Something smooth, so that JPEG's loss is small."""
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    pixels = np.stack([x * 3, y * 3, 255 - x - y], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(photo(), kind, exif=exif)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def deep_png() -> bytes:
    row = b"\0" + bytes([200, 17, 100, 99, 50, 3]) * SIZE[0]  # 16-bit R, G, B
    return png(*SIZE, 16, 2, row * SIZE[1])


def deep_pgm() -> bytes:
    values = np.linspace(0, 65535, SIZE[0] * SIZE[1]).astype(">u2").tobytes()
    return b"P5 %d %d 65535\n" % SIZE + values


def frames(kind: str) -> bytes:
    others = [Image.new("RGB", SIZE, "black")] * 2
    return saved(photo(), kind, save_all=True, append_images=others)


def flat(mode: str, colour: object) -> Image.Image:
    return Image.new(mode, SIZE, colour)


def half_clear() -> Image.Image:
    image = photo().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(SIZE))
    return image


CUT = saved(photo(), "JPEG", quality=95)
KEPT, CONVERTED = "kept", "converted"

# name, content, what becomes of it (or the reason why not), (width, height) of what is stored
FILES: list[tuple[str, Callable[[], bytes], str, tuple[int, int] | None]] = [
    ("plain.jpg", lambda: saved(photo(), "JPEG"), KEPT, SIZE),
    ("progressive.jpg", lambda: saved(photo(), "JPEG", progressive=True), KEPT, SIZE),
    ("CAPITALS.JPG", lambda: saved(photo(), "JPEG"), KEPT, SIZE),
    ("plain.png", lambda: saved(photo(), "PNG"), KEPT, SIZE),
    ("a-png-named.jpg", lambda: saved(photo(), "PNG"), KEPT, SIZE),
    ("upright.jpg", lambda: turned(1), KEPT, SIZE),
    ("trailing-bytes.jpg", lambda: saved(photo(), "JPEG") + b"more" * 9, KEPT, SIZE),
    ("turned-3.jpg", lambda: turned(3), CONVERTED, SIZE),
    ("turned-6.jpg", lambda: turned(6), CONVERTED, SIZE[::-1]),
    ("turned-8.png", lambda: turned(8, "PNG"), CONVERTED, SIZE[::-1]),
    ("turned-6.tif", lambda: turned(6, "TIFF"), CONVERTED, SIZE[::-1]),
    ("grey.jpg", lambda: saved(photo().convert("L"), "JPEG"), CONVERTED, SIZE),
    ("cmyk.jpg", lambda: saved(photo().convert("CMYK"), "JPEG"), CONVERTED, SIZE),
    ("palette.png", lambda: saved(photo().quantize(99), "PNG"), CONVERTED, SIZE),
    ("clear-palette.png", lambda: saved(photo().quantize(99), "PNG", transparency=0), CONVERTED, SIZE),
    ("alpha.png", lambda: saved(half_clear(), "PNG"), CONVERTED, SIZE),
    ("key-colour.png", lambda: saved(photo(), "PNG", transparency=(0, 0, 255)), CONVERTED, SIZE),
    ("alpha.webp", lambda: saved(half_clear(), "WEBP", lossless=True), CONVERTED, SIZE),
    ("grey-alpha.png", lambda: saved(half_clear().convert("LA"), "PNG"), CONVERTED, SIZE),
    ("bits.png", lambda: saved(flat("1", 1), "PNG"), CONVERTED, SIZE),
    ("deep.png", deep_png, CONVERTED, SIZE),
    ("deep-grey.png", lambda: saved(Image.fromarray(np.full(SIZE[::-1], 999, "u2")), "PNG"), CONVERTED, SIZE),
    (
        "deep-grey.tif",
        lambda: saved(Image.fromarray(np.full(SIZE[::-1], 999, "u2")), "TIFF"),
        CONVERTED,
        SIZE,
    ),
    ("deep.pgm", deep_pgm, CONVERTED, SIZE),
    ("plain.bmp", lambda: saved(photo(), "BMP"), CONVERTED, SIZE),
    ("plain.avif", lambda: saved(photo(), "AVIF"), CONVERTED, SIZE),
    ("plain.jp2", lambda: saved(photo(), "JPEG2000"), CONVERTED, SIZE),
    ("moving.gif", lambda: frames("GIF"), CONVERTED, SIZE),
    ("moving.png", lambda: frames("PNG"), CONVERTED, SIZE),
    ("moving.webp", lambda: frames("WEBP"), CONVERTED, SIZE),
    ("pages.tiff", lambda: frames("TIFF"), CONVERTED, SIZE),
    ("profile.png", lambda: saved(photo().convert("L"), "PNG", icc_profile=b"x" * 999), CONVERTED, SIZE),
    ("tiny.png", lambda: saved(Image.new("RGB", (1, 1)), "PNG"), KEPT, (1, 1)),
    ("strip.png", lambda: saved(Image.new("RGB", (65535, 1)), "PNG"), KEPT, (65535, 1)),
    ("too-long.png", lambda: saved(Image.new("RGB", (65536, 1)), "PNG"), "sides end at 65535", None),
    ("bomb.png", lambda: png(40000, 40000, 1, 0, b""), "more than 134,217,728 pixels", None),
    ("large.png", lambda: png(12000, 12000, 1, 0, b""), "12000 x 12000 pixels", None),
    ("float.tif", lambda: saved(flat("F", 0.5), "TIFF"), "32 bits", None),
    ("integers.tif", lambda: saved(flat("I", 70000), "TIFF"), "32 bits", None),
    ("lab.tif", lambda: saved(flat("LAB", (1, 2, 3)), "TIFF"), CONVERTED, SIZE),
    ("empty.jpg", lambda: b"", "it is empty", None),
    ("text.jpg", lambda: b"no image", "none of JPEG, PNG", None),
    ("cut-header.jpg", lambda: CUT[:100], "", None),
    ("cut.jpg", lambda: CUT[: len(CUT) // 2], "truncated", None),
    ("cut.png", lambda: saved(noise_image(66, 70), "PNG")[:-300], "broken: ", None),
    ("cut.webp", lambda: saved(photo(), "WEBP", lossless=True)[:-99], "", None),
    ("hole.png", lambda: saved(photo(), "PNG").replace(b"IDAT", b"IDAT\0\0", 1), "broken: ", None),
    ("page.jpg", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of JPEG", None),
    ("page.html", lambda: b"<html>", "not named like an image", None),
    ("noextension", lambda: saved(photo(), "JPEG"), "not named like an image", None),
]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Manifest]:
    """Source, data set and manifest of all kinds of files at once."""
    source, dest = (tmp_path_factory.mktemp("zoo") / name for name in ("source", "shards"))
    for domain in "AB":
        (source / f"train{domain}").mkdir(parents=True)
    noise_image(9, 9).save(source / "trainB" / "one.png")
    for name, make, _, _ in FILES:
        (source / "trainA" / name).write_bytes(make())
    return source, dest, build_folder(source, dest, BuildOptions(shard_samples=16))


@pytest.mark.parametrize(("name", "fate", "size"), [(name, fate, size) for name, _, fate, size in FILES])
def test_each_kind_of_file(zoo: tuple[Path, Path, Manifest], name: str, fate: str, size: object) -> None:
    source, dest, manifest = zoo
    stored = {sample.meta["name"]: sample for sample in read_split(str(dest), "train", "A")}
    reasons = {skip.path: skip.reason for skip in manifest.skipped}
    if size is None:
        assert name not in stored
        assert fate in reasons[f"trainA/{name}"]
        assert "0x" not in reasons[f"trainA/{name}"], "an address, which differs from run to run"
        return
    sample = stored[name]
    assert (sample.image.shape[2], sample.image.shape[1]) == size
    assert (sample.meta["width"], sample.meta["height"]) == size
    original = (source / "trainA" / name).read_bytes()
    assert (original in everything(dest)) == (fate == KEPT)
    if fate == KEPT:
        # What we decode for training is what Pillow shows: nothing that only one of them honours was kept.
        shown = np.asarray(Image.open(io.BytesIO(original)).convert("RGB"))
        np.testing.assert_array_equal(sample.image.numpy().transpose(1, 2, 0), shown)


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*.tar")))


def test_nothing_is_lost_in_the_zoo(zoo: tuple[Path, Path, Manifest]) -> None:
    _, dest, manifest = zoo
    assert len(FILES) >= 25
    assert manifest.split("A", "train").count + len(manifest.skipped) == len(FILES)
    assert Manifest.read(LocalStore(dest)) == manifest


def pixels(content: bytes, **options: object) -> np.ndarray:
    return decode(encode(content, BuildOptions(encoding="png", **options)).data)


def test_pixels_are_converted_as_the_rules_say() -> None:
    plain = np.asarray(photo())
    np.testing.assert_array_equal(pixels(frames("PNG")), plain)
    np.testing.assert_array_equal(pixels(frames("TIFF")), plain)
    np.testing.assert_array_equal(pixels(saved(photo(), "BMP")), plain)
    np.testing.assert_array_equal(pixels(deep_png()), np.broadcast_to([200, 100, 50], plain.shape))
    grey = np.linspace(0, 65535, SIZE[0] * SIZE[1]).astype("u2").reshape(plain.shape[:2])
    np.testing.assert_array_equal(pixels(deep_pgm()), np.repeat(grey[..., None] // 256, 3, axis=-1))
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(grey), "PNG"))[..., 1], grey // 256)
    np.testing.assert_array_equal(
        pixels(turned(6, "PNG")), np.rot90(plain, -1), err_msg="6 is to be shown turned clockwise"
    )
    alpha = np.asarray(half_clear().getchannel("A"))[..., None] / 255
    over_white = alpha * plain + (1 - alpha) * 255
    assert np.abs(pixels(saved(half_clear(), "PNG")) - over_white).max() <= 1
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert pixels(saved(clear, "PNG")).min() == 255


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I;16"]
)
def test_pixels_of_memory(mode: str) -> None:
    made = encode(Image.new(mode, (4, 5)), BuildOptions())
    assert (made.extension, made.width, made.height) == ("png", 4, 5)
    assert decode(made.data).shape == (5, 4, 3)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_no_known_range(mode: str) -> None:
    with pytest.raises(Unusable, match="32 bits"):
        encode(Image.new(mode, (4, 4)), BuildOptions())


@pytest.mark.parametrize(
    ("size", "expected"),
    [((50, 40), (25, 20)), ((33, 60), (20, 36)), ((10, 10), (20, 20)), ((20, 90), (20, 90))],
)
def test_resize_sets_the_short_side(size: tuple[int, int], expected: tuple[int, int]) -> None:
    made = encode(Image.new("RGB", size, "red"), BuildOptions(resize=20))
    assert (made.width, made.height) == expected
    assert made.original_size == size


def test_a_strip_that_resizing_would_blow_up() -> None:
    with pytest.raises(Unusable, match="would have 256000 x 256 pixels"):
        encode(Image.new("RGB", (1000, 1)), BuildOptions(resize=256))


def test_fitting_files_are_kept_byte_for_byte() -> None:
    content = saved(noise_image(80, 80), "JPEG", quality=60)

    def made(**options: object) -> Encoded:
        return encode(content, BuildOptions(**options))

    assert made().data == made(resize=80).data == made(encoding="jpg").data == content
    assert made(encoding="png").extension == "png"
    assert made(resize=70).extension == "jpg"
    assert made(resize=60).extension == "png"


def test_nothing_but_pixels_is_written() -> None:
    image = photo()
    image.info |= {"icc_profile": b"profile", "comment": b"private", "dpi": (72, 72)}
    for encoding in ("png", "jpg"):
        data = encode(image, BuildOptions(encoding=encoding)).data
        assert data == encode(photo(), BuildOptions(encoding=encoding)).data
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).shape == (66, 70, 3)
    assert image.info["comment"] == b"private", "the caller's image is left alone"
