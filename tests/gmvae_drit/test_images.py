import io
import os
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gmvae_drit import images
from gmvae_drit.errors import ModelError

FORMATS = ["PNG", "JPEG", "BMP", "TIFF", "WEBP"]


def noise(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def pillow(picture):
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


def test_all_bytes_survive_the_round_trip():
    every = torch.arange(256, dtype=torch.uint8)
    unit = images.to_unit(every)
    assert (float(unit.min()), float(unit.max())) == (-1.0, 1.0)
    assert torch.equal(images.to_bytes(unit), every)
    assert torch.equal(images.to_bytes(unit.bfloat16().float()), images.to_bytes(unit.bfloat16()))


def test_floats_are_taken_as_they_are_and_cut_at_the_ends():
    x = torch.tensor([-7.0, -1.0, 0.0, 1.0, 7.0])
    assert images.to_unit(x) is x
    assert images.to_bytes(x).tolist() == [0, 0, 128, 255, 255]


def test_saved_pictures_are_read_back_exactly(tmp_path):
    picture = noise(5, 9)
    images.save_png(tmp_path / "new" / "a.png", picture)
    assert torch.equal(images.to_bytes(images.read_image(tmp_path / "new" / "a.png")), picture)
    assert os.listdir(tmp_path / "new") == ["a.png"]


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    images.save_png(path, noise(4, 4))
    old = path.read_bytes()

    def full_disk(image, file, **_):
        file.write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(ModelError, match=r"a\.png: cannot write the picture: No space left on device"):
        images.save_png(path, noise(4, 4, seed=1))
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [((32, 32), 16, (16, 16)), ((20, 40), 10, (10, 20)), ((45, 30), 10, (15, 10)), ((8, 8), 32, (32, 32))],
)
def test_short_side_is_resized(tmp_path, size, short_side, expected):
    pillow(noise(*size)).save(tmp_path / "a.png")
    assert images.read_image(tmp_path / "a.png", short_side).shape == (3, *expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_kind_of_picture_becomes_three_channels(tmp_path, mode):
    """White on the left and black on the right, whatever the file calls it."""
    grey = torch.tensor([255] * 4 + [0] * 4, dtype=torch.uint8).repeat(8, 1)
    picture = Image.fromarray(grey.numpy())
    if mode == "I;16":
        picture = Image.fromarray(grey.numpy().astype("uint16") * 257)
    elif mode == "P":
        picture = picture.convert("RGB").quantize(2)
    elif mode in {"CMYK", "YCbCr", "RGBA"}:
        picture = picture.convert("RGB").convert(mode)
    else:
        picture = picture.convert(mode)
    path = tmp_path / ("a.png" if mode in {"1", "L", "LA", "P", "RGBA", "I;16"} else "a.tif")
    picture.save(path)
    read = images.read_image(path)
    assert read.shape == (3, 8, 8)
    torch.testing.assert_close(read[:, :, :4], torch.ones(3, 8, 4), atol=0.02, rtol=0)
    torch.testing.assert_close(read[:, :, 4:], -torch.ones(3, 8, 4), atol=0.02, rtol=0)


def test_sixteen_bit_grey_keeps_its_middle_tones(tmp_path):
    ramp = torch.arange(256).mul(257).reshape(16, 16)
    Image.fromarray(ramp.numpy().astype("uint16")).save(tmp_path / "a.png")
    read = images.to_bytes(images.read_image(tmp_path / "a.png"))[0].flatten().int()
    assert (read - torch.arange(256)).abs().max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(tmp_path, orientation):
    """A camera's file stands upright: the same picture, however it was held."""
    upright = noise(4, 8)
    turn = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    stored = pillow(upright)
    for operation in turn:
        stored = stored.transpose(operation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert torch.equal(images.to_bytes(images.read_image(tmp_path / "a.png")), upright)


@pytest.fixture(scope="module")
def files():
    """One small picture in each format."""
    out = {}
    for name in FORMATS:
        file = io.BytesIO()
        pillow(noise(24, 24)).save(file, name)
        out[name] = file.getvalue()
    return out


@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(files, tmp_path_factory, data):
    """Cut short anywhere, or with a wrong byte: an image or a ModelError of one line, never another exception."""
    content = bytearray(files[data.draw(st.sampled_from(FORMATS))])
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(content)
    try:
        with warnings.catch_warnings(action="ignore"):
            read = images.read_image(path)
    except ModelError as error:
        assert str(error).startswith(str(path))  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert read.dim() == 3


def test_a_png_with_a_short_header_is_refused(files, tmp_path):
    content = bytearray(files["PNG"])
    content[11] = 5  # length of the header chunk, 13
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ModelError):
        images.read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["PNG", "JPEG", "BMP", "TIFF"])
