"""Which figures of a run share a chart, and which charts share a heading."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cluster.report.curves import Mark, Panel, Series
from cluster.report.read import Row, Run, WorkerRow, domain_names

HELD_OUT, RATE = "held_out/", "lr/"
LOSS_GROUPS = {
    "Reconstruction": (
        "reconstruction",
        "rec",
        "cycle",
        "content_reconstruction",
        "content_norm",
        "attribute_consistency",
    ),
    "Adversarial": (
        "discriminator",
        "adversarial",
        "classify_real",
        "classify_fake",
        "content_discriminator",
        "content_adversarial",
        "r1",
    ),
    "Attribute space": (
        "kl",
        "gauss",
        "categ",
        "information",
        "entropy",
        "usage",
        "latent_regression",
        "component_regression",
        "mode_seeking",
    ),
}
"""Names the models give their terms; any other lands under "Other terms"."""
COMPARABLE = ("reconstruction", "cycle", "rec")
"""Names that stand for one quantity in training and on held-out images; others only share the name."""
SCHEDULES = ("temperature",)
WORKERS_SHOWN = 6
"""Workers up to which each has a curve; of more, the least, the median and the greatest are drawn."""


@dataclass(frozen=True)
class Group:
    """Charts under one heading."""

    title: str
    panels: list[Panel]


def marks(run: Run) -> list[Mark]:
    """Where the run lost a worker or was resumed, each place once."""
    happened = dict.fromkeys(
        (event.step, event.kind)
        for event in run.events
        if event.kind in ("lost", "resume") and event.step is not None
    )
    return [Mark(step, kind) for step, kind in happened]


def held_out(run: Run) -> list[Panel]:
    """A chart of each held-out value, with the training's behind it where the two compare."""
    names = [name for name in _names(run.rows) if name.startswith(HELD_OUT)]
    return [_held_out(run.rows, name) for name in names]


def losses(run: Run) -> list[Group]:
    """The model's own scalars: a chart each."""
    own = [n for n in _names(run.rows) if not n.startswith((HELD_OUT, RATE)) and n not in SCHEDULES]
    known = {name for group in LOSS_GROUPS.values() for name in group}
    groups = {title: [n for n in names if n in own] for title, names in LOSS_GROUPS.items()}
    groups["Other terms"] = [name for name in own if name not in known]
    if sum(map(bool, groups.values())) == 1:
        groups = {"Terms": own}
    return [
        Group(title, [Panel(name, [_scalar(run.rows, name)], noisy=True, may_log=True) for name in names])
        for title, names in groups.items()
        if names
    ]


def schedules(run: Run) -> list[Panel]:
    """Learning rates in one chart, the temperature in another."""
    names = _names(run.rows)
    rates = [_scalar(run.rows, name, name.removeprefix(RATE)) for name in names if name.startswith(RATE)]
    panels = [Panel("learning rate", rates)] if rates else []
    return panels + [Panel(name, [_scalar(run.rows, name)]) for name in SCHEDULES if name in names]


def components(run: Run) -> list[Panel]:
    """Shares of the components, a stack for each domain."""
    rows = [row for row in run.rows if row.shares]
    return [
        Panel(f"{name}, %", _stack(rows, index), stacked=True)
        for index, name in enumerate(domain_names(run))
        if any(len(row.shares) > index for row in rows)
    ]


def throughput(run: Run) -> list[Group]:
    """Speed, waiting and memory: of all workers together, and of each."""
    rows, steps = run.rows, [row.step for row in run.rows]
    counts = [len(row.workers) or None for row in rows]
    together = [
        Panel("images/s", [_present("all", steps, [row.images_per_second for row in rows])], noisy=True),
        Panel(
            "waiting for data, %",
            [_present("all", steps, [_percent(row.data_wait) for row in rows])],
            noisy=True,
        ),
    ]
    if len({count for count in counts if count}) > 1:
        together.append(Panel("workers", [_present("workers", steps, counts)]))
    if any(row.skipped for row in rows):
        together.append(
            Panel("skipped steps so far", [Series("skipped", steps, [row.skipped for row in rows])])
        )
    each = [*_of_workers("memory, MiB", rows, lambda worker: worker.memory_mib)]
    if max((count for count in counts if count), default=0) > 1:  # one worker is all workers
        each += _of_workers("images/s", rows, lambda worker: worker.images_per_second)
        each += _of_workers("waiting for data, %", rows, lambda worker: _percent(worker.data_wait))
    groups = {"All workers": together, "Each worker": each}
    having = {
        title: [p for p in panels if any(s.values for s in p.series)] for title, panels in groups.items()
    }
    return [Group(title, panels) for title, panels in having.items() if panels]


def _names(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.scalars))


def _scalar(rows: Iterable[Row], name: str, shown: str | None = None, pale: bool = False) -> Series:
    having = [row for row in rows if name in row.scalars]
    return Series(shown or name, [row.step for row in having], [row.scalars[name] for row in having], pale)


def _held_out(rows: Sequence[Row], name: str) -> Panel:
    title = name.removeprefix(HELD_OUT)
    compared = title in COMPARABLE and title in _names(rows)
    training = [_scalar(rows, title, "training", pale=True)] if compared else []
    return Panel(title, [_scalar(rows, name, "held out"), *training], may_log=True)


def _stack(rows: Sequence[Row], domain: int) -> list[Series]:
    having = [row for row in rows if len(row.shares) > domain]
    count = max(len(row.shares[domain]) for row in having)
    steps = [row.step for row in having]
    padded = [[*row.shares[domain], *[0.0] * (count - len(row.shares[domain]))] for row in having]
    return [Series(f"{k}", steps, [100 * shares[k] for shares in padded]) for k in range(count)]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _of_workers(title: str, rows: Sequence[Row], figure: Callable[[WorkerRow], float | None]) -> list[Panel]:
    """A chart with a curve for each worker, or with three for many; none where the rows know no workers."""
    having = [row for row in rows if row.workers]
    count = max((len(row.workers) for row in having), default=0)
    if not count:
        return []
    steps = [row.step for row in having]
    each = [[figure(worker) for worker in row.workers] for row in having]
    if count <= WORKERS_SHOWN:
        columns = {f"worker {r}": [row[r] if r < len(row) else None for row in each] for r in range(count)}
        series = [_present(name, steps, values) for name, values in columns.items()]
    else:
        ordered = [sorted(value for value in row if value is not None) for row in each]
        ranks = {"least": 0.0, "median": 0.5, "greatest": 1.0}
        series = [
            _present(name, steps, [row[round(rank * (len(row) - 1))] if row else None for row in ordered])
            for name, rank in ranks.items()
        ]
    return [Panel(title, series, noisy=True)]


def _present(name: str, steps: Sequence[int], values: Sequence[float | None]) -> Series:
    """Without the points where there was no such worker: those are no faults."""
    pairs = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
    return Series(name, [step for step, _ in pairs], [value for _, value in pairs])
