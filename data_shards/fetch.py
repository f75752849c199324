"""Published data sets: downloaded, checked, unpacked into a folder that ``build`` reads.

The archives are those of CycleGAN (Zhu et al., 2017, https://github.com/junyanz/CycleGAN).
"""

import fcntl
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path, PurePosixPath
from urllib.parse import quote
from zipfile import BadZipFile, ZipFile, ZipInfo

from data_shards.download import Remote, Watch, check_room, download, forget
from data_shards.errors import DataError

BASE_URL = "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets"


@dataclass(frozen=True)
class Archive:
    """``BASE_URL/NAME.zip`` as published."""

    size: int
    """Bytes."""
    sha256: str


# Sizes and digests: TensorFlow Datasets, tensorflow_datasets/url_checksums/cycle_gan.txt. Its facades and
# cityscapes are left out: their archives hold pairs, or no data any more.
KNOWN: Mapping[str, Archive] = {
    "apple2orange": Archive(78_456_409, "845a191e9af8926408ea597001cd03a452e3300a1f44a79fe329b3d59f6e3eb8"),
    "cezanne2photo": Archive(279_885_071, "3a6c10ca21f9485862f1cbd707744b9dc258954a04631271d23a3605eeb63cff"),
    "horse2zebra": Archive(116_867_962, "a74d9d392eecca9966b51287a76ca126af473d9de4f3e8fc0e9cda08fa1730a1"),
    "iphone2dslr_flower": Archive(
        339_964_458, "8fcb5e374d631b107e1d961b8c4cd0a186aa2a4ff3e279923f4c426128de7113"
    ),
    "maps": Archive(1_476_754_427, "639534f69dbf9f36bef8d6292a7698006361221f83f0285d7c9ca78afe6e8a9e"),
    "monet2photo": Archive(305_231_073, "88f91b00fc228f97c9411fbf1880ec1d119c98f1722e4cfcfaa2fb35fac05b04"),
    "summer2winter_yosemite": Archive(
        132_640_856, "167fe1726807a9d22bd106b4a6c0bd7953b688af924ac1bf967439c4961e49f9"
    ),
    "ukiyoe2photo": Archive(292_946_532, "02a2a2fb5ecf425ca1bf86aca7304377da64a2a1d3b86df54eb65e4068bf3b08"),
    "vangogh2photo": Archive(306_590_349, "362c3473e70be0944bda08d49d660eafdc2854df55d697835b8186d1d79caaff"),
}

# A folder at the top of an archive that means something: every other lone one is only wrapping.
LAYOUT = re.compile(r"(train|test|val)[A-Z]?")


class UnusableArchive(DataError):
    """An archive that came whole and cannot be unpacked."""


def find(name: str, base_url: str, sha256: str | None) -> Remote:
    """The archive called ``name``; one that is not ``KNOWN`` needs its digest."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise DataError(f"{name!r} cannot name a data set: use letters, digits, '-', '_' and '.'")
    url = f"{base_url.rstrip('/')}/{quote(name)}.zip"
    if sha256 is not None:
        if not re.fullmatch(r"[0-9a-f]{64}", sha256.lower()):
            raise DataError(f"{sha256!r} is not a SHA-256: it has 64 hexadecimal digits")
        return Remote(url, sha256.lower())
    if name not in KNOWN:
        raise DataError(
            f"no known data set {name!r}: there are {', '.join(KNOWN)}; for another archive give --sha256 as well"
        )
    return Remote(url, KNOWN[name].sha256, KNOWN[name].size)


def fetch(remote: Remote, dest: Path, watch: Watch) -> bool:
    """Download ``remote`` and unpack it as ``dest``, which is whole or not there; False if it is there already.

    What has come of the archive lies beside ``dest`` until then, and the next call goes on from there.
    """
    dest = dest.absolute()
    partial = dest.with_name(f"{dest.name}.{remote.sha256[:8]}.zip.part")
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        if dest.exists():
            return False
        with _alone(partial) as file:
            download(remote, partial, file, watch)
            try:
                _unpack(file, dest, watch)
            except UnusableArchive:
                forget(partial)
                raise
            forget(partial)
    except OSError as error:
        raise DataError(f"cannot write {error.filename or dest}: {error.strerror or error}") from None
    return True


@contextmanager
def _alone(partial: Path) -> Iterator[BufferedRandom]:
    """The partial file, which no other process can have open this way at the same time."""
    with partial.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"another process is downloading {partial}: wait for it") from None
        try:
            yield file
        finally:
            if partial.exists() and partial.stat().st_size == 0:
                forget(partial)


def _unpack(file: BufferedRandom, dest: Path, watch: Watch) -> None:
    unfinished = dest.with_name(f".{dest.name}.unpacking")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with ZipFile(file) as archive:
            members = _members(archive)
            total, done = sum(info.file_size for info in members.values()), 0
            check_room(dest.parent, total, "to unpack")
            for path, info in members.items():
                target = unfinished / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as packed, target.open("xb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
                done += info.file_size
                watch("unpack", done, total)
        unfinished.rename(dest)
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UnusableArchive(f"cannot unpack the archive, which was removed: {error}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _members(archive: ZipFile) -> dict[Path, ZipInfo]:
    """The files of an archive by where they go, without a folder that wraps all of them."""
    files = [info for info in archive.infolist() if not info.is_dir()]
    members = {PurePosixPath(info.filename): info for info in files}
    for path, info in members.items():
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
            raise UnusableArchive(
                f"the archive was removed: its file {info.filename!r} would lie outside the destination"
            )
    members = {path: info for path, info in members.items() if path.parts[0] != "__MACOSX"}
    if not members:
        raise UnusableArchive("the archive was removed: it holds no files")
    tops = {path.parts[0] for path in members}
    wrapped = len(tops) == 1 and min(len(path.parts) for path in members) > 1
    skip = 1 if wrapped and not LAYOUT.fullmatch(min(tops)) else 0
    return {Path(*path.parts[skip:]): info for path, info in members.items()}
