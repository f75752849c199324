"""The parts of a row of metrics that whoever shows it tells apart: the engine's figures, the model's scalars, shares.

Legend: D domains, K components.
"""

from cluster.notes import Row

ENGINE_KEYS = {"step", "epoch", "images_per_second", "data_wait", "skipped", "seconds", "samples", "workers"}
SHARES = "components"
"""Key of the components' shares."""
HELD_OUT = "held_out/"
PREFIXES = ("lr/", HELD_OUT)


def scalars_of(row: Row) -> dict[str, float]:
    """What the model logged, in its own order."""
    return {
        name: value
        for name, value in row.items()
        if name not in ENGINE_KEYS and not name.startswith(PREFIXES) and isinstance(value, int | float)
    }


def under(prefix: str, row: Row) -> dict[str, float]:
    """The figures whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def shares_of(row: Row) -> list[list[float]]:
    """Share of each component in each domain, D lists of K; empty for a model without components."""
    shares = row.get(SHARES)
    return shares if isinstance(shares, list) else []


def workers_of(row: Row) -> list[dict[str, float]]:
    """The figures of each rank."""
    workers: list[dict[str, float]] = row.get("workers", [])
    return workers
