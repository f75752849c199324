"""What people look at: translations, ways between components, attributes in the plane, and the nearest real images.

Legend: n images, K components, Z attribute size, H, W image size.
"""

from pathlib import Path

import torch
from torch import Tensor

from cluster.evaluation.measure import Domain, Options
from gmvae_drit import metrics
from gmvae_drit.images import save_png
from gmvae_drit.sheets import captioned, translation_sheet
from gmvae_drit.translator import Translator

COLUMNS = 9
WAY_COLUMNS = 16
WAY_ROWS = 4
NEIGHBOURS = 3
ATTRIBUTES = 300
"""Images of each domain in the plane of attributes."""


def save_translations(
    path: Path, translator: Translator, ways: dict[str, tuple[Domain, Domain]], options: Options
) -> None:
    """Source x component, and by reference: `translation_sheet` of every direction."""
    sheets = []
    for name, (source, target) in ways.items():
        shown = min(COLUMNS, len(source.test), len(target.test))
        image, reference = source.test.unit(shown), target.test.unit(shown)
        sheets.append(
            translation_sheet(translator, image, reference, target.index, name, options.temperature)
        )
    save_png(path, torch.cat(_same_width(sheets), 1))


@torch.inference_mode()
def save_interpolations(path: Path, translator: Translator, ways: dict[str, tuple[Domain, Domain]]) -> None:
    """One source a row, first the image, then its translations along the straight lines from the mean of component 0
    to that of 1 and so on, back to that of 0. With one component, from one standard deviation below its mean in all
    dimensions to one above it."""
    rows = []
    for name, (source, target) in ways.items():
        mean_BKZ, logvar_BKZ = translator.prior(torch.tensor([target.index]))
        corners_KZ = mean_BKZ[0]
        if len(corners_KZ) == 1:
            deviation_KZ = (0.5 * logvar_BKZ[0]).exp()
            corners_KZ = torch.cat([corners_KZ - deviation_KZ, corners_KZ + deviation_KZ])
        place = torch.linspace(0, len(corners_KZ), WAY_COLUMNS + 1)[:-1]
        start, share = place.long(), place.frac()[:, None]
        z = corners_KZ[start].lerp(corners_KZ[(start + 1) % len(corners_KZ)], share)
        for image in source.test.unit(WAY_ROWS):
            along = translator.translate(
                image.expand(WAY_COLUMNS, -1, -1, -1), z, torch.full((WAY_COLUMNS,), target.index)
            )
            rows.append((name, torch.cat([image[None], along])))
    save_png(path, captioned(rows))


@torch.inference_mode()
def save_nearest(
    path: Path,
    translator: Translator,
    ways: dict[str, tuple[Domain, Domain]],
    space: metrics.Features,
    options: Options,
) -> None:
    """Translations by the prior, one a column, and below each the real train images that are nearest to it in `space`.

    Equal pictures would be copies.
    """
    rows = []
    for name, (source, target) in ways.items():
        image = source.test.unit(COLUMNS)
        picture = metrics.translate_by_prior(translator, image, target.index, options.temperature)
        count = min(NEIGHBOURS, len(target.train))
        found = metrics.nearest(space(picture), target.train_rows[space.name], count)
        rows += [(name, image), ("by prior", picture)]
        rows += [(f"nearest {i + 1}", target.train.unit()[found[:, i]]) for i in range(count)]
    widest = max(len(images) for _, images in rows)
    save_png(path, captioned([(caption, _padded(images, widest)) for caption, images in rows]))


def save_attributes(path: Path, domains: list[Domain], codes: list[Tensor], components: list[Tensor]) -> None:
    """z of real test images in the plane by t-SNE (van der Maaten & Hinton 2008), coloured by domain, by component,
    and by mode where the images have one. `codes` (n, Z) and `components` (n,) are those of each domain."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    z = torch.cat([c[:ATTRIBUTES] for c in codes]).numpy()
    plane = TSNE(init="pca", perplexity=min(30, (len(z) - 1) / 3), random_state=0).fit_transform(z)
    sizes = [min(ATTRIBUTES, len(c)) for c in codes]
    of_domain = np.repeat(np.arange(len(domains)), sizes)
    colourings = {
        "domain": (of_domain, [d.name for d in domains]),
        "component": (torch.cat([c[:ATTRIBUTES] for c in components]).numpy(), None),
    }
    if all("mode" in d.test.labels for d in domains):
        modes = torch.cat([d.test.labels["mode"][:ATTRIBUTES] for d in domains]).numpy()
        colourings["mode"] = (modes, None)
    figure = Figure(figsize=(5 * len(colourings), 5), layout="constrained")
    FigureCanvasAgg(figure)
    for i, (title, (group, names)) in enumerate(colourings.items()):
        axes = figure.add_subplot(1, len(colourings), i + 1, title=f"z by {title}", xticks=[], yticks=[])
        for value in np.unique(group):
            for d, marker in zip(range(len(domains)), "os^vDP*X" * len(domains), strict=False):
                points = plane[(group == value) & (of_domain == d)]
                axes.scatter(points[:, 0], points[:, 1], s=12, marker=marker, color=f"C{value % 10}")
            axes.scatter([], [], color=f"C{value % 10}", label=names[value] if names else str(value))
        axes.legend()
    figure.savefig(path, dpi=110)


def _padded(images: Tensor, width: int) -> Tensor:
    """White pictures at the end, up to `width`."""
    return torch.cat([images, torch.ones(width - len(images), *images.shape[1:])])


def _same_width(sheets: list[Tensor]) -> list[Tensor]:
    width = max(sheet.shape[2] for sheet in sheets)
    return [torch.nn.functional.pad(sheet, (0, width - sheet.shape[2]), value=255) for sheet in sheets]
