"""The images to translate: which they are, what their translations are called, and a stream of batches of them."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from torch import Tensor

from gmvae_drit.errors import ModelError
from gmvae_drit.images import read_image

SUFFIXES = frozenset(
    {
        ".avif",
        ".bmp",
        ".gif",
        ".jfif",
        ".jp2",
        ".jpeg",
        ".jpg",
        ".pgm",
        ".png",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    }
)
"""By which images of a folder are known; what they are is read from their content."""


@dataclass(frozen=True)
class Input:
    """An image file."""

    path: Path
    key: str
    """Its path below the folder it was found in: what its own draws depend on."""
    name: PurePath
    """The same, without suffix where no other image differs in that alone: its translations are called after it."""


def list_images(source: Path, outside: Path | None = None) -> list[Path]:
    """`source` itself if it is a file, else the images in that folder and all below it, by suffix and sorted.

    Hidden files and folders, links to folders, and the folder `outside` are left out. Raises ModelError if there is
    no image.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ModelError(f"{source}: no such file or folder")
    found = []
    for folder, below, files in os.walk(source, onerror=_unreadable):
        below[:] = [
            name
            for name in below
            if not name.startswith(".") and not (outside and _same(Path(folder, name), outside))
        ]
        found += [
            Path(folder, name)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    if not found:
        raise ModelError(f"{source}: no image in this folder (looked for {', '.join(sorted(SUFFIXES))})")
    return sorted(found)


def _unreadable(error: OSError) -> None:
    raise ModelError(f"{error.filename}: cannot read the folder: {error.strerror}") from None


def _same(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve()


def find_inputs(sources: Iterable[Path], out: Path) -> list[Input]:
    """The images of files and folders, each named so that no two translations can have the same file name.

    The suffix becomes part of a name where two images differ in nothing else. Raises ModelError if a source has no
    image, if two names are still equal, or if `out` is itself a folder of inputs: a second run would translate
    translations.
    """
    found: dict[Path, PurePath] = {}
    for source in sources:
        if source.is_dir() and _same(source, out):
            raise ModelError(f"--out {out}: is the folder of the images; choose another one, or one below it")
        for path in list_images(source, outside=out):
            found.setdefault(path, path.relative_to(source) if source.is_dir() else PurePath(path.name))
    stems = Counter(_folded(name.with_suffix("")) for name in found.values())
    named: dict[str, Input] = {}
    for path, name in found.items():
        unique = name.with_suffix("") if stems[_folded(name.with_suffix(""))] == 1 else name
        other = named.setdefault(_folded(unique), Input(path, name.as_posix(), unique))
        if other.path != path:
            raise ModelError(
                f"{other.path} and {path} would share the name {unique}: translate them to two --out"
            )
    return list(named.values())


def _folded(name: PurePath) -> str:
    """As file systems that do not tell upper from lower case see it."""
    return name.as_posix().casefold()


def batches(
    inputs: Iterable[Input],
    size: int | None,
    batch_size: int,
    shape: Callable[[Tensor], tuple[int, int]],
    refused: Callable[[Input, str], None],
) -> Iterator[list[tuple[Input, Tensor]]]:
    """Images (3, H, W) in batches of one `shape`, read as they are needed; never more than 2 batches wait.

    Where images of many shapes alternate, the fullest batch leaves first, before it is full. `shape` may raise
    ModelError as reading does; what cannot be used goes to `refused`.
    """
    waiting: dict[tuple[int, int], list[tuple[Input, Tensor]]] = {}
    for item in inputs:
        try:
            image = read_image(item.path, size)
        except ModelError as error:
            refused(item, str(error))
            continue
        try:
            key = shape(image)
        except ModelError as error:
            refused(item, f"{item.path}: {error}")
            continue
        waiting.setdefault(key, []).append((item, image))
        fullest = max(waiting, key=lambda k: len(waiting[k]))
        if len(waiting[fullest]) == batch_size or sum(map(len, waiting.values())) == 2 * batch_size:
            yield waiting.pop(fullest)
    yield from waiting.values()
