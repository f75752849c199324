"""Which images are found, what their translations are called, and the stream of batches."""

import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gmvae_drit import inputs
from gmvae_drit.errors import ModelError
from gmvae_drit.inputs import Input, batches, find_inputs, list_images


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def below(folder, paths):
    return [path.relative_to(folder).as_posix() for path in paths]


def names(sources, out="out"):
    return [item.name.as_posix() for item in find_inputs(sources, out)]


def test_images_of_a_folder_and_below_are_found_by_suffix_and_sorted(tmp_path):
    touch(
        tmp_path, "b.png", "a.JPG", "deep/er/c.webp", "deep/d.gif", "notes.txt", ".hidden.png", ".git/e.png"
    )
    assert below(tmp_path, list_images(tmp_path)) == ["a.JPG", "b.png", "deep/d.gif", "deep/er/c.webp"]
    assert list_images(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_links_to_folders_are_not_followed(tmp_path):
    touch(tmp_path, "a.png")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert below(tmp_path, list_images(tmp_path)) == ["a.png"]


def test_no_images_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="no image in this folder"):
        list_images(tmp_path)
    with pytest.raises(ModelError, match="no such file or folder"):
        list_images(tmp_path / "absent")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path):
    touch(tmp_path, "a.png", "locked/b.png")
    (tmp_path / "locked").chmod(0)
    with pytest.raises(ModelError, match="locked: cannot read the folder"):
        list_images(tmp_path)


def test_names_are_those_of_the_files(tmp_path):
    touch(tmp_path, "a.b.png", "deep/a.png", "deep/c.png", "single.jpg")
    assert names([tmp_path / "deep", tmp_path / "single.jpg"], tmp_path / "out") == ["a", "c", "single"]
    assert names([tmp_path], tmp_path / "out") == ["a.b", "deep/a", "deep/c", "single"]


def test_suffixes_tell_images_of_one_stem_apart(tmp_path):
    touch(tmp_path, "a.png", "a.jpg", "b.png", "deep/a.png", "B.jpg")
    assert names([tmp_path], tmp_path / "out") == ["B.jpg", "a.jpg", "a.png", "b.png", "deep/a"]


def test_one_file_given_twice_is_one_input(tmp_path):
    touch(tmp_path, "a.png")
    assert names([tmp_path, tmp_path / "a.png"], tmp_path / "out") == ["a"]


def test_names_that_cannot_be_told_apart_are_refused(tmp_path):
    touch(tmp_path, "one/a.png", "two/a.png")
    with pytest.raises(ModelError, match=r"would share the name a\.png"):
        find_inputs([tmp_path / "one", tmp_path / "two"], tmp_path / "out")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "x/"]),
            st.sampled_from(["a", "A", "a.png", "b"]),
            st.sampled_from([".png", ".jpg"]),
        ),
        unique=True,
        min_size=1,
    )
)
def test_names_differ_or_the_run_is_refused(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("in")
    touch(folder, *("".join(part) for part in parts))
    try:
        found = find_inputs([folder], folder / "out")
    except ModelError as error:
        assert "would share the name" in str(error)  # noqa: PT017
    else:
        assert len({item.name.as_posix().casefold() for item in found}) == len(parts)


def test_earlier_translations_are_no_images(tmp_path):
    touch(tmp_path, "a.png", "out/a-night-c0-s0.png", "out/deep/b.png")
    assert names([tmp_path], tmp_path / "out") == ["a"]
    with pytest.raises(ModelError, match="is the folder of the images"):
        find_inputs([tmp_path], tmp_path / "out" / "..")


def stream(monkeypatch, sizes, batch_size, refused=None):
    """Batches of images of these sizes; negative ones cannot be read, those of 0 are refused by their shape."""

    def read(path, size):
        side = sizes[int(path)]
        if side < 0:
            raise ModelError(f"{path}: broken")
        return torch.zeros(3, side, side)

    def shape(image):
        if image.shape[1] == 0:
            raise ModelError("too large")
        return tuple(image.shape[1:])

    monkeypatch.setattr(inputs, "read_image", read)
    given = (Input(str(i), str(i), str(i)) for i in range(len(sizes)))
    return batches(given, None, batch_size, shape, refused or (lambda item, reason: None))


@given(sizes=st.lists(st.integers(-1, 3)), batch_size=st.integers(1, 4))
def test_every_image_is_in_one_batch_of_its_shape(sizes, batch_size):
    refused = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        all_batches = list(
            stream(
                monkeypatch, sizes, batch_size, lambda item, reason: refused.append((int(item.path), reason))
            )
        )
    assert all(1 <= len(batch) <= batch_size for batch in all_batches)
    assert all(len({image.shape for _, image in batch}) == 1 for batch in all_batches)
    seen = sorted([int(item.path) for batch in all_batches for item, _ in batch] + [i for i, _ in refused])
    assert seen == list(range(len(sizes)))
    assert refused == [
        (i, f"{i}: broken" if side < 0 else f"{i}: too large") for i, side in enumerate(sizes) if side <= 0
    ]


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=60), batch_size=st.integers(1, 4))
def test_few_images_are_in_memory(sizes, batch_size):
    """Read but not yet handed over: at most two batches, whatever the order of the shapes."""
    read = taken = 0
    with pytest.MonkeyPatch.context() as monkeypatch:
        reader = stream(monkeypatch, sizes, batch_size)
        plain = inputs.read_image

        def counted(path, size):
            nonlocal read
            read += 1
            assert read - taken <= 2 * batch_size
            return plain(path, size)

        monkeypatch.setattr(inputs, "read_image", counted)
        for batch in reader:
            taken += len(batch)
    assert taken == len(sizes)


def test_images_of_one_shape_keep_their_order(monkeypatch):
    order = [int(item.path) for batch in stream(monkeypatch, [2] * 7, 3) for item, _ in batch]
    assert order == list(range(7))
