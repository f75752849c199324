"""An S3 bucket, or a prefix of one, as a store: boto3 with one layer of retries around request and body.

URI: ``s3://bucket/prefix``, with options behind a question mark: ``?anonymous=true`` for public buckets,
``&retry_seconds=600`` for how long to bear an outage (default 120). Credentials and region come from boto3's
default chain, and the endpoint of another S3 server from ``AWS_ENDPOINT_URL_S3``.
"""

import logging
import math
import os
import random
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from data_shards.errors import DataError, Missing
from data_shards.store import Entry

logger = logging.getLogger(__name__)

CONNECT_SECONDS, READ_SECONDS = 5, 20  # without an answer, after which a request is tried again
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between tries, doubling; each is drawn from zero to that
WARN_EVERY = 10.0  # seconds of an outage between two warnings
PART = 32 * 2**20  # bytes of one part of a multipart upload; S3 takes up to 10,000 of them
BUCKET_NAME = re.compile(r"[a-zA-Z0-9._-]{3,255}")  # those of AWS are narrower, other servers take these
CONNECTIONS = 32  # kept open for the threads of a loader

# HTTP states after which the same request may succeed. S3 itself answers 500 and 503 under load.
TRANSIENT_STATES = frozenset({408, 425, 429, 500, 502, 503, 504})
TRANSIENT_CODES = frozenset({"SlowDown", "InternalError", "RequestTimeout", "ServiceUnavailable"})
TRANSIENT_ERRORS = (
    HTTPClientError,
    BotoConnectionError,
    IncompleteReadError,
    CredentialRetrievalError,  # the service that lends credentials may be away as well
    FlexibleChecksumError,  # a whole object that arrived with other bytes than the server has
    OSError,
)

REPLACED = (
    "the object was replaced after the data set was built, or copied by a tool that changes ETags: run "
    "`python -m data_shards verify --deep`, and with --update-etags if the content is as it was"
)
CAUSES = {
    "NoSuchBucket": "there is no such bucket",
    "NoSuchKey": "there is no such object",
    "404": "there is no such object or bucket",
    "AccessDenied": "the credentials in use may not do this",
    "403": "the credentials in use may not do this, or there are none",
    "InvalidAccessKeyId": "the access key is unknown to this server",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the credentials have expired: log in again",
    "InvalidRange": "it is shorter than when it was built: build it again",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "PermanentRedirect": "the bucket lies in another region: set AWS_REGION",
    "301": "the bucket lies in another region: set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket lies in another region: set AWS_REGION",
    "PreconditionFailed": REPLACED,
    "412": REPLACED,
}
MISSING = frozenset({"NoSuchBucket", "NoSuchKey", "404"})

Result = TypeVar("Result")


class CutOffError(OSError):
    """A body of another length than was asked for."""


