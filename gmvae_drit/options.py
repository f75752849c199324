"""Choices of the command line. Free of torch, so that `--help` is fast."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Precision(StrEnum):
    """Number format of the networks; images and attributes stay fp32."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


class Interpolation(StrEnum):
    """What becomes of the frames between two attributes."""

    GIF = "gif"
    STRIP = "strip"
    BOTH = "both"


class Format(StrEnum):
    """File format of a translation."""

    PNG = "png"
    JPG = "jpg"
    WEBP = "webp"


@dataclass(frozen=True)
class TranslateOptions:
    """What `python -m gmvae_drit translate` was asked for; `__main__` says what each option means."""

    sources: tuple[Path, ...]
    model: Path
    to: tuple[str, ...]
    out: Path
    grid: Path | None
    samples: int | None
    components: tuple[int, ...]
    references: tuple[Path, ...]
    interpolate: Interpolation | None
    frames: int | None
    temperature: float
    fresh_draws: bool
    size: int | None
    limit: int | None
    seed: int
    batch_size: int
    device: str
    precision: Precision
    format: Format
    skip_existing: bool
    strict: bool
