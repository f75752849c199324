"""Images in folders, in the layouts that people have: CycleGAN's, SPLIT/DOMAIN and one folder per domain."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_shards.build import SourceImage, name_hash
from data_shards.errors import DataError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"})
SPLITS = ("train", "test", "val")
CYCLEGAN = re.compile(rf"({'|'.join(SPLITS)})([A-Z])")
DOMAIN_NAME = re.compile(r"[\w][\w. -]*")


@dataclass(frozen=True)
class Found:
    """What a source folder holds."""

    images: tuple[SourceImage, ...]
    skipped: tuple[Path, ...]
    """Files left out because their names do not say image: hidden, or of another extension."""


def find_images(source: Path, *, test_fraction: float = 0.1, names: Mapping[str, str] | None = None) -> Found:
    """The images under ``source``.

    Layouts: ``trainA/ trainB/ testA/ testB/ …`` (CycleGAN; domains A, B, … up to Z), ``train/DOMAIN/
    test/DOMAIN/ …``, or ``DOMAIN/ …``. Only the last has no test split of its own: the ``test_fraction`` of
    each domain whose names have the smallest hash. ``names`` renames domains.
    """
    try:
        folders = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror or error}") from None
    if not folders:
        raise DataError(
            f"{source} holds no folders: expected trainA/ trainB/, train/DOMAIN/ or one folder per domain"
        )
    skipped = [path for path in sorted(source.iterdir()) if path.is_file()]
    images: list[SourceImage] = []
    for domain, split, folder in _places(folders):
        domain = (names or {}).get(domain, domain)
        if not DOMAIN_NAME.fullmatch(domain):
            raise DataError(f"{domain!r} cannot name a domain: use letters, digits, '-', '_', '.' and spaces")
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        chosen = [
            path for path in files if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
        ]
        skipped += sorted(set(files) - set(chosen))
        if not chosen:
            raise DataError(f"{folder} holds no images (looked for {', '.join(sorted(EXTENSIONS))})")
        by_name = {path.relative_to(folder).as_posix(): path for path in chosen}
        tests = set() if split else _smallest_hashes(by_name, test_fraction)
        for name, path in by_name.items():
            images.append(SourceImage(domain, split or ("test" if name in tests else "train"), name, path))
    if unknown := set(names or {}) - {domain for domain, _, _ in _places(folders)}:
        raise DataError(f"no domain {sorted(unknown)[0]!r} to rename under {source}")
    if len({image.domain for image in images}) < 2:
        raise DataError(f"{source} holds one domain only; translation needs at least two")
    return Found(tuple(images), tuple(skipped))


def _places(folders: list[Path]) -> Iterator[tuple[str, str | None, Path]]:
    """(domain, split or None, folder) of each folder of images."""
    if any(CYCLEGAN.fullmatch(folder.name) for folder in folders):
        for folder in folders:
            if match := CYCLEGAN.fullmatch(folder.name):
                yield match[2], match[1], folder
            else:
                raise DataError(f"{folder} does not fit beside trainA/ trainB/ …: rename it or move it away")
    elif all(folder.name in SPLITS for folder in folders):
        for folder in folders:
            domains = sorted(
                path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
            )
            if not domains:
                raise DataError(f"{folder} holds no folder per domain")
            for domain in domains:
                yield domain.name, folder.name, domain
    else:
        for folder in folders:
            yield folder.name, None, folder


def _smallest_hashes(names: Mapping[str, Path], fraction: float) -> set[str]:
    """That fraction of the names, rounded, but at least one of two or more and never all of them."""
    count = round(fraction * len(names))
    if fraction > 0:
        count = min(max(count, 1), len(names) - 1)
    return set(sorted(names, key=name_hash)[:count])
