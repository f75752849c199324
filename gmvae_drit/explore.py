"""`python -m gmvae_drit explore`: what a model has learnt, in one picture."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gmvae_drit.command import choose_domains
from gmvae_drit.devices import Device
from gmvae_drit.errors import ModelError
from gmvae_drit.export import load_export
from gmvae_drit.images import WRITTEN, read_image, save_picture
from gmvae_drit.inputs import list_images
from gmvae_drit.sheets import captioned
from gmvae_drit.styles import Draws, Style, check_components, way
from gmvae_drit.translate import Renderer
from gmvae_drit.translator import Translator


def explore_model(
    model: Path,
    sources: Sequence[Path],
    out: Path,
    to: tuple[str, ...],
    columns: int,
    temperature: float,
    seed: int,
    device: Device,
) -> None:
    """Write the sheet of all images of `sources` in the domains `to`. Raises ModelError, and writes nothing then."""
    if out.suffix.lower() not in WRITTEN:
        raise ModelError(f"--out {out}: its name must end in {', '.join(WRITTEN)}")
    paths = [path for source in sources for path in list_images(source)]
    translator, config = load_export(model)
    domains = choose_domains(to, config.domains)
    renderer = Renderer(translator, device, batch_size=columns, seed=seed)
    rows: list[tuple[str, Tensor]] = []
    for path in paths:
        image = _middle(read_image(path, config.image_size), config.image_size)
        blank = torch.ones(columns - 1, *image.shape)
        rows.append((path.stem, torch.cat([image[None], blank])))
        for name, domain in domains.items():
            styles = domain_styles(translator, domain, name, columns, temperature, seed)
            for _, style, frames in renderer.render([image], [styles]):
                rows.append((style.name, frames))
    save_picture(out, captioned(rows))


def domain_styles(
    translator: Translator, domain: int, name: str, columns: int, temperature: float, seed: int
) -> list[Style]:
    """A row for each component: its mean, then draws. Where there are several, a row from mean to mean."""
    rows, means = [], []
    for k in check_components(translator, ()):
        mean, *_ = Draws(domain, name, (k,), 1, 0.0, seed).styles(translator)
        draws = Draws(domain, name, (k,), columns - 1, temperature, seed).styles(translator)
        rows.append(Style(domain, f"{name} {k}", torch.cat([mean.codes, *(draw.codes for draw in draws)])))
        means.append(mean.codes)
    if len(means) > 1:
        rows.append(Style(domain, f"{name} 0 to {len(means) - 1}", way(torch.cat(means), columns)))
    return rows


def _middle(image: Tensor, side: int) -> Tensor:
    """The square of this side in the middle of an image (3, H, W)."""
    top, left = ((length - side) // 2 for length in image.shape[1:])
    return image[:, top : top + side, left : left + side]
