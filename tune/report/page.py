"""Writes what a sweep found: report.html, trials.csv and best.yaml. The page has everything inline and fetches nothing.

python -m tune report sweeps/demo
"""

import time
from dataclasses import dataclass
from pathlib import Path

import optuna
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

import cluster.report
from cluster.errors import RunError
from cluster.report.page import Picture
from cluster.report.pictures import data_uri
from cluster.report.scale import number
from cluster.report.summary import duration
from cluster.run_folder import RunFolder, write_atomically
from tune.config import Sweep
from tune.report.best import DIGITS, Best, best_experiment, best_yaml, choose, tell
from tune.report.confirmation import Confirmed, read_confirmation
from tune.report.names import short_names
from tune.report.results import Result, last_preview, read_results, trial_place
from tune.report.sections import sections
from tune.report.standing import by_rank_sum
from tune.report.summary import confirmation_tables, failures, head
from tune.report.table import trials_csv
from tune.study import SECONDS

PICTURES = 4
PICTURE_BYTES = 130_000


@dataclass(frozen=True)
class Found:
    """What a sweep found."""

    sweep: Sweep
    study: optuna.Study
    """The search."""
    results: list[Result]
    confirmed: list[Confirmed]
    best: Best | None

    @property
    def told(self) -> list[str]:
        """What is to be said about the best."""
        return tell(self.sweep, self.best, self.results, self.confirmed) if self.best else []

    @property
    def leading(self) -> list[Result]:
        """Complete trials, best first, the chosen one before all."""
        complete = {result.number: result.values for result in self.results if result.values is not None}
        order = by_rank_sum(self.sweep.objectives, complete, complete.values())
        known = {result.number: result for result in self.results}
        chosen = [self.best.result] if self.best else []
        return chosen + [known[number] for number in order if known[number] not in chosen]


def read(folder: RunFolder, sweep: Sweep, study: optuna.Study, confirm: optuna.Study | None) -> Found:
    """Read the trials of the sweep in ``folder``. Raises DataError where the storage is away."""
    results = read_results(folder, sweep, study)
    confirmed = read_confirmation(sweep, confirm, results)
    return Found(sweep, study, results, confirmed, choose(sweep, results, confirmed))


def write_report(
    folder: RunFolder,
    sweep: Sweep,
    study: optuna.Study,
    confirm: optuna.Study | None = None,
    out: Path | None = None,
) -> list[Path]:
    """Write the files about the sweep in ``folder`` into folder ``out``, or into the sweep's own; returns their paths.

    ``study`` is the search, ``confirm`` the runs of its best trials with fresh seeds. Raises RunError where no trial
    has completed, and ConfigError where there is no base.yaml, after the other files were written.
    """
    found = read(folder, sweep, study, confirm)
    place = out or folder.root
    page, table, best = place / "report.html", place / "trials.csv", place / "best.yaml"
    _write(folder, page, render(found, folder, place, time.time()))
    _write(folder, table, trials_csv(sweep, found.results))
    if found.best is None:
        raise RunError(f"sweep {sweep.sweep.name}: no trial has completed, so none is best; see {page}")
    experiment = best_experiment(folder, sweep, found.best)
    _write(folder, best, best_yaml(found.best, experiment, found.told, best))
    return [page, table, best]


def render(found: Found, folder: RunFolder, place: Path, now: float) -> str:
    """The page as it stands at Unix time ``now``; ``place`` is where best.yaml is."""
    sweep, best = found.sweep, found.best
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, Path(cluster.report.__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": lambda value: number(value, DIGITS), "duration": duration}
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    chosen = best.result.number if best else None
    return environment.get_template("sweep.html.jinja").render(
        sweep=sweep,
        head=head(sweep, found.results, best, found.study.user_attrs.get(SECONDS), now),
        told=found.told,
        best=best,
        results=found.results,
        base=next((result.params for result in found.results if result.is_default), {}),
        names=short_names(sweep.space),
        confirmation=confirmation_tables(sweep, found.confirmed),
        sections=sections(sweep, found.study, found.results, chosen),
        previews=_previews(found, folder),
        failures=failures(found.results),
        commands=_commands(found, folder, place),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
    )


def _write(folder: RunFolder, path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent}: cannot be made: {error.strerror}") from error
    write_atomically(path, lambda file: file.write(text.encode()))
    if path.parent == folder.root:
        folder.publish(path)


def _previews(found: Found, folder: RunFolder) -> list[Picture]:
    """Of the base and of the best trials."""
    base = [result for result in found.results if result.is_default]
    wanted = base + [result for result in found.leading if result not in base]
    pictures = []
    for result in wanted[:PICTURES]:
        path = last_preview(folder, found.sweep, result.number)
        if path and (uri := data_uri(path, PICTURE_BYTES)):
            pictures.append(Picture(_caption(found, result), uri))
    return pictures


def _caption(found: Found, result: Result) -> str:
    words = [f"trial {result.number}"]
    if result.is_default:
        words.append("the base")
    if found.best and result is found.best.result:
        words.append("best")
    for objective, figure in zip(found.sweep.objectives, result.figures, strict=True):
        words.append(f"{objective.metric} {number(figure, DIGITS)}")
    return ", ".join(words)


def _commands(found: Found, folder: RunFolder, place: Path) -> list[tuple[str, str]]:
    """What to do next, and the command for it."""
    sweep = found.sweep
    settings = folder.root / "sweep.yaml"
    more = 2 * sweep.budget.trials
    ended = all(result.state in ("complete", "pruned", "failed") for result in found.results)
    is_done = ended and len(found.results) >= sweep.budget.trials
    commands = []
    if not is_done:
        commands.append(("Go on with the sweep where it is", f"python -m tune run {settings}"))
    commands.append(("Try more", f"python -m tune run {settings} budget.trials={more}"))
    if found.best:
        commands.append(
            ("Run the best again with fresh seeds", f"python -m tune report {folder.uri} --confirm")
        )
        commands.append(("Train the best", f"python -m cluster train {place / 'best.yaml'}"))
    if found.results:
        shown = found.best.result.number if found.best else found.results[-1].number
        commands.append(
            ("Look at one trial", f"python -m cluster report {folder.uri}/{trial_place(sweep, shown)}")
        )
    return commands
