"""Command line of the models.

python -m gmvae_drit translate photos/ --model runs/demo/export --to mnist-m --samples 8
python -m gmvae_drit explore runs/demo/export photo.jpg
"""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gmvae_drit.errors import ModelError
from gmvae_drit.options import Format, Interpolation, Precision, TranslateOptions

app = typer.Typer(
    help="Translate images with a trained GMVAE-DRIT, and see what it has learnt.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Device = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda or cuda:N.")]
Precisions = Annotated[Precision, typer.Option(help="auto: bf16 on a GPU that has it, else fp32.")]
Seed = Annotated[int, typer.Option(help="Seed of the draws.")]
Temperature = Annotated[float, typer.Option(min=0, help="Scale of a draw's deviation from its mean.")]


@app.command()
def translate(
    sources: Annotated[
        list[Path], typer.Argument(help="Images, and folders of images with all folders below them.")
    ],
    model: Annotated[Path, typer.Option(help="Folder with model.safetensors and config.yaml.")],
    to: Annotated[list[str], typer.Option(help="Target domain; repeat for several, `all` for every one.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the translations; files of the same name are replaced.")
    ] = Path("translations"),
    grid: Annotated[Path | None, typer.Option(help="Write one picture instead: a row per image.")] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Draws from the prior; the components take turns. "
            "By default one of each component; one with --interpolate.",
        ),
    ] = None,
    component: Annotated[
        list[int] | None, typer.Option(help="Draw from this component; repeat for several. By default all.")
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            help="Take the attribute of this image of the target domain instead, or of each in a folder."
        ),
    ] = None,
    interpolate: Annotated[
        Interpolation | None,
        typer.Option(
            help="Go from each component, or reference, to the next: an animation, a strip, or both."
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=2, help="Pictures from one to the next, both included. By default 9.")
    ] = None,
    temperature: Temperature = 1.0,
    fresh_draws: Annotated[
        bool,
        typer.Option("--fresh-draws", help="Draw anew for each image; else one draw is for all of them."),
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Resize the short side to so many pixels first."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images.")] = None,
    seed: Seed = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures computed at once, at most.")] = 16,
    device: Device = "auto",
    precision: Precisions = Precision.AUTO,
    format: Annotated[Format, typer.Option(help="File format of the translations.")] = Format.PNG,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out images that have all their translations.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first image that cannot be translated.")
    ] = False,
) -> None:
    """Translate images to other domains; each comes out at its own size.

    Images that cannot be read are left out and listed at the end, and the exit code is 1.
    """
    options = TranslateOptions(
        sources=tuple(sources),
        model=model,
        to=tuple(to),
        out=out,
        grid=grid,
        samples=samples,
        components=tuple(dict.fromkeys(component or ())),
        references=tuple(reference or ()),
        interpolate=interpolate,
        frames=frames,
        temperature=temperature,
        fresh_draws=fresh_draws,
        size=size,
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        device=device,
        precision=precision,
        format=format,
        skip_existing=skip_existing,
        strict=strict,
    )
    from gmvae_drit.command import translate_files

    try:
        outcome = translate_files(options)
    except ModelError as error:
        _fail(error)
    for note in outcome.notes:
        typer.echo(f"note: {note}", err=True)
    for failure in outcome.failures:
        typer.echo(f"error: {failure}", err=True)
    if outcome.translated or not outcome.failures:
        typer.echo(outcome.summary)
    if outcome.failures:
        raise typer.Exit(1)


@app.command()
def explore(
    model: Annotated[Path, typer.Argument(help="Folder with model.safetensors and config.yaml.")],
    sources: Annotated[list[Path], typer.Argument(help="Images, and folders of images.")],
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("explore.png"),
    to: Annotated[
        list[str] | None, typer.Option(help="Target domain; repeat for several. By default all.")
    ] = None,
    columns: Annotated[int, typer.Option(min=2, help="Pictures in a row.")] = 8,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precisions = Precision.AUTO,
) -> None:
    """Show at a glance what a model has learnt.

    For each image, cut to the square of the training, and each domain: a row for each component, its mean first and
    draws after it; a row from the mean of each component to that of the next.
    """
    from gmvae_drit.devices import choose_device
    from gmvae_drit.explore import explore_model

    try:
        explore_model(
            model,
            sources,
            out,
            tuple(to or ("all",)),
            columns,
            temperature,
            seed,
            choose_device(device, precision),
        )
    except ModelError as error:
        _fail(error)
    typer.echo(f"{out}")


def _fail(error: ModelError) -> NoReturn:
    typer.echo(f"error: {error}", err=True)
    raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
