"""What stands at the top of the page: how far the sweep is, what it found, what deserves a look."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.report.read import SILENT_AFTER_SECONDS
from cluster.report.scale import number
from cluster.report.summary import Tile, clock, duration
from tune.config import Sweep
from tune.report.best import DIGITS, Best, against, signed, spread
from tune.report.confirmation import BETTER, Comparison, Confirmed, compare
from tune.report.results import STATES, Result

EDGE = 0.02
"""Part of a parameter's range next to its ends in which the best value suggests a wider range."""


@dataclass(frozen=True)
class Head:
    """The top of the page."""

    state: Literal["running", "stopped", "finished"]
    words: str
    progress: str
    done: float
    """In [0, 1]."""
    when: str
    tiles: list[Tile]
    findings: list[str]


@dataclass(frozen=True)
class Line:
    """One configuration in a table of confirmation."""

    name: str
    seeds: str
    figure: str
    comparison: Comparison | None
    """None for the base itself, and where a side has no completed run."""
    difference: str
    p: str
    is_better: bool


def head(
    sweep: Sweep, results: Sequence[Result], best: Best | None, seconds: float | None, now: float
) -> Head:
    """``seconds`` is the wall time of the sweep, as far as known."""
    ended = sum(result.state in ("complete", "pruned", "failed") for result in results)
    alive = any(
        result.heard is not None and now - result.heard < SILENT_AFTER_SECONDS
        for result in results
        if result.state == "running"
    )
    state: Literal["running", "stopped", "finished"] = (
        "running" if alive else "finished" if ended >= sweep.budget.trials else "stopped"
    )
    words = {"running": "running", "stopped": "not at its end", "finished": "finished"}[state]
    heard = max((result.heard for result in results if result.heard), default=None)
    last = [f"last sign of life {clock(heard)}"] if heard and state == "stopped" else []
    return Head(
        state,
        words,
        f"{ended} of {sweep.budget.trials} trials",
        min(1.0, ended / sweep.budget.trials),
        " · ".join([*last, f"page written {clock(now)}"]),
        [*_counts(results, seconds), *_figures(sweep, results, best)],
        _findings(sweep, results, best),
    )


def confirmation_tables(sweep: Sweep, confirmed: Sequence[Confirmed]) -> list[tuple[str, list[Line]]]:
    """A table for each objective: its metric, and a line for each configuration."""
    return [
        (objective.metric, [_line(sweep, index, each, confirmed) for each in confirmed])
        for index, objective in enumerate(sweep.objectives)
    ]


def failures(results: Sequence[Result]) -> list[tuple[str, list[int]]]:
    """Each reason and the trials that failed for it, the most frequent first."""
    reasons: dict[str, list[int]] = {}
    for result in results:
        if result.state == "failed":
            reasons.setdefault(result.reason or "no reason recorded", []).append(result.number)
    return sorted(reasons.items(), key=lambda item: -len(item[1]))


def _counts(results: Sequence[Result], seconds: float | None) -> list[Tile]:
    counts = Counter(result.state for result in results)
    words = {"pruned": "ended early"}
    tiles = [Tile(words.get(s, s), str(counts[s])) for s in STATES.values() if counts[s] or s == "complete"]
    trained = sum(result.seconds or 0.0 for result in results)
    if seconds is not None:
        tiles.append(Tile("wall time", duration(seconds), f"trials: {duration(trained)}"))
    elif trained:
        tiles.append(Tile("training", duration(trained), "all trials"))
    return tiles


def _figures(sweep: Sweep, results: Sequence[Result], best: Best | None) -> list[Tile]:
    default = next((result.values for result in results if result.is_default), None)
    tiles = []
    for index, objective in enumerate(sweep.objectives):
        value = best.result.values[index] if best and best.result.values else None
        if value is not None and best is not None:
            note = f"trial {best.result.number}, of the search"
            tiles.append(Tile(f"best {objective.metric}", number(value, DIGITS), note))
        if default is not None:
            note = "" if value is None else against(objective, value, default[index])
            note = note and ("the same is best" if note == "the same" else f"best: {note}")
            tiles.append(Tile(f"{objective.metric} of the base", number(default[index], DIGITS), note))
    return tiles


def _findings(sweep: Sweep, results: Sequence[Result], best: Best | None) -> list[str]:
    found = []
    ended = [result for result in results if result.state in ("complete", "pruned", "failed")]
    default = next((result for result in results if result.is_default), None)
    if default is None or (default in ended and default.values is None):
        found.append("The base's own settings did not come to their end: there is nothing to compare with.")
    if best and best.result.is_default and len(ended) > 1:
        found.append("Nothing beat the base's own settings.")
    elif best and best.confirmed is None and len(ended) > 1:
        found.append(
            "The best of many trials looks better than it is: confirm it with fresh seeds before you trust it."
        )
    if best and not best.result.is_default:
        found += [
            f"{path} of the best trial lies at the end of its range: a wider one may hold better."
            for path in _at_an_end(sweep, best.result)
        ]
    failed = sum(result.state == "failed" for result in ended)
    if failed * 4 > len(ended):
        found.append(f"{failed} of {len(ended)} trials failed; see Failures.")
    return found


def _at_an_end(sweep: Sweep, result: Result) -> list[str]:
    paths = []
    for path, value in result.params.items():
        parameter = sweep.space.get(path)
        if parameter is None or parameter.choice is not None or parameter.int is not None:
            continue
        low, high = parameter.bounds
        if parameter.loguniform is not None:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low)
        if not EDGE < share < 1 - EDGE:
            paths.append(path)
    return paths


def _line(sweep: Sweep, index: int, each: Confirmed, confirmed: Sequence[Confirmed]) -> Line:
    sample = each.samples[index]
    base = next((other.samples[index] for other in confirmed if other.result.is_default), None)
    comparison = None
    if base and base.values and sample.values and not each.result.is_default:
        comparison = compare(sweep.objectives[index], sample, base)
    return Line(
        "the base" if each.result.is_default else f"trial {each.result.number}",
        f"{each.seeds} of {each.begun}" if each.seeds < each.begun else str(each.seeds),
        spread(sample.mean, sample.sd) if sample.values else "-",
        comparison,
        signed(comparison.difference) if comparison else "",
        "" if comparison is None else "-" if comparison.p is None else number(comparison.p, 2),
        comparison is not None and comparison.verdict == BETTER,
    )
