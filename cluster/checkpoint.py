"""Checkpoints: one file per checkpoint, holding all that a run needs to go on as if it had never stopped.

The room owns these files instead of handing them to Ray Train, which keeps the list of checkpoints in a JSON
file that it rewrites in place (a kill at that moment makes the run unresumable) and can only be asked inside
a worker.
"""

import logging
import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cluster.errors import RunError
from cluster.run_folder import write_atomically

logger = logging.getLogger(__name__)

FORMAT = 1


@dataclass(frozen=True)
class Identity:
    """What a checkpoint must share with the run that loads it."""

    model: dict[str, Any]
    """`ModelSettings.model_dump(mode="json")`."""
    data: dict[str, Any]
    """Digest of the manifest and what else decides the order of samples."""
    seed: int


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after ``step`` steps."""

    step: int
    total_steps: int
    """Length of the run it belongs to, to which schedules stretch."""
    skipped: int
    """Steps so far whose gradient was not finite."""
    identity: Identity
    model: dict[str, Any]
    optimizers: dict[str, dict[str, Any]]


def path_of(folder: Path, step: int) -> Path:
    """The file of the checkpoint after ``step`` steps."""
    return folder / f"step-{step:08d}.pt"


def newest_first(folder: Path) -> list[Path]:
    """Complete checkpoints."""
    return sorted(folder.glob("step-*.pt"), reverse=True)


def step_of(path: Path) -> int:
    """The number of steps in a checkpoint's name."""
    return int(path.stem.removeprefix("step-"))


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint, then delete all but the ``keep`` newest."""
    path = path_of(folder, checkpoint.step)
    content = {**vars(checkpoint), "identity": asdict(checkpoint.identity), "format": FORMAT}
    write_atomically(path, lambda file: torch.save(content, file))
    for old in newest_first(folder)[keep:]:
        old.unlink()
    return path


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU, without unpickling foreign objects."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("format") != FORMAT:
            raise RunError(f"{path}: written by another version of gmvae-drit")
        return Checkpoint(**{**content, "identity": Identity(**content["identity"])})
    except (
        OSError,
        RuntimeError,
        EOFError,
        KeyError,
        TypeError,
        AttributeError,
        pickle.UnpicklingError,
    ) as error:
        raise RunError(f"{path}: not a readable checkpoint") from error


def find_newest(folder: Path) -> tuple[Path, Checkpoint] | None:
    """The newest checkpoint that can be read; None where there is none at all.

    One that cannot be read is passed over with a warning; if none is left, starting anew would hide the loss.
    """
    paths = newest_first(folder)
    for path in paths:
        try:
            return path, load(path)
        except RunError as error:
            logger.warning("%s; going back to the one before", error)
    if paths:
        raise RunError(
            f"{folder}: no checkpoint of {len(paths)} can be read; restore one or use a new run.name"
        )
    return None


def check_identity(path: Path, saved: Identity, wanted: Identity) -> None:
    """Raise one line naming what differs between a checkpoint and the run that wants it."""
    changes = differences(asdict(saved), asdict(wanted))
    if changes:
        raise RunError(f"{path}: belongs to another run: {'; '.join(changes)}")


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``model.mixture.components was 4, is 6`` for each leaf that differs."""
    lines = []
    for key in {**saved, **wanted}:
        was, now = saved.get(key), wanted.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            lines += differences(was, now, f"{prefix}{key}.")
        elif was != now:
            lines.append(f"{prefix}{key} was {was}, is {now}")
    return lines


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left half-written."""
    for part in folder.glob(".*.part"):
        os.unlink(part)