def test_a_truncated_image_is_refused(files, tmp_path, name):
    (tmp_path / "half").write_bytes(files[name][: len(files[name]) // 2])
    with pytest.raises(ModelError, match="half: cannot read the image"):
        images.read_image(tmp_path / "half")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_32_bits_are_refused(tmp_path, mode):
    Image.new(mode, (8, 8)).save(tmp_path / "a.tif")
    with pytest.raises(ModelError, match=r"a\.tif: pixels of 32 bits"):
        images.read_image(tmp_path / "a.tif")


def test_sixteen_bit_pgm(tmp_path):
    values = [0, 256, 32768, 65535]
    (tmp_path / "a.pgm").write_bytes(b"P5 4 1 65535 " + b"".join(v.to_bytes(2, "big") for v in values))
    read = images.to_bytes(images.read_image(tmp_path / "a.pgm"))
    assert read[:, 0].tolist() == [[0, 1, 128, 255]] * 3


def test_transparency_lies_over_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (images.to_bytes(images.read_image(tmp_path / "a.png")) == 255).all()


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_the_first_frame_of_an_animation(tmp_path, name):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("white", "black"))
    first.save(tmp_path / name, save_all=True, append_images=[second], duration=50)
    assert (images.to_bytes(images.read_image(tmp_path / name)) > 250).all()


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    pillow(noise(20, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "LARGEST_PIXELS", 599)
    with pytest.raises(ModelError, match=r"a\.png: too large an image: 30 x 20 pixels"):
        images.read_image(tmp_path / "a.png")
    monkeypatch.setattr(images, "LARGEST_PIXELS", 600)
    images.read_image(tmp_path / "a.png")
    with pytest.raises(ModelError, match="too large"):
        images.read_image(tmp_path / "a.png", size=40)


def test_programs_in_files_are_not_run(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    with pytest.raises(ModelError, match="not an image"):
        images.read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_pictures_in_other_formats(tmp_path, suffix):
    smooth = torch.linspace(0, 255, 32).to(torch.uint8).expand(3, 32, 32)
    images.save_picture(tmp_path / f"a{suffix}", smooth)
    with Image.open(tmp_path / f"a{suffix}") as file:
        assert file.format == {".jpg": "JPEG", ".webp": "WEBP"}[suffix]
    read = images.to_bytes(images.read_image(tmp_path / f"a{suffix}"))
    assert (read.int() - smooth.int()).abs().float().mean() < 3


def test_a_side_too_long_for_its_format_is_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"a\.webp: cannot write the picture") as error:
        images.save_picture(tmp_path / "a.webp", torch.zeros(3, 1, 20000, dtype=torch.uint8))
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_gif_keeps_frames_and_their_times(tmp_path):
    frames = torch.stack([torch.full((3, 8, 8), 40 * i, dtype=torch.uint8) for i in range(4)])
    images.save_gif(tmp_path / "a.gif", frames, [100, 200, 300, 400])
    with Image.open(tmp_path / "a.gif") as file:
        assert file.info["loop"] == 0
        shown = []
        for i in range(file.n_frames):
            file.seek(i)
            shown.append((file.info["duration"], file.convert("RGB").getpixel((4, 4))))
    assert shown == [(100 * (i + 1), (40 * i,) * 3) for i in range(4)]


def test_grid_puts_rows_in_rows():
    rows = [
        torch.stack([torch.full((3, 2, 2), value) for value in row])
        for row in [(-1.0, 0.0, 1.0), (1.0, -1.0, 0.0)]
    ]
    picture = images.grid(rows, scale=2)
    assert picture.shape == (3, 2 + 2 * 6, 2 + 3 * 6)
    centres = picture[0, 4::6, 4::6]
    assert centres.tolist() == [[0, 128, 255], [255, 0, 128]]


def test_grid_of_unlike_images_is_refused():
    with pytest.raises(ModelError, match="one shape"):
        images.grid([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 8)])


@pytest.mark.parametrize(("height", "factor"), [(8, 8), (32, 2), (48, 1), (64, 1), (216, 1)])
def test_small_images_are_enlarged(height, factor):
    assert images.enlargement(height) == factor
