"""``metadata.csv`` at the root of a source: more about its images, as Hugging Face's image folders have it.

A column ``file_name`` holds paths relative to the source; each other column goes into the metadata of the
samples under its name. A column that holds nothing but integers becomes integers; an empty cell becomes null.
"""

import csv
import io
import posixpath
import re

from data_shards.errors import DataError
from data_shards.store import Store

FILE_NAME = "metadata.csv"
KEY = "file_name"
RESERVED = ("name", "width", "height")  # what the builder itself says of a sample


def read_metadata(source: Store) -> dict[str, dict[str, object]]:
    """The other columns of each row, by path of the image."""
    where = f"{source.uri}/{FILE_NAME}"
    try:
        reader = csv.DictReader(
            io.StringIO(source.read(FILE_NAME).decode("utf-8-sig"), newline=""), strict=True
        )
        header, rows = list(reader.fieldnames or ()), list(reader)
    except UnicodeDecodeError:
        raise DataError(f"{where} is not in UTF-8: convert it") from None
    except csv.Error as error:
        raise DataError(f"{where} is not a CSV file: {error}") from None
    if KEY not in header:
        raise DataError(f"{where} has no column {KEY!r}: name the images there, relative to {source.uri}")
    if len(set(header)) < len(header) or "" in header:
        raise DataError(f"{where} has columns without a name of their own: {', '.join(map(repr, header))}")
    if taken := sorted(set(header) & set(RESERVED)):
        raise DataError(f"{where} has a column {taken[0]!r}, which every sample has already: rename it")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise DataError(f"{where} has another number of cells in row {number} than in its header")
    columns = {name: _typed([row[name] for row in rows]) for name in header if name != KEY}
    described: dict[str, dict[str, object]] = {}
    for number, row in enumerate(rows):
        path = posixpath.normpath(row[KEY])
        if path in described:
            raise DataError(f"{where} has two rows for {path!r}")
        described[path] = {name: column[number] for name, column in columns.items()}
    return described


def _typed(cells: list[str]) -> list[object]:
    integers = all(not cell or _is_integer(cell) for cell in cells)
    return [(int(cell) if integers else cell) if cell else None for cell in cells]


def _is_integer(cell: str) -> bool:
    """Whether ``cell`` is how an integer of 64 bits is written; 007 is a name."""
    return re.fullmatch(r"0|-?[1-9][0-9]{0,17}", cell) is not None
