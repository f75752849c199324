"""Is a data set what its manifest says? Nothing is changed by looking.

Each file is read once, in pieces, several files at a time. The deep check looks at every sample on the way.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from data_shards.ahead import in_order
from data_shards.errors import DataError, Missing
from data_shards.index import COLUMNS, SampleIndex
from data_shards.manifest import FILE_NAME, File, Manifest, Split
from data_shards.members import Rows, Tape, member_faults
from data_shards.reader import READS
from data_shards.store import WORKSPACE, LocalStore, Store

FILES = 8  # checked at once, so that waiting for S3 does not add up
TOLD = 20  # faults within one shard; a shard that is torn to pieces has thousands

REPLACE = "restore it from a copy or build again"

Watch = Callable[[int], None]
"""Is told how many bytes more have been read; from several threads."""


@dataclass(frozen=True)
class Fault:
    """What is wrong, where, and what to do about it."""

    text: str


@dataclass(frozen=True)
class OtherEtag:
    """A file whose content is as it was built, with another ETag here than in the manifest."""

    file: File
    etag: str | None
    """The one it has here; None in a store that has no ETags."""

    @property
    def stops_readers(self) -> bool:
        """Whether reading fails: it insists on the ETag where the manifest and the store both have one."""
        return self.file.etag is not None and self.etag is not None


Finding = Fault | OtherEtag


@dataclass(frozen=True)
class _Job:
    """A file to be checked."""

    file: File
    rows: Rows | None = None
    """What to find in it, if it is a shard and samples are to be checked."""
    complaints: Sequence[str] = ()
    """What to say of it if it is as it was built."""


def findings(
    store: Store, manifest: Manifest, *, deep: bool, watch: Watch = lambda _: None
) -> Iterator[Finding]:
    """What is not as it was built: length, SHA-256 and ETag of every file; with ``deep``, every sample too."""
    stopped = threading.Event()

    def read(length: int) -> None:
        if stopped.is_set():
            raise DataError("stopped")
        watch(length)

    with ThreadPoolExecutor(FILES, thread_name_prefix="data_shards") as pool:
        try:
            for found in in_order(
                pool, lambda job: _check(store, job, read), _jobs(store, manifest, deep), ahead=FILES
            ):
                yield from found
        except KeyboardInterrupt:
            store.close()  # or the pool would wait for requests that are tried again and again
            raise
        finally:
            stopped.set()


def notes(store: Store, manifest: Manifest) -> Iterator[str]:
    """What lies in the store beside the data set, and does no harm."""
    named = {FILE_NAME, *(file.path for file in manifest.files())}
    try:
        others = sorted(
            (entry for entry in store.list() if entry.path not in named), key=lambda one: one.path
        )
    except DataError as error:
        yield f"what else lies there is unknown: {error}"
        return
    strangers = [entry for entry in others if not entry.path.startswith(f"{WORKSPACE}/")]
    if unfinished := len(others) - len(strangers):
        yield (
            f"{store.uri}/{WORKSPACE}/ holds {unfinished} files of a build that is under way or was "
            f"interrupted: the same build command uses or removes them"
        )
    if strangers:
        size = sum(entry.size for entry in strangers) / 2**20
        shown = ", ".join(entry.path for entry in strangers[:3]) + (", ..." if len(strangers) > 3 else "")
        advice = "may be of that build" if unfinished else "may be removed"
        yield f"{len(strangers)} files, {size:,.1f} MiB, are not of this data set and {advice}: {shown}"


def other_etags(store: Store, found: Sequence[OtherEtag]) -> tuple[str | None, str | None]:
    """(fault, note) that sum up files with other ETags: a data set that was copied has nothing but such."""
    remedy = "`python -m data_shards verify URI --deep --update-etags`"
    stopping = [one for one in found if one.stops_readers]
    fault = note = None
    if stopping:
        fault = (
            f"{store.uri}/{stopping[0].file.path}"
            + (f" and {len(stopping) - 1} more files" if len(stopping) > 1 else "")
            + f": other ETags than in the manifest, so that reading fails, though their contents are as built; "
            f"if the data set was copied here, run {remedy}"
        )
    if rest := len(found) - len(stopping):
        note = (
            f"the manifest has other ETags than this store for {rest} files, because the data set was copied; it can "
            f"be read, and {remedy} takes over those of this store"
        )
    return fault, note


def update_etags(store: Store, manifest: Manifest, found: Sequence[OtherEtag]) -> None:
    """Write the manifest anew with the ETags that the files have here."""
    etags = {one.file.path: one.etag for one in found}

    def updated(file: File) -> File:
        return file.model_copy(update={"etag": etags.get(file.path, file.etag)})

    domains = {
        domain: {
            name: split.model_copy(
                update={"shards": tuple(map(updated, split.shards)), "index": updated(split.index)}
            )
            for name, split in splits.items()
        }
        for domain, splits in manifest.domains.items()
    }
    if Manifest.read(store).model_dump() != manifest.model_dump():
        raise DataError(f"{store.uri} was built again in the meantime: nothing was changed, verify it again")
    manifest.model_copy(update={"domains": domains}).write(store)


def _jobs(store: Store, manifest: Manifest, deep: bool) -> Iterator[_Job]:
    for split in (split for splits in manifest.domains.values() for split in splits.values()):
        rows: Sequence[Rows | None] = [None] * len(split.shards)
        complaints: Sequence[str] = ()
        if deep:
            try:
                rows, complaints = _rows(store, split)
            except DataError as error:
                complaints = [f"{error}; its samples were not checked"]
        yield _Job(split.index, complaints=complaints)
        yield from (_Job(shard, part) for shard, part in zip(split.shards, rows, strict=True))


def _rows(store: Store, split: Split) -> tuple[list[Rows], list[str]]:
    """The rows of each shard, and what is wrong with them as a whole."""
    copied = split.model_copy(update={"index": split.index.model_copy(update={"etag": None})})
    index = SampleIndex(store, copied)
    keys = index.keys()
    columns = index.numbers(*(name for name in COLUMNS if name != "key"))
    ends = np.cumsum([shard.count for shard in split.shards]).tolist()
    rows = [
        Rows(keys[first:end], *(column[first:end] for column in columns))
        for first, end in pairwise([0, *ends])
    ]
    repeated = {key for key, following in pairwise(sorted(keys)) if key == following}
    where = f"{store.uri}/{split.index.path}"
    return rows, [
        f"{where}: {len(repeated)} keys occur twice, such as {min(repeated)}; build again"
    ] if repeated else []


def _check(store: Store, job: _Job, watch: Watch) -> list[Finding]:
    file, where = job.file, f"{store.uri}/{job.file.path}"
    try:
        entry = store.head(file.path)
        if entry.size != file.bytes:
            return [Fault(f"{where}: {entry.size} bytes instead of {file.bytes}; {REPLACE}")]
        etag = None if isinstance(store, LocalStore) else entry.version
        for _ in range(READS):
            # The ETag just seen, so that what is digested is what it names.
            tape = Tape(store, file, etag, watch)
            within = list(member_faults(job.rows, file.bytes, tape)) if job.rows else []
            if (found := tape.sha256()) == file.sha256:
                break
    except Missing:
        return [Fault(f"{where}: it is missing; {REPLACE}")]
    except DataError as error:
        return [Fault(str(error))]
    faults: list[Finding] = [Fault(f"{where}: {text}; {REPLACE}") for text in within[:TOLD]]
    if len(within) > TOLD:
        faults.append(Fault(f"{where}: {len(within) - TOLD} more faults within; {REPLACE}"))
    if found != file.sha256:
        return [
            Fault(f"{where}: its SHA-256 is {found[:12]}..., not {file.sha256[:12]}...; {REPLACE}"),
            *faults,
        ]
    faults.extend(Fault(text) for text in job.complaints)
    return faults if etag == file.etag else [OtherEtag(file, etag), *faults]
