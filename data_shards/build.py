"""From images to a data set: shards, an index of them, and last the manifest.

The same images give the same shards under the same names (with the same version of Pillow), in one process or
in many. Whatever ends a build, the same call goes on from where it was: finished shards leave a record in
``.building/`` (`data_shards.units`). Until the manifest is written nobody sees anything of it, and a data set
that it replaces stays readable.
"""

import fcntl
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from data_shards.errors import DataError, Missing
from data_shards.manifest import FILE_NAME, Manifest, Skip
from data_shards.publish import are_there, publish, recorded, tidy
from data_shards.sources import BuildOptions, SourceImage
from data_shards.store import WORKSPACE, LocalStore, Store, open_store
from data_shards.units import Unit, in_shard_order, plan, refusal
from data_shards.workers import Job, build_units

__all__ = ["BuildOptions", "SourceImage", "build"]

logger = logging.getLogger(__name__)

MARKER = f"{WORKSPACE}/build"  # says that what lies around it is a data set to be
SHOWN = 5  # skipped files that are named at the end


def _nobody(done: int, total: int) -> None:
    pass


def build(
    images: Iterable[SourceImage],
    dest: str | Path,
    options: BuildOptions | None = None,
    *,
    source: str | Path | None = None,
    skipped: Sequence[Skip] = (),
    overwrite: bool = False,
    processes: int = 1,
    watch: Callable[[int, int], None] = _nobody,
) -> Manifest:
    """Make ``images`` a data set at ``dest``, a folder or ``s3://bucket/prefix``, and return its manifest.

    Images that are files lie in ``source``; ``skipped`` is what it holds besides. ``watch`` hears (images done,
    all images) from time to time. Nothing is done where ``dest`` is that data set already; another one there is
    replaced only if ``overwrite``.
    """
    options = options or BuildOptions()
    with closing(open_store(str(dest))) as store:
        units = list(plan(in_shard_order(images), options))
        identity = hashlib.sha256("\n".join(unit.key for unit in units).encode()).hexdigest()
        manifest = _present(store, identity, overwrite=overwrite)
        if manifest is None:
            job = Job(None if source is None else str(source), str(dest), options)
            with _kept_if_any(store), _alone(store):
                store.put(MARKER, b"")
                _build_missing(job, store, units, processes, watch)
                manifest = publish(store, units, load_size=options.resize, source=identity, skipped=skipped)
        elif options.strict:
            _check_strictly(manifest, units)
        tidy(store, manifest)
    _summarise(manifest.skipped)
    return manifest


def _check_strictly(manifest: Manifest, units: Sequence[Unit]) -> None:
    """Refuse a data set that was built without some of the images."""
    wanted = {image.origin for unit in units for image in unit.images}
    for skip in manifest.skipped:
        if skip.path in wanted:
            raise refusal(skip.path, skip.reason)


def _present(store: Store, identity: str, *, overwrite: bool) -> Manifest | None:
    """The manifest of the data set to make, if it is there and whole; refuses a place that is taken."""
    try:
        store.head(FILE_NAME)
    except Missing:
        _check_free(store)
        return None
    try:
        manifest = Manifest.read(store)
    except DataError as error:
        if overwrite:
            return None
        raise DataError(f"{error}, with --overwrite") from None
    if manifest.source == identity:
        return manifest if are_there(store, manifest.files()) else None
    if not overwrite:
        raise DataError(
            f"{store.uri} already holds a data set, of other images or options: give --overwrite to replace it"
        )
    return None


def _check_free(store: Store) -> None:
    """Refuse a place with files that are none of ours; an unfinished build is."""
    foreign = False
    try:
        for entry in store.list():
            if entry.path == MARKER:
                return
            foreign = foreign or not entry.path.startswith(f"{WORKSPACE}/")
    except Missing:
        return
    if foreign:
        raise DataError(f"{store.uri} exists and is not a data set: choose another place")


def _build_missing(
    job: Job, store: Store, units: Sequence[Unit], processes: int, watch: Callable[[int, int], None]
) -> None:
    """Build the units that have no record yet."""
    total = sum(len(unit.images) for unit in units)
    finished = recorded(store, units, strict=job.options.strict)
    missing = [unit for unit in units if unit.key not in finished]
    done = total - sum(len(unit.images) for unit in missing)
    watch(done, total)

    def advance(images: int) -> None:
        nonlocal done
        done += images
        watch(done, total)

    build_units(job, missing, min(processes, len(missing)), advance)


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Keep other builds of this machine out of ``store``."""
    try:
        store.workspace.mkdir(parents=True, exist_ok=True)
        with (store.workspace / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(
                    f"another build into {store.uri} is under way: wait for it or stop it"
                ) from None
            for left_over in store.workspace.glob("*.tar"):
                left_over.unlink(missing_ok=True)
            yield
    except OSError as error:
        raise DataError(f"cannot write {store.workspace}: {error.strerror or error}") from None


@contextmanager
def _kept_if_any(store: Store) -> Iterator[None]:
    """Say of a build that ends early that it can go on; leave no trace of one that has finished nothing."""
    root = Path(store.uri) if isinstance(store, LocalStore) else None
    existed = root is None or root.exists()
    try:
        yield
    except BaseException as error:
        if root is not None and not _has_made_anything(root):
            shutil.rmtree(root / WORKSPACE, ignore_errors=True)
            if not existed:
                with suppress(OSError):
                    root.rmdir()
            raise
        advice = "what is finished is kept: the same command goes on from there"
        if isinstance(error, DataError):
            raise DataError(f"{error} ({advice})") from None
        logger.warning(advice)
        raise


def _has_made_anything(root: Path) -> bool:
    published = (root / FILE_NAME).exists()
    shards = not published and any(path.name != WORKSPACE for path in root.glob("*"))
    return shards or any((root / WORKSPACE).glob("*.json"))


def _summarise(skipped: Sequence[Skip]) -> None:
    if skipped:
        shown = ", ".join(f"{skip.path} ({skip.reason})" for skip in skipped[:SHOWN])
        more = ", ..." if len(skipped) > SHOWN else ""
        logger.warning("skipped %d (all in the manifest): %s%s", len(skipped), shown, more)
