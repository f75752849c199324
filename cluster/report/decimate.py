"""Long curves made short without hiding what stands out, and smooth lines through noisy ones."""

from collections.abc import Sequence

Values = Sequence[float | None]


def keep(values: Values, limit: int) -> list[int]:
    """Indices, ascending and at most `limit`, that keep the look of a curve.

    Of each of equal stretches the lowest, the highest and the first missing value stay, so that a spike or a value that
    was not finite cannot vanish; the two ends stay as well.
    """
    n = len(values)
    if n <= limit:
        return list(range(n))
    stretches = max(1, (limit - 2) // 3)
    kept = {0, n - 1}
    for stretch in range(stretches):
        indices = range(stretch * n // stretches, (stretch + 1) * n // stretches)
        present = [(value, index) for index in indices if (value := values[index]) is not None]
        if present:
            kept |= {min(present)[1], max(present)[1]}
        if len(present) < len(indices):
            kept.add(next(index for index in indices if values[index] is None))
    return sorted(kept)


def smooth(values: Values, window: int) -> list[float | None]:
    """Mean of the present values among the `window` around each; None where there is none."""
    sums, counts = [0.0], [0]
    for value in values:
        sums.append(sums[-1] + (value or 0.0))
        counts.append(counts[-1] + (value is not None))
    means: list[float | None] = []
    for index in range(len(values)):
        low, high = max(0, index - window // 2), min(len(values), index + window // 2 + 1)
        count = counts[high] - counts[low]
        means.append((sums[high] - sums[low]) / count if count else None)
    return means


def evenly(count: int, limit: int) -> list[int]:
    """At most `limit` of `count` indices, evenly spread, the first and the last among them."""
    if count <= limit:
        return list(range(count))
    return sorted({round(i * (count - 1) / (limit - 1)) for i in range(limit)})
