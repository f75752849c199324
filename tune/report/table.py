"""All trials of a sweep as a CSV file."""

import csv
import io
from collections.abc import Sequence

from tune.config import Sweep
from tune.report.results import Result


def trials_csv(sweep: Sweep, results: Sequence[Result]) -> str:
    """A row for each trial; what is not known or not searched is empty."""
    metrics = [objective.metric for objective in sweep.objectives]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["number", "state", *sweep.space, *metrics, "step", "seconds", "reason"])
    for result in results:
        params = [result.params.get(path) for path in sweep.space]
        writer.writerow(
            [
                *(result.number, result.state, *params, *result.figures),
                *(result.step, result.seconds, result.reason),
            ]
        )
    return file.getvalue()
