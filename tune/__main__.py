"""Search for settings with Ray Tune and Optuna.

python -m tune run tune/configs/demo.yaml
python -m tune report sweeps/demo
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster.config import parse_overrides
from cluster.told import errors_told

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _room() -> None:
    """Search for settings of GMVAE-DRIT: one machine or a Ray cluster."""


@app.command()
def run(
    sweep: Annotated[
        str, typer.Argument(help="Sweep, a YAML file, or the folder or s3:// URI of one that was begun.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of the sweep, as section.key=value.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show what trials would be, and leave.")
    ] = False,
) -> None:
    """Search, or go on with the sweep of the same name."""
    try:
        with errors_told():
            from tune import commands

            settings = commands.read_sweep(sweep, parse_overrides(overrides or []))
            code = commands.show(settings) if dry_run else commands.run(settings)
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


@app.command()
def report(
    folder: Annotated[
        str, typer.Argument(metavar="SWEEP", help="Folder or s3:// URI of a sweep, also of one that runs.")
    ],
    confirm: Annotated[
        bool,
        typer.Option("--confirm", help="Run the best trials and the base again first, with fresh seeds."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write into; that of the sweep unless given.")
    ] = None,
) -> None:
    """Write what a sweep found: one HTML page, the best experiment, a table of trials. Needs no network."""
    try:
        with errors_told():
            from tune import commands

            code = commands.report(folder, confirm, out)
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


if __name__ == "__main__":
    sys.exit(app())
