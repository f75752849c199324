"""Which of several results is best, by one objective or by several."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from tune.config import Objective

Key = TypeVar("Key")
Values = Sequence[float]
"""One finite figure for each objective."""


def gain(objective: Objective, value: float, than: float) -> float:
    """How much better ``value`` is; negative where it is worse."""
    return than - value if objective.goal == "min" else value - than


def front(objectives: Sequence[Objective], results: Mapping[Key, Values]) -> list[Key]:
    """Those that no other beats in one objective without losing in another: the Pareto front, or all the best."""
    return [
        key for key, mine in results.items() if not any(_beats(objectives, o, mine) for o in results.values())
    ]


def by_rank_sum(
    objectives: Sequence[Objective], results: Mapping[Key, Values], among: Iterable[Values]
) -> list[Key]:
    """``results``, best first, those of the front before the others.

    Compared is the sum over objectives of how many of ``among`` are better; among equals the earlier one comes first.
    """
    among = list(among)
    best = front(objectives, results)

    def place(key: Key) -> tuple[bool, int]:
        mine = results[key]
        better = [
            gain(objective, other[index], mine[index]) > 0
            for index, objective in enumerate(objectives)
            for other in among
        ]
        return key not in best, sum(better)

    return sorted(results, key=place)


def _beats(objectives: Sequence[Objective], one: Values, other: Values) -> bool:
    gains = [gain(objective, a, b) for objective, a, b in zip(objectives, one, other, strict=True)]
    return min(gains) >= 0 and max(gains) > 0