class S3Store:
    """The objects under one prefix of one bucket."""

    def __init__(
        self, bucket: str, prefix: str = "", *, anonymous: bool = False, retry_seconds: float = 120
    ) -> None:
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._anonymous, self._retry_seconds = anonymous, retry_seconds
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._made: Any = None

    @classmethod
    def from_uri(cls, uri: str) -> "S3Store":
        """``s3://bucket/prefix?anonymous=true&retry_seconds=600``."""
        parts = urlsplit(uri)
        if not parts.netloc:
            raise DataError(f"{uri!r} names no bucket: use s3://bucket/prefix")
        if not BUCKET_NAME.fullmatch(parts.netloc):
            raise DataError(f"{uri!r}: {parts.netloc!r} is no name of a bucket: use s3://bucket/prefix")
        options = parse_qs(parts.query, keep_blank_values=True)
        anonymous = options.pop("anonymous", ["false"])[-1]
        seconds = options.pop("retry_seconds", ["120"])[-1]
        if options or parts.fragment or anonymous not in ("true", "false"):
            raise DataError(f"{uri!r}: after the prefix go only ?anonymous=true and retry_seconds=NUMBER")
        try:
            retry_seconds = float(seconds)
        except ValueError:
            retry_seconds = math.nan
        if not retry_seconds >= 0:
            raise DataError(f"{uri!r}: retry_seconds={seconds!r} is not a number of seconds")
        return cls(
            parts.netloc, parts.path.strip("/"), anonymous=anonymous == "true", retry_seconds=retry_seconds
        )

    @property
    def workspace(self) -> Path:
        """A folder for temporary files, the same for every process of this user that writes here."""
        name = f"{self._bucket}/{self._prefix}".rstrip("/").replace("/", "--")
        return Path(tempfile.gettempdir()) / f"data_shards-{os.getuid()}-{name}"

    def head(self, path: str) -> Entry:
        """What is known of object ``path``."""
        found = self._try("ask for", path, lambda: self._client.head_object(**self._object(path)))
        return Entry(path, int(found["ContentLength"]), str(found["ETag"]))

    def read(self, path: str, start: int = 0, length: int | None = None, *, etag: str | None = None) -> bytes:
        """Exactly ``length`` bytes of object ``path`` from ``start``, or all up to its end."""
        if length == 0:
            return b""
        last = "" if length is None else str(start + length - 1)
        conditions: dict[str, str] = {} if etag is None else {"IfMatch": etag}
        if start or length is not None:
            conditions["Range"] = f"bytes={start}-{last}"

        def get() -> bytes:
            answer = self._client.get_object(**self._object(path), **conditions)
            body: bytes = answer["Body"].read()
            wanted = int(answer["ContentLength"]) if length is None else length
            if len(body) != wanted:
                total = answer.get("ContentRange", "").rpartition("/")[2]
                if total.isdigit() and int(total) < start + wanted:
                    raise DataError(f"{self.uri}/{path} ends at byte {total}, too early: build it again")
                raise CutOffError(f"{len(body)} bytes came instead of {wanted}")
            return body

        return self._try("read", path, get, conditions.get("Range", ""))

    def put(self, path: str, content: bytes | Path) -> str:
        """Upload ``content`` as ``path``, large files in parts, and see that it is there."""
        size = content.stat().st_size if isinstance(content, Path) else len(content)

        def upload() -> None:
            if isinstance(content, Path):
                transfer = TransferConfig(multipart_threshold=2 * PART, multipart_chunksize=PART)
                place = self._object(path)
                self._client.upload_file(str(content), place["Bucket"], place["Key"], Config=transfer)
            else:
                self._client.put_object(**self._object(path), Body=content)

        self._try("write", path, upload)
        stored = self.head(path)
        if stored.size != size:
            raise DataError(f"{self.uri}/{path} has {stored.size} bytes after {size} were uploaded")
        return stored.version

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All objects whose path begins with ``prefix``, in the order of their names."""
        token: dict[str, str] = {}
        while True:
            request = {"Bucket": self._bucket, "Prefix": self._prefix + prefix, **token}

            def page(request: dict[str, str] = request) -> Any:
                return self._client.list_objects_v2(**request)

            found = self._try("list", prefix, page)
            for item in found.get("Contents", ()):
                yield Entry(item["Key"][len(self._prefix) :], int(item["Size"]), str(item["ETag"]))
            if not found.get("IsTruncated"):
                return
            token = {"ContinuationToken": found["NextContinuationToken"]}

    def delete(self, path: str) -> None:
        """Remove object ``path`` if it is there."""
        self._try("remove", path, lambda: self._client.delete_object(**self._object(path)))

    def sweep(self, pattern: re.Pattern[str]) -> None:
        """Abort unfinished uploads of paths that match ``pattern`` and remove the files of ``workspace``."""
        request = {"Bucket": self._bucket, "Prefix": self._prefix}

        def unfinished() -> list[dict[str, str]]:
            pages = self._client.get_paginator("list_multipart_uploads").paginate(**request)
            return [upload for page in pages for upload in page.get("Uploads", ())]

        for upload in self._try("list uploads to", "", unfinished):
            path = upload["Key"].removeprefix(self._prefix)
            if not pattern.fullmatch(path):
                continue
            place = {"Bucket": self._bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}

            def abort(place: dict[str, str] = place) -> Any:
                return self._client.abort_multipart_upload(**place)

            self._try("abort an upload to", path, abort)
        for file in self.workspace.glob("*"):
            file.unlink(missing_ok=True)

    def close(self) -> None:
        """Give up what is tried again at the moment, and let go of connections."""
        self._closed.set()
        if self._made is not None:
            self._made.close()

    @property
    def _client(self) -> Any:
        """The client of this process: it is shared by threads, but making it is not thread-safe."""
        with self._lock:
            if self._made is None:
                config = Config(
                    signature_version=UNSIGNED if self._anonymous else None,
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    max_pool_connections=CONNECTIONS,
                    retries={"total_max_attempts": 1},  # `_try` is the one place that tries again
                )
                self._made = boto3.session.Session().client("s3", config=config)
            return self._made

    def _object(self, path: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + path}

    def _try(self, what: str, path: str, request: Callable[[], Result], extent: str = "") -> Result:
        """``request()``, again after each transient failure until ``retry_seconds`` have passed."""
        where = " ".join(f"{self.uri}/{path} {extent}".split())
        began = warned = time.monotonic()
        pause = FIRST_PAUSE
        while True:
            try:
                return request()
            except (BotoCoreError, ClientError, S3UploadFailedError, OSError, ValueError) as error:
                now = time.monotonic()
                if not _is_transient(error):
                    raise _explained(what, where, error) from None
                if now - began > self._retry_seconds:
                    gave_up = _explained(what, where, error)
                    raise DataError(f"{gave_up} (tried for {now - began:.0f} s)") from None
                if now - warned > WARN_EVERY:
                    logger.warning("waiting for %s since %.0f s: %s", where, now - began, error)
                    warned = now
            if self._closed.wait(random.uniform(0, pause)):
                raise DataError(f"cannot {what} {where}: the store was closed")
            pause = min(2 * pause, LONGEST_PAUSE)


def _is_transient(error: Exception) -> bool:
    if isinstance(error, S3UploadFailedError) and isinstance(error.__context__, Exception):
        return _is_transient(error.__context__)
    if isinstance(error, ClientError):
        state = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return state in TRANSIENT_STATES or _code(error) in TRANSIENT_CODES
    return isinstance(error, TRANSIENT_ERRORS)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _explained(what: str, where: str, error: Exception) -> DataError:
    if isinstance(error, S3UploadFailedError) and isinstance(error.__context__, Exception):
        error = error.__context__
    if isinstance(error, ClientError):
        code, state = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        cause = CAUSES.get(code) or error.response.get("Error", {}).get("Message") or "the server refused"
        kind = Missing if code in MISSING else DataError
        return kind(f"cannot {what} {where}: {cause} (HTTP {state} {code})")
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        cause = (
            "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the "
            "machine a role; for a public bucket append ?anonymous=true"
        )
        return DataError(f"cannot {what} {where}: {cause}")
    return DataError(f"cannot {what} {where}: {' '.join(str(error).split())}")
