"""The manifest: what a data set holds. ``manifest.json`` is written last: without it there is no data set.

Beside it lie the shards, ordinary WebDataset tars, and an index of the samples of each split
(`data_shards.index`). All but the manifest itself are named by their content, so that none is ever replaced.
"""

import hashlib
import json
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from data_shards.errors import DataError, Missing
from data_shards.store import Store

VERSION = 2
FILE_NAME = "manifest.json"


def _inside_the_data_set(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"{path!r} leads out of the data set")
    return path


class File(BaseModel):
    """A file of the data set."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: Annotated[str, AfterValidator(_inside_the_data_set)]
    """Name relative to the manifest, with forward slashes."""
    bytes: int = Field(ge=0)
    """Length."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Digest of the content."""
    etag: str | None = None
    """ETag of the object in the bucket it was built into; null on a file system."""


class Shard(File):
    """One tar."""

    count: int = Field(ge=1)
    """Samples in the file."""


class Split(BaseModel):
    """The samples of one split of one domain. Their indices count through the shards in this order."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    shards: tuple[Shard, ...] = Field(min_length=1)
    """The tars."""
    index: File
    """A Parquet file with one row per sample: `data_shards.index.COLUMNS`."""

    @property
    def count(self) -> int:
        """Samples."""
        return sum(shard.count for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Length of all shards."""
        return sum(shard.bytes for shard in self.shards)


class Skip(BaseModel):
    """A file of the source that is not in the data set."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: str
    """Name relative to the source."""
    reason: str
    """Why it was left out."""


class Manifest(BaseModel):
    """What a data set holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: int = Field(default=VERSION, ge=VERSION, le=VERSION)
    """Version of this format."""
    load_size: int | None = Field(default=None, ge=1)
    """Pixels of the short side to which images were resized when built; null: kept as they were."""
    source: str = ""
    """Digest of the names and versions of the source's files and of the options of the build."""
    domains: dict[str, dict[str, Split]]
    """Splits by domain and name."""
    skipped: tuple[Skip, ...] = ()
    """What the source held and the data set does not."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the digests of the shards: equal digests mean equal data in equal order, anywhere."""
        content = {
            domain: {name: [shard.sha256 for shard in split.shards] for name, split in splits.items()}
            for domain, splits in self.domains.items()
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def split(self, domain: str, name: str) -> Split:
        """One split of one domain, or a clear refusal."""
        if domain not in self.domains:
            raise DataError(f"no domain {domain!r} in the data set; it has {', '.join(sorted(self.domains))}")
        splits = self.domains[domain]
        if name not in splits:
            raise DataError(f"domain {domain!r} has no split {name!r}; it has {', '.join(sorted(splits))}")
        return splits[name]

    def files(self) -> list[File]:
        """All shards and indices."""
        splits = [split for splits in self.domains.values() for split in splits.values()]
        return [file for split in splits for file in (*split.shards, split.index)]

    def write(self, store: Store) -> None:
        """Publish: from now on there is a data set in ``store``."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        store.put(FILE_NAME, text.encode() + b"\n")

    @classmethod
    def read(cls, store: Store) -> "Manifest":
        """The manifest of the data set in ``store``."""
        where = f"{store.uri}/{FILE_NAME}"
        try:
            text = store.read(FILE_NAME)
        except Missing as error:
            raise Missing(
                f"no data set at {store.uri} ({error}); make one with `python -m data_shards build`"
            ) from None
        try:
            content: Any = json.loads(text)
        except ValueError as error:
            raise DataError(f"{where} is not JSON ({error}): build the data set again") from None
        version = content.get("version") if isinstance(content, dict) else None
        if isinstance(version, int) and version != VERSION:
            raise DataError(
                f"{where} is of version {version}, newer than {VERSION}, the newest known here: "
                f"upgrade gmvae-drit"
                if version > VERSION
                else f"{where} is of version {version}, older than {VERSION}: build the data set again"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise DataError(
                f"{where} is not a manifest: {place}: {first['msg']}; build the data set again"
            ) from None
