"""The manifest: what a data set holds, and where in its shards each image begins.

One ``manifest.json`` beside the shards, written last: a folder without it is not a data set. Shards are
ordinary WebDataset tars; the manifest lets a reader fetch a sample, or a run of them, without parsing tars.
"""

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data_shards.errors import DataError
from data_shards.store import Store

VERSION = 1
FILE_NAME = "manifest.json"


class Shard(BaseModel):
    """One tar. The lists have one entry per sample, in the order of the tar."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: str
    """Name of the file relative to the manifest, with forward slashes."""
    bytes: int = Field(ge=0)
    """Length of the file."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Digest of the file."""
    count: int = Field(ge=1)
    """Samples in the file."""
    key: tuple[str, ...]
    """WebDataset key: the name of a sample's members up to the first dot."""
    data_offset: tuple[int, ...]
    """Where the bytes of the image begin in the file (after the tar header)."""
    size: tuple[int, ...]
    """Bytes of the encoded image."""
    crc32: tuple[int, ...]
    """CRC-32 (zlib) of the encoded image."""
    meta_offset: tuple[int, ...]
    """Where the bytes of the sample's metadata (JSON) begin in the file."""
    meta_size: tuple[int, ...]
    """Bytes of the metadata."""
    width: tuple[int, ...]
    """Pixels."""
    height: tuple[int, ...]
    """Pixels."""

    @field_validator("path")
    @classmethod
    def _inside_the_data_set(cls, path: str) -> str:
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"{path!r} leads out of the data set")
        return path

    @model_validator(mode="after")
    def _one_entry_per_sample(self) -> Self:
        for name in ("key", "data_offset", "size", "crc32", "meta_offset", "meta_size", "width", "height"):
            if len(getattr(self, name)) != self.count:
                raise ValueError(f"{self.path}: {name} has not {self.count} entries")
        return self


class Manifest(BaseModel):
    """What a data set holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: int = Field(default=VERSION, ge=1, le=VERSION)
    """Version of this format."""
    load_size: int | None = Field(default=None, ge=1)
    """Pixels of the short side to which images were resized when built; null: kept as they were."""
    domains: dict[str, dict[str, tuple[Shard, ...]]]
    """Shards by domain and split. Sample indices count through them in this order."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content: equal digests mean equal data in equal order."""
        return hashlib.sha256(self._canonical().encode()).hexdigest()

    def shards(self, domain: str, split: str) -> tuple[Shard, ...]:
        """The shards of one split of one domain, or a clear refusal."""
        if domain not in self.domains:
            raise DataError(f"no domain {domain!r} in the data set; it has {', '.join(sorted(self.domains))}")
        splits = self.domains[domain]
        if split not in splits:
            raise DataError(f"domain {domain!r} has no split {split!r}; it has {', '.join(sorted(splits))}")
        return splits[split]

    def write(self, folder: Path) -> None:
        """Write the manifest into ``folder``, whole or not at all."""
        unfinished = folder / f".{FILE_NAME}.{os.getpid()}"
        unfinished.write_text(self._canonical() + "\n", encoding="utf-8")
        os.replace(unfinished, folder / FILE_NAME)

    @classmethod
    def read(cls, store: Store) -> "Manifest":
        """The manifest of the data set in ``store``."""
        where = f"{store.uri}/{FILE_NAME}"
        try:
            length = store.size(FILE_NAME)
        except DataError as error:
            raise DataError(
                f"no data set at {store.uri} ({error}); make one with `python -m data_shards build`"
            ) from None
        try:
            content: Any = json.loads(store.read(FILE_NAME, 0, length))
        except ValueError as error:
            raise DataError(f"{where} is not JSON ({error}): build the data set again") from None
        version = content.get("version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > VERSION:
            raise DataError(
                f"{where} is of version {version}, newer than {VERSION}, the newest known here: "
                f"upgrade gmvae-drit"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise DataError(
                f"{where} is not a manifest: {place}: {first['msg']}; build the data set again"
            ) from None

    def _canonical(self) -> str:
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
