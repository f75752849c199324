"""Images in folders, in the layouts that people have: CycleGAN's, SPLIT/DOMAIN and one folder per domain."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from data_shards.errors import DataError
from data_shards.manifest import Skip
from data_shards.metadata import FILE_NAME as METADATA
from data_shards.metadata import read_metadata
from data_shards.sources import SourceImage, name_hash, printable
from data_shards.store import Entry, Store

EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff"),
        *("ppm", "pgm", "pbm", "pnm", "avif", "jp2"),
    )
)
SPLITS = ("train", "test", "val")
CYCLEGAN = re.compile(rf"({'|'.join(SPLITS)})([A-Z])")
DOMAIN_NAME = re.compile(r"\w[\w. -]*")


@dataclass
class _Folder:
    """Files of one domain, and of one split where the source has splits, by name relative to the folder."""

    path: str
    domain: str
    split: str | None
    images: dict[str, Entry] = field(default_factory=dict)


def find_images(
    source: Store, *, test_fraction: float = 0.1, names: Mapping[str, str] | None = None
) -> tuple[list[SourceImage], list[Skip]]:
    """The images of ``source``, and the files that are not taken for images.

    Layouts: ``trainA/ trainB/ testA/ testB/ …`` (CycleGAN; domains A to Z), ``train/DOMAIN/ test/DOMAIN/ …``, or
    ``DOMAIN/ …``. Only the last has no test split of its own: it gets the ``test_fraction`` of each domain whose
    names have the smallest hash. ``names`` renames domains. Files count as images by their extension
    (``EXTENSIONS``); hidden files and folders never do. ``metadata.csv`` at the root adds to the metadata of
    samples (`data_shards.metadata`).
    """
    entries = sorted(source.list(), key=lambda entry: entry.path)
    visible, skipped = _visible(entries)
    folders = _folders(source.uri, visible, names or {})
    described = read_metadata(source) if METADATA in visible else {}
    for path, entry in visible.items():
        folder = folders.get(_folder_of(path, folders))
        if folder is None:
            if path != METADATA:
                skipped.append(Skip(path=printable(path), reason="it lies in no folder of a domain"))
        elif PurePosixPath(path).suffix.lower() in EXTENSIONS:
            folder.images[path.removeprefix(f"{folder.path}/")] = entry
        else:
            skipped.append(Skip(path=printable(path), reason="it is not named like an image"))
    images: list[SourceImage] = []
    for folder in folders.values():
        if not folder.images:
            raise DataError(
                f"{source.uri}/{folder.path} holds no images (looked for {', '.join(sorted(EXTENSIONS))})"
            )
        tests = set() if folder.split else _smallest_hashes(folder.images, test_fraction)
        for name, entry in folder.images.items():
            split = folder.split or ("test" if name in tests else "train")
            images.append(SourceImage(folder.domain, split, name, entry, described.pop(entry.path, {})))
    if described:
        path = next(iter(described))
        raise DataError(f"{source.uri}/{METADATA} names {path!r}, which is no image there: correct it")
    return images, skipped


def _visible(entries: Sequence[Entry]) -> tuple[dict[str, Entry], list[Skip]]:
    """Files by path, without hidden ones; those are skipped, a hidden folder as a whole."""
    visible: dict[str, Entry] = {}
    hidden: dict[str, Skip] = {}
    for entry in entries:
        parts = entry.path.split("/")
        first = next((place for place, part in enumerate(parts) if part.startswith(".")), None)
        if first is None:
            if parts[-1]:  # tools for S3 make folders as empty objects whose names end in a slash
                visible[entry.path] = entry
        else:
            path = printable("/".join(parts[: first + 1])) + ("/" if first + 1 < len(parts) else "")
            hidden[path] = Skip(path=path, reason="it is hidden")
    return visible, list(hidden.values())


def _folders(uri: str, paths: Mapping[str, Entry], names: Mapping[str, str]) -> dict[str, _Folder]:
    """The folders of images, by path."""
    places = list(_places(uri, paths))
    if unknown := sorted(set(names) - {domain for domain, _, _ in places}):
        raise DataError(f"no domain {unknown[0]!r} to rename under {uri}")
    folders: dict[str, _Folder] = {}
    seen: set[tuple[str, str | None]] = set()
    for original, split, path in places:
        domain = names.get(original, original)
        if not DOMAIN_NAME.fullmatch(domain):
            raise DataError(
                f"{printable(domain)!r} cannot name a domain: use letters, digits, '-', '_', '.' and spaces"
            )
        if (domain, split) in seen:
            raise DataError(f"two folders of {uri} make the same domain {domain!r}")
        seen.add((domain, split))
        folders[path] = _Folder(path, domain, split)
    return folders


def _places(uri: str, paths: Mapping[str, Entry]) -> Iterator[tuple[str, str | None, str]]:
    """(domain, split or None, path) of each folder of images."""
    tops = sorted({path.split("/", 1)[0] for path in paths if "/" in path})
    if not tops:
        raise DataError(f"{uri} holds no folders: expected trainA/ trainB/, train/DOMAIN/ or DOMAIN/ ...")
    if any(CYCLEGAN.fullmatch(top) for top in tops):
        for top in tops:
            if not (match := CYCLEGAN.fullmatch(top)):
                raise DataError(
                    f"{uri}/{printable(top)} does not fit beside trainA/ trainB/ ...: rename it or move it away"
                )
            yield match[2], match[1], top
    elif all(top in SPLITS for top in tops):
        below = sorted({"/".join(path.split("/", 2)[:2]) for path in paths if path.count("/") > 1})
        for split in tops:
            domains = [path.partition("/")[2] for path in below if path.startswith(f"{split}/")]
            if not domains:
                raise DataError(f"{uri}/{split} holds no folder per domain")
            for domain in domains:
                yield domain, split, f"{split}/{domain}"
    else:
        for top in tops:
            yield top, None, top


def _folder_of(path: str, folders: Mapping[str, _Folder]) -> str:
    """The folder of ``folders`` that ``path`` lies in; itself if it lies in none."""
    top, _, rest = path.partition("/")
    if top in folders and rest:
        return top
    second, _, rest = rest.partition("/")
    return f"{top}/{second}" if rest else path


def _smallest_hashes(names: Mapping[str, Entry], fraction: float) -> set[str]:
    """That fraction of the names, rounded; if not zero, at least one of two or more and never all of them."""
    count = round(fraction * len(names))
    if fraction > 0:
        count = min(max(count, 1), len(names) - 1)
    return set(sorted(names, key=name_hash)[:count])
