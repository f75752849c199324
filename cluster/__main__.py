"""Train on this machine or on a Ray cluster.

python -m cluster train cluster/configs/demo.yaml train.steps=1000
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster.config import load, parse_overrides
from cluster.evaluation.network import Network
from cluster.job_commands import COMMANDS
from cluster.told import errors_told

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
        with errors_told():
            experiment = load(config, parse_overrides(overrides or []))
            if print_config:
                typer.echo(experiment.to_yaml(), nl=False)
                return
            from cluster.driver import run

            code = run(experiment)
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


@app.command()
def evaluate(
    folder: Annotated[
        str, typer.Argument(metavar="RUN|EXPORT", help="Folder or s3:// URI of a trained run, or an export.")
    ],
    data: Annotated[str | None, typer.Option(help="URI of the data; that of the run unless given.")] = None,
    features: Annotated[
        Network, typer.Option(help="Network that FID, KID and perceptual distances are measured with.")
    ] = Network.EFFICIENTNET_LITE0,
    inception_weights: Annotated[
        Path | None, typer.Option(help="File of Inception's weights; downloaded unless given.")
    ] = None,
    limit: Annotated[int, typer.Option(min=2, help="Test images of each domain, at most.")] = 500,
    samples: Annotated[
        int, typer.Option(min=2, help="Translations of an image by each component, for their distances.")
    ] = 3,
    temperature: Annotated[float, typer.Option(min=0, help="Scale of a prior draw's deviation.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws and of the judging classifiers.")] = 0,
) -> None:
    """Measure a trained model on test images: how real, how varied, content kept, components used. With pictures."""
    with errors_told():
        from cluster.evaluate import RESULTS, evaluate, print_tables, working_copy

        run = working_copy(folder)
        measured = evaluate(run.root, data, features, inception_weights, limit, samples, temperature, seed)
        for name in RESULTS:
            run.publish(run.root / name)
        print_tables(run.root, measured)


@app.command()
def report(
    folder: Annotated[
        str, typer.Argument(metavar="RUN", help="Folder or s3:// URI of a run, also of one that trains.")
    ],
    out: Annotated[Path | None, typer.Option(help="File to write; report.html in the run's folder.")] = None,
) -> None:
    """Write one HTML page about a run: curves, previews, failures, figures, configuration. Needs no network."""
    with errors_told():
        from cluster.report.page import write_report
        from cluster.report.read import FILES
        from cluster.run_folder import RunFolder

        run = RunFolder.at(folder)
        run.fetch_all(*FILES)
        typer.echo(write_report(run.root, out))
        if out is None:
            run.publish(run.root / "report.html")


@app.command()
def leave(
    seconds: Annotated[float, typer.Option(min=0, help="How long to wait for them.")] = 100.0,
) -> None:
    """Ask what trains in this pod to store its step and leave, and wait: for a pod that is taken away."""
    with errors_told():
        from cluster.leave import leave as ask

        if left := ask(seconds):
            typer.echo(f"error: {left} still there after {seconds:g} s", err=True)
            raise typer.Exit(1)


for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


if __name__ == "__main__":
    sys.exit(app())
