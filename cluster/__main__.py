"""Train on this machine or on a Ray cluster.

python -m cluster train cluster/configs/demo.yaml train.steps=1000
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster.config import load, parse_overrides
from cluster.errors import ClusterError
from data_shards.errors import DataError
from gmvae_drit.errors import ModelError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _room() -> None:
    """Train GMVAE-DRIT on Ray: one machine or a cluster."""


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="Experiment, a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings, as section.key=value.")] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Show the resolved configuration and leave.")
    ] = False,
) -> None:
    """Train, or resume the run of the same name."""
    try:
        experiment = load(config, parse_overrides(overrides or []))
        if print_config:
            typer.echo(experiment.to_yaml(), nl=False)
            return
        from cluster.driver import run

        code = run(experiment)
    except KeyboardInterrupt:
        code = 130
    except (ClusterError, DataError, ModelError) as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        code = 1
    raise typer.Exit(code)


if __name__ == "__main__":
    sys.exit(app())
