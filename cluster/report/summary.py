"""What stands at the top of the page: how the run is, its main figures, and what deserves a look."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from cluster.report.read import Row, Run, State, domain_names
from cluster.report.scale import number

STATE_WORDS: dict[State, str] = {
    "running": "running",
    "silent": "no end recorded",
    "finished": "finished",
    "stopped": "stopped",
    "failed": "failed",
}
SLOW_DATA = 0.2
"""Share of the time spent waiting for data from which on the loader holds the run up."""
UNUSED = 0.1
"""A component with less than this part of its equal share is as good as unused."""


@dataclass(frozen=True)
class Tile:
    """A main figure."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Summary:
    """The top of the page."""

    state: State
    words: str
    progress: str
    """Steps done of all."""
    done: float | None
    """In [0, 1]."""
    when: str
    reason: str
    """Why it ended, where it failed or was stopped."""
    tiles: list[Tile]
    findings: list[str]


def summarize(run: Run, now: float) -> Summary:
    """What a person wants to know first."""
    state, total = run.state(now), run.total
    progress = f"step {run.step:,}" + (f" of {total:,}" if total else "")
    ends = [event.text for event in run.events if event.kind in ("error", "stop")]
    reason = ends[-1] if state in ("failed", "stopped") else ""
    done = min(1.0, run.step / total) if total else None
    return Summary(
        state, STATE_WORDS[state], progress, done, _when(run, state, now), reason, _tiles(run), findings(run)
    )


def clock(seconds: float | None) -> str:
    """A Unix time for people."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def duration(seconds: float) -> str:
    """The two largest units of a length of time."""
    seconds = round(seconds)
    for size, unit, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{seconds} s"


def _begin(run: Run) -> float | None:
    times = [event.time for event in run.events[:1]] + [row.seconds for row in run.rows[:1]]
    return min((time for time in times if time is not None), default=None)


def _when(run: Run, state: State, now: float) -> str:
    begin, last = _begin(run), run.last_sign
    words = [f"started {clock(begin)}"] if begin is not None else []
    if last is not None:
        words.append(f"last sign of life {clock(last)}" if state == "silent" else f"last row {clock(last)}")
        if state == "finished":
            words[-1] = f"finished {clock(last)}"
    if state == "running" and (left := _left(run)) is not None:
        words.append(f"about {duration(left)} to go")
    return " · ".join([*words, f"page written {clock(now)}"])


def _left(run: Run) -> float | None:
    """Seconds to the end at the median pace of the newest rows."""
    recent = [row for row in run.rows[-40:] if row.seconds is not None]
    paces = [
        (b.seconds - a.seconds) / (b.step - a.step)
        for a, b in pairwise(recent)
        if a.seconds is not None and b.seconds is not None
    ]
    return statistics.median(paces) * (run.total - run.step) if paces and run.total else None


def _tiles(run: Run) -> list[Tile]:
    tiles = []
    begin, last = _begin(run), run.last_sign
    if begin is not None and last is not None:
        tiles.append(Tile("elapsed", duration(last - begin), "pauses included"))
    speeds = [row.images_per_second for row in run.rows if row.images_per_second is not None]
    if speeds:
        tiles.append(Tile("images/s", number(statistics.median(speeds)), "median"))
    if waits := _waits(run.rows):
        tiles.append(Tile("waiting for data", f"{100 * statistics.median(waits):.2g}%", "median"))
    if run.config:
        scaling = run.config.scaling
        tiles.append(Tile("workers", str(scaling.workers), "on GPUs" if scaling.use_gpu else "on CPUs"))
    if run.events:
        kinds = [event.kind for event in run.events]
        resumes = kinds.count("resume")
        note = f"{resumes} resume{'' if resumes == 1 else 's'}"
        tiles.append(Tile("workers lost", str(kinds.count("lost")), note))
    for name in _held_out_names(run.rows)[:3]:
        values = [(row.scalars[name], row.step) for row in run.rows if name in row.scalars]
        last_value, step = values[-1]
        tiles.append(Tile(name.removeprefix("held_out/"), number(last_value), f"held out, step {step:,}"))
    return tiles


def _held_out_names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.scalars if name.startswith("held_out/")))


def _waits(rows: Sequence[Row]) -> list[float]:
    return [row.data_wait for row in rows if row.data_wait is not None]


def findings(run: Run) -> list[str]:
    """What a careful reader of the curves would point at."""
    found = []
    lost: dict[str, list[int]] = {}
    for row in run.rows:
        for name in (name for name, value in row.scalars.items() if value is None):
            lost.setdefault(name, []).append(row.step)
    found += [
        f"{name} was not finite in {len(steps)} row{'s' * (len(steps) > 1)}, first at step {steps[0]:,}."
        for name, steps in lost.items()
    ]
    if run.rows and (skipped := run.rows[-1].skipped):
        found.append(f"{skipped:,} step{'s' * (skipped > 1)} skipped for an infinite or NaN gradient.")
    if (waits := _waits(run.rows)) and (wait := statistics.median(waits)) > SLOW_DATA:
        found.append(f"Workers wait for data {100 * wait:.0f}% of the time: the loader holds the run up.")
    found += _unused(run)
    if run.unreadable:
        found.append(f"{run.unreadable} unreadable line{'s' * (run.unreadable > 1)} left out of the figures.")
    return found


def _unused(run: Run) -> list[str]:
    newest = next((row.shares for row in reversed(run.rows) if row.shares), ())
    found = []
    for name, shares in zip(domain_names(run), newest, strict=False):
        idle = [f"{k}" for k, share in enumerate(shares) if share < UNUSED / len(shares)]
        if idle:
            found.append(f"{name}: component{'s' * (len(idle) > 1)} {', '.join(idle)} hardly used.")
    return found
