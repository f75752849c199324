"""A run's figures as metrics of Ray, whose agent on each node hands them to Prometheus as ``ray_gmvae_drit_*``.

Ray sends a gauge once after it is set and forgets it two report intervals later (20 s), and rows may be
further apart: so a thread sets all of them again and again. Without Ray, or without its agent, nothing happens.
"""

import math
import threading

from ray.util.metrics import Counter, Gauge

from cluster.notes import Row
from cluster.row_parts import scalars_of, shares_of, under, workers_of

SECONDS_BETWEEN_SETS = 5.0
MIB = 2**20
PREFIX = "gmvae_drit_"
GAUGES = {
    "step": ("Training steps done.", ()),
    "target_steps": ("Training steps of the whole run.", ()),
    "epoch": ("Passes over the largest domain so far.", ()),
    "images_per_second": ("Images trained on per second, all workers together.", ()),
    "data_wait_ratio": ("Largest share of time that a worker waited for data, 0 to 1.", ()),
    "last_saved_step": ("Step of the newest checkpoint.", ()),
    "temperature": ("Temperature of the relaxed component y.", ()),
    "information_ratio": ("I(x; y) / log K of the held-out images, 0 to 1.", ()),
    "worker_images_per_second": ("Images trained on per second by one worker.", ("worker",)),
    "worker_data_wait_ratio": ("Share of time that one worker waited for data, 0 to 1.", ("worker",)),
    "worker_memory_bytes": ("Memory of one worker: of its GPU where it has one, else its own.", ("worker",)),
    "loss": ("Scalar that the model logs, mean since the last row; absent while not finite.", ("name",)),
    "held_out": ("Scalar of held-out images, averaged weights.", ("name",)),
    "learning_rate": ("Learning rate of one network.", ("name",)),
    "component_share_ratio": (
        "Share of a component in its domain, running mean of q(y|x), 0 to 1.",
        ("domain", "component"),
    ),
}
"""Name without the prefix: (what it is, labels beside ``run``)."""
COUNTERS = {
    "skipped_steps_total": "Steps skipped for an infinite or NaN gradient.",
    "restarts_total": "Restarts of the workers after a failure.",
}
Series = tuple[str, tuple[str, ...]]
"""Name of a gauge, and the values of its labels."""


class Gauges:
    """All metrics of one run. Made in the worker of rank 0."""

    def __init__(self, run: str) -> None:
        self._run = {"run": run}
        self._gauges = {
            name: Gauge(PREFIX + name, text, ("run", *labels)) for name, (text, labels) in GAUGES.items()
        }
        self._counters = {name: Counter(PREFIX + name, text, ("run",)) for name, text in COUNTERS.items()}
        self._counted = dict.fromkeys(COUNTERS, 0)
        self._values: dict[Series, float] = {}
        self._lock, self._closed = threading.Lock(), threading.Event()
        threading.Thread(target=self._keep_alive, name="metrics", daemon=True).start()

    def target(self, steps: int) -> None:
        """The steps of the whole run."""
        self._take({("target_steps", ()): steps})

    def row(self, row: Row) -> None:
        """A row of metrics. A value that is not finite is absent until it is finite again."""
        self._take(series_of(row))
        self._count("skipped_steps_total", row["skipped"])

    def saved(self, step: int) -> None:
        """A checkpoint was written after ``step`` steps."""
        self._take({("last_saved_step", ()): step})

    def restarted(self, count: int) -> None:
        """How often the workers were restarted so far, in all."""
        self._count("restarts_total", count)

    def close(self) -> None:
        """Set nothing any more; Ray forgets the gauges within half a minute."""
        self._closed.set()

    def _take(self, values: dict[Series, float]) -> None:
        with self._lock:
            self._values |= values
        self._set_all()

    def _set_all(self) -> None:
        with self._lock:
            for (name, labels), value in self._values.items():
                if math.isfinite(value):
                    tags = self._run | dict(zip(GAUGES[name][1], labels, strict=True))
                    self._gauges[name].set(value, tags)

    def _count(self, name: str, total: int) -> None:
        """A new process counts from 0, as Prometheus expects, so its first total is counted whole."""
        if total > self._counted[name]:
            self._counters[name].inc(total - self._counted[name], self._run)
            self._counted[name] = total

    def _keep_alive(self) -> None:
        while not self._closed.wait(SECONDS_BETWEEN_SETS):
            self._set_all()


def series_of(row: Row) -> dict[Series, float]:
    """The value of each gauge that a row has something for."""
    values: dict[Series, float] = {
        ("step", ()): row["step"],
        ("epoch", ()): row["epoch"],
        ("images_per_second", ()): row["images_per_second"],
        ("data_wait_ratio", ()): row["data_wait"],
    }
    scalars, held_out, rates = scalars_of(row), under("held_out/", row), under("lr/", row)
    if "temperature" in scalars:
        values["temperature", ()] = scalars.pop("temperature")
    if "information" in held_out:
        values["information_ratio", ()] = held_out.pop("information")
    values |= {("loss", (name,)): value for name, value in scalars.items()}
    values |= {("held_out", (name,)): value for name, value in held_out.items()}
    values |= {("learning_rate", (name,)): value for name, value in rates.items()}
    for rank, worker in enumerate(workers_of(row)):
        values["worker_images_per_second", (str(rank),)] = worker["images_per_second"]
        values["worker_data_wait_ratio", (str(rank),)] = worker["data_wait"]
        values["worker_memory_bytes", (str(rank),)] = worker["memory_mib"] * MIB
    for domain, shares in enumerate(shares_of(row)):
        for component, share in enumerate(shares):
            values["component_share_ratio", (str(domain), str(component))] = share
    return values
