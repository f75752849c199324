"""Images in folders, in the layouts that people have: CycleGAN's, SPLIT/DOMAIN and one folder per domain."""

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from data_shards.build import SourceImage, name_hash
from data_shards.errors import DataError

logger = logging.getLogger(__name__)

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"})
SPLITS = ("train", "test", "val")
CYCLEGAN = re.compile(rf"({'|'.join(SPLITS)})([A-Z])")
DOMAIN_NAME = re.compile(r"\w[\w. -]*")


def find_images(
    source: Path, *, test_fraction: float = 0.1, names: Mapping[str, str] | None = None
) -> list[SourceImage]:
    """The images under ``source``.

    Layouts: ``trainA/ trainB/ testA/ testB/ …`` (CycleGAN; domains A to Z), ``train/DOMAIN/ test/DOMAIN/ …``, or
    ``DOMAIN/ …``. Only the last has no test split of its own: it gets the ``test_fraction`` of each domain whose
    names have the smallest hash. ``names`` renames domains. Hidden files and those without an image's extension
    are skipped, with a warning.
    """
    try:
        return _find_images(source, test_fraction, names or {})
    except OSError as error:
        raise DataError(f"cannot read {error.filename or source}: {error.strerror or error}") from None


def _find_images(source: Path, test_fraction: float, names: Mapping[str, str]) -> list[SourceImage]:
    places = list(_places(source))
    if unknown := sorted(set(names) - {domain for domain, _, _ in places}):
        raise DataError(f"no domain {unknown[0]!r} to rename under {source}")
    skipped = [path for path in sorted(source.iterdir()) if path.is_file()]
    images: list[SourceImage] = []
    seen: set[tuple[str, str | None]] = set()
    for original, split, folder in places:
        domain = names.get(original, original)
        if not DOMAIN_NAME.fullmatch(domain):
            raise DataError(f"{domain!r} cannot name a domain: use letters, digits, '-', '_', '.' and spaces")
        if (domain, split) in seen:
            raise DataError(f"two folders of {source} make the same domain {domain!r}")
        seen.add((domain, split))
        by_name: dict[str, Path] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                if path.suffix.lower() in EXTENSIONS and not path.name.startswith("."):
                    by_name[path.relative_to(folder).as_posix()] = path
                else:
                    skipped.append(path)
        if not by_name:
            raise DataError(f"{folder} holds no images (looked for {', '.join(sorted(EXTENSIONS))})")
        tests = set() if split else _smallest_hashes(by_name, test_fraction)
        for name, path in by_name.items():
            images.append(SourceImage(domain, split or ("test" if name in tests else "train"), name, path))
    if len({domain for domain, _ in seen}) < 2:
        raise DataError(f"{source} holds one domain only; translation needs at least two")
    if skipped:
        shown = ", ".join(str(path.relative_to(source)) for path in skipped[:5])
        more = ", ..." if len(skipped) > 5 else ""
        logger.warning("skipped, not named like an image (%d): %s%s", len(skipped), shown, more)
    return images


def _places(source: Path) -> Iterator[tuple[str, str | None, Path]]:
    """(domain, split or None, folder) of each folder of images."""
    folders = _visible_folders(source)
    if not folders:
        raise DataError(f"{source} holds no folders: expected trainA/ trainB/, train/DOMAIN/ or DOMAIN/ ...")
    if any(CYCLEGAN.fullmatch(folder.name) for folder in folders):
        for folder in folders:
            if not (match := CYCLEGAN.fullmatch(folder.name)):
                raise DataError(
                    f"{folder} does not fit beside trainA/ trainB/ ...: rename it or move it away"
                )
            yield match[2], match[1], folder
    elif all(folder.name in SPLITS for folder in folders):
        for folder in folders:
            if not (domains := _visible_folders(folder)):
                raise DataError(f"{folder} holds no folder per domain")
            for domain in domains:
                yield domain.name, folder.name, domain
    else:
        for folder in folders:
            yield folder.name, None, folder


def _visible_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _smallest_hashes(names: Mapping[str, Path], fraction: float) -> set[str]:
    """That fraction of the names, rounded; if not zero, at least one of two or more and never all of them."""
    count = round(fraction * len(names))
    if fraction > 0:
        count = min(max(count, 1), len(names) - 1)
    return set(sorted(names, key=name_hash)[:count])
