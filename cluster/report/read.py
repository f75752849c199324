"""What a run left in its folder, read into types.

Tolerant of what a kill leaves behind and of older runs: a line that is cut short is counted, not fatal, and every file
but the folder itself may be absent.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from cluster.config import Experiment, load
from cluster.errors import ConfigError, RunError
from cluster.row_parts import ENGINE_KEYS
from cluster.run_folder import PICTURES, RunFolder

FILES = (
    *("config.yaml", "environment.json", "events.jsonl", "metrics.jsonl", "previews/", "export/config.yaml"),
    *("evaluation.json", *PICTURES),
)
"""Beginnings of the names of all that is read."""

State = Literal["running", "silent", "finished", "stopped", "failed"]
SILENT_AFTER_SECONDS = 600.0
"""A run with no recorded end is taken to be running while its last sign of life is younger than this."""


@dataclass(frozen=True)
class WorkerRow:
    """One worker between two rows."""

    images_per_second: float | None
    data_wait: float | None
    memory_mib: float | None


@dataclass(frozen=True)
class Row:
    """One row of metrics; None stands for what was not finite or not recorded."""

    step: int
    seconds: float | None
    """Unix time."""
    images_per_second: float | None
    data_wait: float | None
    """Share of the time, in [0, 1]."""
    skipped: int
    """Steps skipped since the start of the run."""
    workers: tuple[WorkerRow, ...]
    shares: tuple[tuple[float, ...], ...]
    """Share of each component, a tuple for each domain; empty where the model has no components."""
    scalars: dict[str, float | None]
    """`lr/NETWORK`, `held_out/NAME` and the model's own, in its order."""


@dataclass(frozen=True)
class Event:
    """What happened to the run: start, resume, lost, warning, stop, finish or error."""

    time: float | None
    kind: str
    step: int | None
    text: str
    workers: int | None


@dataclass(frozen=True)
class Preview:
    """A picture of what the model did after `step` steps."""

    step: int
    path: Path


@dataclass(frozen=True)
class Run:
    """Everything that is known of a run."""

    name: str
    config: Experiment | None
    config_text: str | None
    """The file itself, for a configuration that this version does not understand."""
    rows: list[Row]
    """By step, each step once."""
    events: list[Event]
    previews: list[Preview]
    evaluation: dict[str, Any] | None
    pictures: list[Path]
    """Of the evaluation."""
    environment: dict[str, str]
    unreadable: int
    """Lines that are not JSON, most likely cut short by a kill."""
    domains: list[str]
    """As far as the configuration or the export names them."""
    exported: bool
    touched: float | None
    """Unix time of the last change to the rows, for runs that do not record it."""

    @property
    def total(self) -> int | None:
        """Steps that the run shall take."""
        return self.config.train.steps if self.config else None

    @property
    def step(self) -> int:
        """Steps taken, by the last row."""
        return self.rows[-1].step if self.rows else 0

    @property
    def last_sign(self) -> float | None:
        """Unix time of the last row or event."""
        times = [row.seconds for row in self.rows[-1:]] + [event.time for event in self.events[-1:]]
        return max((time for time in times if time is not None), default=self.touched)

    def state(self, now: float) -> State:
        """What became of it: by its events, else by its export, else by how long nothing was heard."""
        ends: dict[str, State] = {"finish": "finished", "stop": "stopped", "error": "failed"}
        turns = [event.kind for event in self.events if event.kind in {*ends, "start", "resume"}]
        if turns and turns[-1] in ends:
            return ends[turns[-1]]
        if not turns and self.exported and self.step == self.total:
            return "finished"
        return "running" if self.last_sign and now - self.last_sign < SILENT_AFTER_SECONDS else "silent"


