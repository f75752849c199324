"""Short names for charts and tables: of parameters their last dotted part, of choices their beginning."""

from collections import Counter
from collections.abc import Iterable, Sequence

LONGEST = 20
"""Characters of a choice in a chart."""


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Each dotted path with as few of its last parts as tell it from the others."""
    paths = list(dict.fromkeys(paths))
    names: dict[str, str] = {}
    depth = 1
    while len(names) < len(paths):
        tails = {path: ".".join(path.split(".")[-depth:]) for path in paths}
        taken = Counter(tails.values())
        names |= {p: t for p, t in tails.items() if p not in names and (taken[t] == 1 or t == p)}
        depth += 1
    return {path: names[path] for path in paths}


def short_labels(choices: Sequence[str]) -> dict[str, str]:
    """Each choice, cut where it is long; numbered where the cut makes two of them the same."""
    cut = {c: c if len(c) <= LONGEST else c[: LONGEST - 1] + "…" for c in choices}
    taken = Counter(cut.values())
    return {c: s if taken[s] == 1 else f"{i}: {s}" for i, (c, s) in enumerate(cut.items(), start=1)}
