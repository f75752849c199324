"""One file over HTTP: goes on where it was cut off, tries again, and is accepted only by its SHA-256."""

import errno
import hashlib
import logging
import os
import random
import shutil
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse, InvalidURL
from io import BufferedRandom
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from data_shards.errors import DataError

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 30  # without a byte, after which the request is made again
TRIES = 6  # in a row that bring less than ENOUGH
ENOUGH = 2**20  # bytes
FIRST_PAUSE, LONGEST_PAUSE = (
    0.5,
    8.0,
)  # seconds between tries, doubling; each is drawn from half to all of that
PIECE = 2**18  # bytes

TRANSIENT_STATES = frozenset({408, 425, 429, 500, 502, 503, 504})
# What the disk says, as against the network: trying again would not help.
LOCAL_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
)
CAUSES = {
    401: "it wants a password, which this command cannot give",
    403: "access is forbidden",
    404: "there is no such file: check the name and --base-url",
    410: "the file is gone: try another --base-url",
}

Watch = Callable[[str, int, int | None], None]
"""Is told what is being done, how many bytes of it are done, and of how many if that is known."""


class CutOffError(OSError):
    """The body ended too early, or began at the wrong place."""


@dataclass(frozen=True)
class Remote:
    """A file on a server."""

    url: str
    sha256: str
    """Of the content, as hexadecimal digits."""
    size: int | None = None
    """Bytes, where known beforehand."""


def download(remote: Remote, path: Path, file: BufferedRandom, watch: Watch) -> None:
    """Complete ``file``, which is open at ``path`` for reading and appending, and check it.

    Beside it, ``PATH.etag`` says which version of the remote file the bytes are of.
    """
    _check_url(remote.url)
    furthest, failures, pause = file.seek(0, os.SEEK_END), 0, FIRST_PAUSE
    while True:
        try:
            _go_on(remote, path, file, watch)
            break
        except (OSError, HTTPException, ValueError) as error:
            here = path.stat().st_size
            if here >= furthest + ENOUGH:
                furthest, failures, pause = here, 0, FIRST_PAUSE
            failures += 1
            if failures == TRIES or not _is_transient(error):
                tried = f" (tried {TRIES} times)" if failures == TRIES else ""
                kept = f"; {here:,} bytes are kept, the same command goes on from there" if here else ""
                raise DataError(f"cannot fetch {remote.url}: {_reason(error)}{tried}{kept}") from None
            logger.warning("trying %s again: %s", remote.url, _reason(error))
        time.sleep(random.uniform(pause / 2, pause))
        pause = min(2 * pause, LONGEST_PAUSE)
    _check(remote, path, file)


def forget(path: Path) -> None:
    """Remove the download at ``path``."""
    path.unlink(missing_ok=True)
    _etag_of(path).unlink(missing_ok=True)


def check_room(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin what would fill the disk."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"not enough room in {folder} {what}: {needed / 2**20:,.0f} MiB are needed, "
            f"{free / 2**20:,.0f} MiB are free"
        )


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 80) > 0
    except ValueError:
        good = False
    if not good:
        raise DataError(f"{url!r} is not a URL of the kind http://HOST/PATH: check --base-url")


def _go_on(remote: Remote, path: Path, file: BufferedRandom, watch: Watch) -> None:
    """One request for what is missing."""
    position = file.seek(0, os.SEEK_END)
    if position == remote.size:
        return
    headers = {"User-Agent": "gmvae-drit (python -m data_shards fetch)"}
    if position:
        headers["Range"] = f"bytes={position}-"
        if _etag_of(path).exists():
            headers["If-Range"] = _etag_of(path).read_text()
    try:
        answer = urlopen(Request(remote.url, headers=headers), timeout=ANSWER_SECONDS)
    except HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range", "") == f"bytes */{position}":
            return
        file.truncate(0)
        raise CutOffError("the server's file is shorter than what is here; starting again") from None
    with answer:
        total = _place_body(answer, position, path, file)
        if total is not None:
            _check_total(remote, total)
            check_room(path.parent, 2 * total - file.tell(), f"to download and unpack {remote.url}")
        position = file.tell()
        watch("download", position, total)
        # Stop at the last byte: a server that keeps the connection open would make us wait for nothing.
        while position != total and (piece := answer.read1(PIECE)):
            file.write(piece)
            file.flush()  # what was counted must survive a kill
            position += len(piece)
            watch("download", position, total)
    if total is not None and position < total:
        raise CutOffError(f"the connection was cut off at byte {position:,} of {total:,}")


def _place_body(answer: HTTPResponse, position: int, path: Path, file: BufferedRandom) -> int | None:
    """Make ``file`` end where the body begins; the length of the remote file, if the server says."""
    if answer.status == 206:
        extent, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if extent.partition("-")[0] != str(position):
            file.truncate(0)
            raise CutOffError(f"the server sent bytes {extent} when asked for those from {position}")
        return int(total) if total.isdigit() else None
    file.truncate(0)
    file.seek(0)
    if version := _version(answer.headers):
        _etag_of(path).write_text(version)
    else:
        _etag_of(path).unlink(missing_ok=True)
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _version(headers: Message) -> str | None:
    """What If-Range may name: a strong ETag, else the date (RFC 9110, 13.1.5)."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _check_total(remote: Remote, total: int) -> None:
    if remote.size is not None and total != remote.size:
        raise DataError(
            f"{remote.url} has {total:,} bytes, not the {remote.size:,} that were published: "
            f"it was changed or is a page that stands in for it; try another --base-url"
        )


def _check(remote: Remote, path: Path, file: BufferedRandom) -> None:
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != remote.sha256:
        forget(path)
        raise DataError(
            f"{remote.url} is not the expected archive and was removed: its SHA-256 is {found}, "
            f"not {remote.sha256}; run the command again or try another --base-url"
        )


def _etag_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.etag")


def _is_transient(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code in TRANSIENT_STATES
    if isinstance(error, URLError):
        return not isinstance(error.reason, Exception) or _is_transient(error.reason)
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    if isinstance(error, OSError):
        return not isinstance(error, ssl.SSLError) and error.errno not in LOCAL_ERRORS
    return isinstance(error, HTTPException) and not isinstance(error, InvalidURL)


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"{CAUSES.get(error.code, 'the server refused')} (HTTP {error.code} {error.reason})"
    if isinstance(error, URLError):
        return _reason(error.reason) if isinstance(error.reason, Exception) else str(error.reason)
    if isinstance(error, socket.gaierror):
        return f"the host is unknown, or this machine has no network ({error.strerror})"
    if isinstance(error, TimeoutError):
        return f"no answer for {ANSWER_SECONDS} s"
    return str(error) or type(error).__name__