def read_run(root: Path) -> Run:
    """Read the folder of a run. Raises RunError where there is none."""
    folder = RunFolder(str(root.parent), root.name)
    if not folder.config.exists() and not folder.metrics.exists():
        raise RunError(
            f"{root}: not the folder of a run (neither {folder.config.name} nor {folder.metrics.name} in it)"
        )
    config, text = _config(folder.config)
    row_lines, bad_rows = _json_lines(folder.metrics, lambda line: isinstance(line.get("step"), int))
    event_lines, bad_events = _json_lines(root / "events.jsonl", lambda line: "kind" in line)
    rows = {row.step: row for row in map(_row, row_lines)}
    return Run(
        name=config.run.name if config else root.resolve().name,
        config=config,
        config_text=text,
        rows=[rows[step] for step in sorted(rows)],
        events=[_event(line) for line in event_lines],
        previews=sorted(_previews(folder.previews), key=lambda preview: preview.step),
        evaluation=_json_object(root / "evaluation.json"),
        pictures=[root / name for name in PICTURES if (root / name).exists()],
        environment=_json_object(root / "environment.json") or {},
        unreadable=bad_rows + bad_events,
        domains=_domains(config, folder.export / "config.yaml"),
        exported=(folder.export / "config.yaml").exists(),
        touched=folder.metrics.stat().st_mtime if folder.metrics.exists() else None,
    )


def _config(path: Path) -> tuple[Experiment | None, str | None]:
    if not path.exists():
        return None, None
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return load(path), text
    except ConfigError:  # of an older or newer version: shown as it is
        return None, text


def _domains(config: Experiment | None, export: Path) -> list[str]:
    """A configuration need not name them; an export does."""
    if config and config.data.domains:
        return list(config.data.domains)
    if not export.exists():
        return []
    exported = yaml.safe_load(export.read_text(encoding="utf-8"))
    return [str(name) for name in exported.get("domains", ())]


def _json_lines(path: Path, fits: Callable[[dict[str, Any]], bool]) -> tuple[list[dict[str, Any]], int]:
    """The objects that `fits` accepts in a file of JSON lines, and the number of other lines."""
    if not path.exists():
        return [], 0
    objects, bad = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line, parse_constant=lambda _: None)
        except ValueError:
            value = None
        if isinstance(value, dict) and fits(value):
            objects.append(value)
        else:
            bad += 1
    return objects, bad


def _json_object(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path}: not JSON ({error}); delete it or write it anew") from error
    return value if isinstance(value, dict) else None


def _row(line: dict[str, Any]) -> Row:
    scalars = {k: v for k, v in line.items() if k not in ENGINE_KEYS and not isinstance(v, list)}
    workers = line.get("workers") or []
    return Row(
        step=int(line["step"]),
        seconds=line.get("seconds"),
        images_per_second=line.get("images_per_second"),
        data_wait=line.get("data_wait"),
        skipped=line.get("skipped") or 0,
        workers=tuple(
            WorkerRow(w.get("images_per_second"), w.get("data_wait"), w.get("memory_mib")) for w in workers
        ),
        shares=_shares(line),
        scalars={k: v for k, v in scalars.items() if v is None or isinstance(v, int | float)},
    )


def _shares(line: dict[str, Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(share or 0) for share in domain) for domain in line.get("components", ()))


def _event(line: dict[str, Any]) -> Event:
    return Event(
        time=line.get("time"),
        kind=str(line.get("kind", "")),
        step=line.get("step"),
        text=str(line.get("text", "")),
        workers=line.get("workers"),
    )


def _previews(folder: Path) -> Iterator[Preview]:
    for path in folder.glob("step-*.png"):
        if match := re.fullmatch(r"step-(\d+)\.png", path.name):
            yield Preview(int(match[1]), path)


def domain_names(run: Run) -> list[str]:
    """Names of the domains whose shares the rows hold, numbers where they are not known."""
    count = max((len(row.shares) for row in run.rows), default=0)
    return run.domains if len(run.domains) == count else [f"domain {index}" for index in range(count)]
