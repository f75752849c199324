"""The last steps of a build: units become splits, splits a manifest, and what is left over goes."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import groupby

from data_shards.ahead import in_order
from data_shards.errors import DataError, Missing
from data_shards.index import encode_index
from data_shards.manifest import FILE_NAME, File, Manifest, Shard, Skip, Split
from data_shards.shards import key_of
from data_shards.store import WORKSPACE, Store
from data_shards.units import Record, Unit, refusal

REQUESTS = 16  # to the store at once
OURS = re.compile(r"[^/]+/[^/]+-\d{5,}-[0-9a-f]{8}\.tar|[^/]+/[^/]+-[0-9a-f]{8}\.parquet")
IN_WORK = re.compile(rf"{re.escape(WORKSPACE)}/.*", re.DOTALL)


def recorded(dest: Store, units: Sequence[Unit], *, strict: bool) -> set[str]:
    """The keys of the units that an earlier build has finished: record and shard are there.

    One that had to leave out images is an error if ``strict``.
    """
    try:
        found = {entry.path for entry in dest.list(f"{WORKSPACE}/")}
    except Missing:
        return set()

    def is_whole(unit: Unit) -> bool:
        try:
            record = Record.from_json(dest.read(unit.record))
        except (ValueError, KeyError):
            return False
        if strict and record.skipped:
            raise refusal(record.skipped[0].path, record.skipped[0].reason)
        return record.shard is None or is_there(dest, record.shard)

    candidates = [unit for unit in units if unit.record in found]
    with (
        ThreadPoolExecutor(REQUESTS) as pool,
        closing(in_order(pool, is_whole, candidates, ahead=2 * REQUESTS)) as answers,
    ):
        return {unit.key for unit, whole in zip(candidates, answers, strict=True) if whole}


def is_there(dest: Store, file: File) -> bool:
    """Whether the file is there, in its full length."""
    try:
        return dest.head(file.path).size == file.bytes
    except Missing:
        return False


def are_there(dest: Store, files: Iterable[File]) -> bool:
    """Whether all of the files are."""
    with ThreadPoolExecutor(REQUESTS) as pool:
        return all(pool.map(partial(is_there, dest), files))


def publish(
    dest: Store, units: Sequence[Unit], *, load_size: int | None, source: str, skipped: Iterable[Skip]
) -> Manifest:
    """Index the shards of finished units and write the manifest: from now on there is a data set."""
    domains: dict[str, dict[str, Split]] = {}
    left_out = list(skipped)
    for (domain, split), group in groupby(units, key=lambda unit: (unit.domain, unit.split)):
        made, skips = _split(dest, domain, split, list(group))
        left_out += skips
        domains.setdefault(domain, {})[split] = made
    left_out.sort(key=lambda skip: skip.path)
    manifest = Manifest(load_size=load_size, source=source, domains=domains, skipped=tuple(left_out))
    manifest.write(dest)
    return manifest


def _split(dest: Store, domain: str, split: str, units: Sequence[Unit]) -> tuple[Split, list[Skip]]:
    shards: list[Shard] = []
    skips: list[Skip] = []
    keys: list[str] = []
    columns: dict[str, list[int]] = {}
    with (
        ThreadPoolExecutor(REQUESTS) as pool,
        closing(in_order(pool, lambda unit: dest.read(unit.record), units, ahead=2 * REQUESTS)) as records,
    ):
        for record in map(Record.from_json, records):
            skips += record.skipped
            if record.shard is not None:
                shards.append(record.shard)
                keys += map(key_of, record.numbers)
                for name, values in record.rows.items():
                    columns.setdefault(name, []).extend(values)
    if not shards:
        raise DataError(
            f"no usable image in split {split!r} of domain {domain!r}: {skips[0].path}: {skips[0].reason}"
        )
    content = encode_index({"key": keys, **columns})
    sha256 = hashlib.sha256(content).hexdigest()
    path = f"{domain}/{split}-{sha256[:8]}.parquet"
    index = File(path=path, bytes=len(content), sha256=sha256, etag=dest.put(path, content))
    return Split(shards=tuple(shards), index=index), skips


def tidy(dest: Store, manifest: Manifest) -> None:
    """Remove what builds have left: records, files in work, and those of a data set that was replaced."""
    named = {FILE_NAME, *(file.path for file in manifest.files())}
    paths = [entry.path for entry in dest.list()]
    rest = [path for path in paths if IN_WORK.fullmatch(path) or (OURS.fullmatch(path) and path not in named)]
    with ThreadPoolExecutor(REQUESTS) as pool:
        for _ in pool.map(dest.delete, rest):
            pass
    dest.sweep(OURS)
