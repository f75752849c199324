"""What rows and moments of runs say, and Markdown of it. Pure: no run is started here."""

import statistics
from collections.abc import Mapping, Sequence

from cluster.notes import Row

Moments = Mapping[str, float]
"""When something was reached, by its name, in order; the first is where the clock starts."""


def step_seconds(rows: Sequence[Row], warm_up: int) -> float:
    """Mean time of a step after the row of step ``warm_up``."""
    first = next(row for row in rows if row["step"] >= warm_up)
    return float((rows[-1]["seconds"] - first["seconds"]) / (rows[-1]["step"] - first["step"]))


def images_side_by_side(runs: Sequence[Sequence[Row]], warm_up: int) -> float:
    """Images per second of runs together, of each the median of the rows that lie within the time of all."""
    begin = max(next(row["seconds"] for row in rows if row["step"] >= warm_up) for rows in runs)
    end = min(rows[-1]["seconds"] for rows in runs)
    within = [[row["images_per_second"] for row in rows if begin < row["seconds"] <= end] for rows in runs]
    return sum(statistics.median(speeds) for speeds in within)


def ratios(values: Sequence[float], against: Sequence[float]) -> list[float]:
    """Of neighbours."""
    return [x / y for x, y in zip(values, against, strict=True)]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """``median (min to max)``."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, ["---"] * len(heads), *lines])


def against(
    what: str,
    measured: Mapping[str, Sequence[float]],
    pairs: Mapping[str, tuple[str, str, str]],
    digits: int = 4,
) -> str:
    """Two tables: each series by itself, in ``what``; then ratios of two of them, with what is aimed at."""
    own = [[name, spread(values, digits)] for name, values in measured.items()]
    compared = [
        [name, spread(ratios(measured[first], measured[second])), aim]
        for name, (first, second, aim) in pairs.items()
    ]
    heads = ["ratio of neighbours", "median (min to max)", "aim"]
    return f"{table(['', what], own)}\n\n{table(heads, compared)}"


def split(moments: Moments) -> dict[str, float]:
    """Seconds from each moment to the next, by the name of the one that ends them; and ``in all``."""
    times = list(moments.values())
    parts = {
        name: later - earlier
        for name, later, earlier in zip(list(moments)[1:], times[1:], times, strict=False)
    }
    return {**parts, "in all": times[-1] - times[0]}


def times_table(rounds: Sequence[Moments], aim: str) -> str:
    """The parts of several rounds, and the whole."""
    parts = [split(moments) for moments in rounds]
    lines = [[name, spread([each[name] for each in parts], 1), ""] for name in parts[0]]
    lines[-1][2] = aim
    return table(["until", "seconds, median (min to max)", "aim"], lines)
