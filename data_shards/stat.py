"""What a data set holds, as a table and as a sheet of its pictures."""

from PIL import Image
from rich.table import Table

from data_shards.build import resize_short_side
from data_shards.manifest import Manifest
from data_shards.reader import SplitReader, decode
from data_shards.store import Store

SHEET_COLUMNS, SHEET_ROWS = 12, 4


def table(manifest: Manifest) -> Table:
    """One row per split of each domain."""
    made = Table("domain", "split", box=None)
    for name in ("samples", "shards", "MiB", "pixels"):
        made.add_column(name, justify="right")
    for domain, splits in sorted(manifest.domains.items()):
        for split, shards in sorted(splits.items()):
            sizes = sorted({size for shard in shards for size in zip(shard.width, shard.height, strict=True)})
            pixels = f"{sizes[0][0]}x{sizes[0][1]}" if len(sizes) == 1 else f"{len(sizes)} sizes"
            samples, mebibytes = (
                sum(shard.count for shard in shards),
                sum(shard.bytes for shard in shards) / 2**20,
            )
            made.add_row(domain, split, f"{samples:,}", str(len(shards)), f"{mebibytes:,.1f}", pixels)
    return made


def sheet(store: Store, manifest: Manifest, tile: int = 64) -> Image.Image:
    """A few rows of the first samples of each domain, the domains below each other in the order of their names."""
    rows = [Image.new("RGB", (SHEET_COLUMNS * tile, SHEET_ROWS * tile), "white") for _ in manifest.domains]
    for row, (_, splits) in zip(rows, sorted(manifest.domains.items()), strict=True):
        reader = SplitReader(store, splits.get("train") or next(iter(splits.values())))
        indices = range(min(len(reader), SHEET_COLUMNS * SHEET_ROWS))
        for index, data in zip(indices, reader.images(indices), strict=True):
            picture = resize_short_side(Image.fromarray(decode(data, reader.describe(index))), tile)
            left, top = (picture.width - tile) // 2, (picture.height - tile) // 2
            corner = (index % SHEET_COLUMNS * tile, index // SHEET_COLUMNS * tile)
            row.paste(picture.crop((left, top, left + tile, top + tile)), corner)
    gap = tile // 8
    whole = Image.new("RGB", (rows[0].width, sum(row.height + gap for row in rows) - gap), "white")
    for place, row in enumerate(rows):
        whole.paste(row, (0, place * (row.height + gap)))
    return whole
