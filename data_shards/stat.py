"""What a data set holds, as a table and as sheets of its pictures."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from rich.table import Table

from data_shards.augment import CentreWindow, Pixels
from data_shards.errors import DataError
from data_shards.index import SampleIndex
from data_shards.manifest import Manifest, Split
from data_shards.reader import SplitReader
from data_shards.store import Store

SHEET_COLUMNS, SHEET_ROWS, TILE = 10, 6, 96  # pixels
REASONS = 3  # why files were left out, the most frequent ones


def table(store: Store, manifest: Manifest) -> Table:
    """One row per split of each domain."""
    made = Table(box=None)
    made.add_column("domain", overflow="fold")
    made.add_column("split", overflow="fold")
    for name in ("samples", "shards", "MiB", "KB/image", "pixels", "load size"):
        made.add_column(name, justify="right")
    for domain, splits in sorted(manifest.domains.items()):
        for name, split in sorted(splits.items()):
            size, width, height = SampleIndex(store, split).numbers("size", "width", "height")
            made.add_row(
                domain,
                name,
                f"{split.count:,}",
                f"{len(split.shards):,}",
                f"{split.bytes / 2**20:,.1f}",
                f"{size.mean() / 1000:,.1f}",
                _extent(width.min(), width.max(), height.min(), height.max()),
                str(manifest.load_size or "kept"),
            )
    return made


def remarks(manifest: Manifest) -> Iterator[str]:
    """What the table does not say."""
    yield f"digest {manifest.digest}"
    if manifest.skipped:
        reasons = Counter(skip.reason for skip in manifest.skipped).most_common()
        shown = "; ".join(f"{count:,} x {reason}" for reason, count in reasons[:REASONS])
        more = f"; {len(reasons) - REASONS} more reasons" if len(reasons) > REASONS else ""
        yield f"{len(manifest.skipped):,} files of the source were left out: {shown}{more}"


def write_sheets(store: Store, manifest: Manifest, folder: Path) -> Iterator[Path]:
    """Draw ``DOMAIN.png`` for each domain, from its training split if it has one; yields what was written."""
    for domain, splits in sorted(manifest.domains.items()):
        if Path(domain).name != domain:
            raise DataError(f"domain {domain!r} cannot name a file of {folder}")
        path = folder / f"{domain}.png"
        picture = sheet(store, splits.get("train") or splits[min(splits)])
        _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded.tobytes())
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror or error}") from None
        yield path


def sheet(store: Store, split: Split) -> Pixels:
    """(H, W, 3): samples spread evenly over the split, their central squares as tiles."""
    reader = SplitReader(store, split)
    count = min(len(reader), SHEET_COLUMNS * SHEET_ROWS)
    columns = min(count, SHEET_COLUMNS)
    drawn = np.full((-(-count // columns) * TILE, columns * TILE, 3), 255, dtype=np.uint8)
    for place, index in enumerate(np.linspace(0, len(reader) - 1, count).astype(np.int64).tolist()):
        image_HWC = reader.pixels(index, reader.images([index])[0])
        height, width, _ = image_HWC.shape
        side = min(height, width)
        square = CentreWindow(side)(0, 0, index, height, width).cut(image_HWC)
        way = cv2.INTER_AREA if side > TILE else cv2.INTER_NEAREST
        top, left = place // columns * TILE, place % columns * TILE
        drawn[top : top + TILE, left : left + TILE] = cv2.resize(square, (TILE, TILE), interpolation=way)
    return drawn


def _extent(min_width: int, max_width: int, min_height: int, max_height: int) -> str:
    if (min_width, min_height) == (max_width, max_height):
        return f"{min_width}x{min_height}"
    return f"{_span(min_width, max_width)} x {_span(min_height, max_height)}"


def _span(least: int, most: int) -> str:
    return str(least) if least == most else f"{least}-{most}"
