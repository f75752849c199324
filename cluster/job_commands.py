"""Training on a cluster from here, through Ray's jobs: submit, list, status, logs and stop.

python -m cluster submit cluster/configs/demo.yaml run.storage=s3://… data.uri=s3://… --address http://HOST:8265
"""

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.config import load, parse_overrides
from cluster.errors import RunError
from cluster.told import errors_told

if TYPE_CHECKING:
    from cluster.jobs import Job, Jobs

Address = Annotated[
    str | None,
    typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Ray's dashboard, http://HOST:8265."),
]
JobWord = Annotated[
    str,
    typer.Argument(metavar="JOB", help="Id of a job, its beginning, or the name of a run: its newest job."),
]


def submit(
    config: Annotated[Path, typer.Argument(help="Experiment, a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings, as section.key=value.")] = None,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show the log until the job ends.")] = False,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]",
            help="Variable of the job's environment, by default with its value here. Whoever may see the "
            "cluster's jobs may read it.",
        ),
    ] = None,
) -> None:
    """Train on a cluster: send the experiment and this source, print the job's id. The same run.name resumes."""
    from cluster.job_package import check_places, environment

    with errors_told():
        experiment = load(config, parse_overrides(overrides or []))
        check_places(experiment)
        variables = environment(env or [])
        jobs = _jobs(address)
        job_id = jobs.submit(experiment, variables)
        typer.echo(job_id)
        if follow:
            _follow(jobs, job_id)


def list_jobs(
    address: Address = None,
    everything: Annotated[bool, typer.Option("--all", help="Those of others, too.")] = False,
) -> None:
    """List the jobs of this program, newest first."""
    with errors_told():
        found = [job for job in _jobs(address).list() if job.is_ours or everything]
    table = Table("job", "run", "state", "began", "took", box=None, pad_edge=False, header_style="bold")
    for job in found:
        table.add_row(job.id, job.run or "-", job.state, _moment(job.begin), _took(job))
    # What is piped onwards keeps whole ids.
    Console(width=None if sys.stdout.isatty() else 250, highlight=False).print(table)


def status(job: JobWord, address: Address = None) -> None:
    """Say how a job is doing, or how it ended."""
    with errors_told():
        jobs = _jobs(address)
        found = jobs.find(job)
        last = jobs.last_line(found)
    rows = {
        "job": found.id,
        "run": found.run or "-",
        "state": _state(found),
        "began": _moment(found.begin),
        "ended": _moment(found.end),
        "took": _took(found),
        "last line": last or "-",
    }
    for name, value in rows.items():
        typer.echo(f"{name:<10} {value}")


def logs(
    job: JobWord,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends.")] = False,
) -> None:
    """Print what a job has printed."""
    with errors_told():
        jobs = _jobs(address)
        found = jobs.find(job)
        if follow:
            _follow(jobs, found.id)
        else:
            typer.echo(jobs.log(found.id), nl=False)


def stop(job: JobWord, address: Address = None) -> None:
    """Stop a job: its workers save a checkpoint first. Waits until it has stopped."""
    with errors_told():
        jobs = _jobs(address)
        found = jobs.find(job)
        if found.has_ended:
            typer.echo(f"{found.id} had ended before: {_state(found)}")
            return
        typer.echo(f"{found.id}: stopping", err=True)
        ended = jobs.stop(found.id)
        typer.echo(f"{ended.id}: {_end(ended, jobs.last_line(ended))}")


COMMANDS: dict[str, Callable[..., None]] = {
    "submit": submit,
    "list": list_jobs,
    "status": status,
    "logs": logs,
    "stop": stop,
}


def _jobs(address: str | None) -> "Jobs":
    from cluster.jobs import Jobs

    if not address:
        raise RunError("which cluster? Give --address http://HOST:8265 or set RAY_API_SERVER_ADDRESS")
    return Jobs(address)


def _follow(jobs: "Jobs", job_id: str) -> None:
    """Show the log to its end; leave with 1 unless the job succeeded."""
    try:
        job = jobs.follow(job_id, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt:
        typer.echo(
            f"The job goes on. Look again: python -m cluster logs -f {job_id} --address {jobs.address}",
            err=True,
        )
        raise typer.Exit(130) from None
    if job.state == "SUCCEEDED":
        typer.echo(f"{job_id}: succeeded", err=True)
        return
    typer.echo(f"error: {job_id}: {_end(job, jobs.last_line(job))}", err=True)
    raise typer.Exit(1)


def _state(job: "Job") -> str:
    """In words, with the exit code where that says something."""
    return job.state.lower() + (f" with exit code {job.exit_code}" if job.exit_code else "")


def _end(job: "Job", last_line: str) -> str:
    """How it ended and why, in its own last words."""
    if job.state == "STOPPED" and not last_line.startswith("Stopped"):
        return f"stopped, without word of a checkpoint; its last line: {last_line}"
    return f"{_state(job)}: {last_line.removeprefix('error: ')}"


def _moment(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else "-"


def _took(job: "Job") -> str:
    """So far, where it has not ended."""
    if job.begin is None:
        return "-"
    seconds = round(((job.end or datetime.now()) - job.begin).total_seconds())
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
