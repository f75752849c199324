"""Settings of the stream of batches: which shards, how many images per step, which augmentation.

Importing this costs no torch, so that a configuration can be checked before anything heavy is loaded.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from data_shards.errors import DataError
from data_shards.store import open_store


def _a_place_we_know(uri: str) -> str:
    try:
        open_store(uri)
    except DataError as error:
        raise ValueError(str(error)) from None
    return uri


StoreUri = Annotated[str, Field(min_length=1), AfterValidator(_a_place_we_know)]
"""A folder or ``s3://bucket/prefix``, as `open_store` takes it."""


class DataSettings(BaseModel):
    """The data of a run. ``chunk`` and ``window`` shape the order of samples; threads and sizes never do."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    uri: StoreUri
    """Where ``python -m data_shards build`` or ``sample`` wrote shards: a folder or ``s3://bucket/prefix``
    (`data_shards.s3` has its options)."""
    domains: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names of the domains to use, in the order of their ids; null takes all, sorted by name. A single domain is of
    use to models that do not translate."""
    global_batch: int = Field(default=2, ge=2)
    """Images per step over all workers and both domains of the step; even, at least 2 (published: 2)."""
    crop: int | None = Field(default=None, ge=1)
    """Side in pixels of the square crop, at least 1: random in training, central in evaluation (published:
    216 of 256); null keeps whole images, which must then all be of one size."""
    flip: bool = True
    """Mirror training images with probability one half (published: true)."""
    tail: Literal["drop", "pad"] = "drop"
    """What an epoch does with the samples that do not fill its last batch: leave them out, or fill it up with
    samples of its beginning."""
    chunk: int = Field(default=64, ge=1)
    """Consecutive samples read at once, at least 1. Larger reads faster, smaller shuffles better."""
    window: int = Field(default=2, ge=1)
    """Chunks that one slot of the batch holds in memory and shuffles among themselves, at least 1."""
    on_corrupt: Literal["stop", "substitute"] = "stop"
    """What a sample does whose bytes are not those that were built: stop the run and name it, or give its place
    to the next good sample of its split; how many were replaced is counted and reported."""
    decode_threads: int = Field(default=2, ge=1, le=64)
    """Threads per worker that decode, 1 to 64."""
    read_threads: int = Field(default=8, ge=1, le=256)
    """Requests per worker that read shards at once, 1 to 256."""
    read_ahead_mib: float = Field(default=32, gt=0)
    """Encoded images in MiB that each worker reads before they are needed, beyond the windows in use."""
    ready_batches: int = Field(default=4, ge=1)
    """Decoded batches kept ready per worker, at least 1."""

    def of_order(self) -> dict[str, Any]:
        """The settings that decide which images make which batch, as against where from and how fast."""
        speed = {"uri", "on_corrupt", "decode_threads", "read_threads", "read_ahead_mib", "ready_batches"}
        return self.model_dump(mode="json", exclude=speed)

    @field_validator("domains")
    @classmethod
    def _each_once(cls, domains: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if domains and len(set(domains)) < len(domains):
            raise ValueError(f"a domain is named twice: {', '.join(domains)}")
        return domains

    @field_validator("global_batch")
    @classmethod
    def _two_equal_halves(cls, global_batch: int) -> int:
        if global_batch % 2:
            raise ValueError(
                f"{global_batch} is odd, but half of a batch is of one domain and half of another: "
                f"use {global_batch - 1} or {global_batch + 1}"
            )
        return global_batch
