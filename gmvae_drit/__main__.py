"""Command line of the models.

python -m gmvae_drit translate photo.jpg --model runs/demo/export --to mnist-m --samples 8 --grid out.png
"""

from pathlib import Path
from typing import Annotated

import typer

from gmvae_drit.errors import ModelError

app = typer.Typer(
    help="Translate images with a trained GMVAE-DRIT.", no_args_is_help=True, pretty_exceptions_enable=False
)


@app.callback()
def main() -> None:
    """Keeps `translate` a subcommand: others will stand beside it."""


@app.command()
def translate(
    source: Annotated[Path, typer.Argument(help="An image or a folder of images.")],
    model: Annotated[Path, typer.Option(help="Folder with model.safetensors and config.yaml.")],
    to: Annotated[str, typer.Option(help="Target domain.")],
    out: Annotated[Path, typer.Option(help="Folder for the translations, one PNG each.")] = Path(
        "translations"
    ),
    grid: Annotated[Path | None, typer.Option(help="Write one picture instead: a row per image.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Draws from the prior; the components take turns.")] = 4,
    component: Annotated[int | None, typer.Option(help="Draw from this component only.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Take the attribute of this image instead.")] = None,
    temperature: Annotated[
        float, typer.Option(min=0, help="Scale of a draw's deviation from its mean.")
    ] = 1.0,
    size: Annotated[
        int | None, typer.Option(min=8, help="Short side in pixels [default: as trained].")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images of the folder.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
) -> None:
    """Translate an image, or every image of a folder, to another domain."""
    import torch

    from gmvae_drit import images
    from gmvae_drit.export import load_export
    from gmvae_drit.translate import prior_attributes, reference_attribute, translate_image

    try:
        if reference is not None and component is not None:
            raise ModelError(
                "--reference and --component exclude each other: a reference brings its own attribute"
            )
        paths = images.list_images(source)[:limit]
        translator, config = load_export(model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        if to not in config.domains:
            raise ModelError(f"--to {to}: this model knows the domains {', '.join(config.domains)}")
        domain, short_side = config.domains.index(to), size or config.image_size
        if reference is not None:
            attributes = reference_attribute(translator, images.read_image(reference, short_side), domain)
        else:
            attributes = prior_attributes(translator, domain, samples, component, temperature, seed)

        rows, stems = [], [path.stem for path in paths]
        for path in paths:
            image = images.read_image(path, short_side)
            translations = translate_image(translator, image, domain, attributes, seed)
            if grid is not None:
                rows.append(torch.cat([image[None], translations]))
                continue
            unique = path.stem if stems.count(path.stem) == 1 else path.name
            for name, picture in zip(attributes.names, images.to_bytes(translations), strict=True):
                images.save_png(out / f"{unique}-{to}-{name}.png", picture)
        if grid is not None:
            images.save_png(grid, images.grid(rows, images.enlargement(config.image_size)))
    except ModelError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{len(paths)} x {len(attributes.names)} translations to {to}: {grid or out}")


if __name__ == "__main__":
    app()
