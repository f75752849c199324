"""The checkpoints of a run in its storage: whole, checked, and never lost while a better one is on its way.

One is two files: its tensors (safetensors, named by their content) and an index with size and SHA-256 of them,
written last. Without its index a checkpoint does not exist, so a cut-off save is as if it had never begun.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file

from cluster.checkpoint import Checkpoint, Identity
from cluster.errors import RunError
from cluster.run_folder import RunFolder
from data_shards.errors import DataError

logger = logging.getLogger(__name__)

FOLDER = "checkpoints"
FORMAT = 2
Wanted = Literal["lowest", "highest"]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Index:
    """What is known of a checkpoint without its tensors."""

    step: int
    total_steps: int
    skipped: int
    identity: Identity
    metrics: dict[str, float]
    file: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """Of this index in the storage."""
        return index_name(self.step)


def index_name(step: int) -> str:
    """The file whose presence is the checkpoint after ``step`` steps."""
    return f"{FOLDER}/step-{step:08d}.json"


class Checkpoints:
    """Those of one run. One process writes, any may read."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._store = folder, folder.store

    def steps(self) -> list[int]:
        """Of the complete checkpoints, the newest first."""
        return _steps_of(self._files(), ".json")

    def newest_index(self) -> Index | None:
        """Of the newest checkpoint whose index can be read; None where there is none at all."""
        return self._first_whole(self.steps(), self.index)

    def newest(self) -> Checkpoint | None:
        """The newest one that is as it was written; None where there is none at all.

        What is damaged or cut off is passed over with a warning; if none is left, starting anew would hide the loss.
        """
        files = self._files()
        steps = _steps_of(files, ".json")
        cut_off = set(_steps_of(files, ".safetensors")) - set(steps)
        if cut_off and max(cut_off) > max(steps, default=0):
            logger.warning(
                "%s/%s: step %d is without its index, as a save that was cut off leaves it; going back to %s",
                *(self._folder.uri, FOLDER, max(cut_off), f"step {steps[0]}" if steps else "the beginning"),
            )
        return self._first_whole(steps, self.load)

    def index(self, step: int) -> Index:
        """Raises RunError where it is not what was written, DataError where the storage fails."""
        where = f"{self._folder.uri}/{index_name(step)}"
        try:
            content = json.loads(self._store.read(index_name(step)))
            if content["format"] != FORMAT:
                raise RunError(f"{where}: written by another version of gmvae-drit")
            digest = content.pop("digest")
            if digest != _digest(content) or content["step"] != step:
                raise RunError(f"{where}: damaged index")
            del content["format"]
            return Index(**{**content, "identity": Identity(**content["identity"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{where}: damaged index") from error

    def load(self, step: int) -> Checkpoint:
        """Read a checkpoint onto the CPU and check every byte. Raises RunError where it is not what was written."""
        index = self.index(step)
        where = f"{self._folder.uri}/{index.file}"
        try:
            content = self._store.read(index.file)
        except DataError as error:
            raise RunError(f"checkpoint of step {step}: {error}") from error
        if len(content) != index.size:
            raise RunError(f"{where}: damaged: {len(content)} bytes instead of {index.size}")
        if hashlib.sha256(content).hexdigest() != index.sha256:
            raise RunError(f"{where}: damaged: its SHA-256 is not that of the index")
        try:
            tensors = load_tensors(content)
        except SafetensorError as error:
            raise RunError(f"{where}: not a readable checkpoint: {error}") from error
        return Checkpoint(
            step, index.total_steps, index.skipped, index.identity, dict(tensors), index.metrics
        )

    def save(self, checkpoint: Checkpoint) -> Index:
        """Store a checkpoint; once this returns, it is whole in the storage. Raises DataError."""
        step = checkpoint.step
        unfinished = self._store.workspace / f"step-{step:08d}.safetensors"
        try:
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            save_file(checkpoint.tensors, unfinished)
            unfinished.chmod(0o644)
            with unfinished.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = unfinished.stat().st_size
            name = f"{FOLDER}/step-{step:08d}-{sha256[:12]}.safetensors"
            self._store.put(name, unfinished)
        except (OSError, SafetensorError) as error:
            raise DataError(f"cannot write the checkpoint of step {step}: {_cause(error)}") from error
        finally:
            unfinished.unlink(missing_ok=True)
        index = Index(
            *(step, checkpoint.total_steps, checkpoint.skipped, checkpoint.identity, checkpoint.metrics),
            *(name, size, sha256),
        )
        content: dict[str, Any] = {"format": FORMAT, **asdict(index)}
        content["digest"] = _digest(content)
        self._store.put(index.name, json.dumps(content, indent=1).encode())
        return index

    def prune(self, keep: int, metric: str | None = None, wanted: Wanted = "lowest") -> None:
        """Delete all but the ``keep`` newest, the best by ``metric``, and what belongs to no checkpoint."""
        there = self._files()
        newest = self._readable(_steps_of(there, ".json"))
        best = _best(newest, metric, wanted)
        kept = [index for place, index in enumerate(newest) if place < keep or index.step == best]
        files = {name for index in kept for name in (index.file, index.name)}
        doomed = [name for name in there if name not in files]
        for name in sorted(doomed, key=lambda name: name.endswith(".safetensors")):  # an index first
            self._store.delete(name)

    def best(self, metric: str, wanted: Wanted) -> int | None:
        """The step with the best value of a held-out metric among the checkpoints there; the earliest of equals."""
        return _best(self._readable(self.steps()), metric, wanted)

    def sweep(self) -> None:
        """Delete what a killed process left half-written on this machine."""
        for file in self._store.workspace.glob("*"):
            file.unlink(missing_ok=True)

    def _readable(self, steps: Iterable[int]) -> list[Index]:
        indexes = []
        for step in steps:
            try:
                indexes.append(self.index(step))
            except RunError as error:
                logger.warning("%s; it no longer counts", error)
        return indexes

    def _files(self) -> list[str]:
        if not self._folder.is_remote and not self._folder.checkpoints.is_dir():
            return []
        names = [entry.path for entry in self._store.list(f"{FOLDER}/")]
        return [name for name in names if PurePosixPath(name).name.startswith("step-")]

    def _first_whole(self, steps: list[int], read: Callable[[int], Found]) -> Found | None:
        for step in steps:
            try:
                return read(step)
            except RunError as error:
                logger.warning("%s; going back to the one before", error)
        if steps:
            raise RunError(
                f"{self._folder.uri}/{FOLDER}: no checkpoint of {len(steps)} can be read; restore one or use a new "
                f"run.name"
            )
        return None


def _steps_of(names: Iterable[str], suffix: str) -> list[int]:
    """Steps of the files with this suffix, the newest first."""
    stems = [PurePosixPath(name).name for name in names if name.endswith(suffix)]
    return sorted((int(stem.removeprefix("step-")[:8]) for stem in stems), reverse=True)


def _best(newest_first: list[Index], metric: str | None, wanted: Wanted) -> int | None:
    values = {i.step: i.metrics[metric] for i in reversed(newest_first) if metric in i.metrics}
    if not values:
        return None
    return (min if wanted == "lowest" else max)(values, key=lambda step: values[step])


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _cause(error: Exception) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
