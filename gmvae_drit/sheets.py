"""A captioned picture of translations in one direction, for people to look at.

Legend: n images of the source domain, K components, H, W image size.
"""

import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gmvae_drit import metrics
from gmvae_drit.images import enlargement, grid
from gmvae_drit.translator import Translator

CAPTION_WIDTH = 130
CAPTION_SIZE = 14


@torch.inference_mode()
def translation_sheet(
    translator: Translator, image: Tensor, reference: Tensor, domain: int, title: str, temperature: float
) -> Tensor:
    """Rows: `title` over the sources (n, 3, H, W) in [-1, 1]; their translations to `domain`, one row for each of the
    K components, each row by one draw; the references (n, 3, H, W) of that domain, and the translations by them.

    uint8 (3, H', W').
    """
    target = torch.full((len(image),), domain)
    content = translator.generator.shared(translator.content(image))
    rows = [(title, image)]
    for k in range(translator.prior.components):
        z = translator.prior.sample(target[:1], torch.tensor([k]), temperature).expand(len(image), -1)
        rows.append((f"component {k}", translator.generator.render(content, z, target).float()))
    by_reference = metrics.translate_by_reference(translator, image, reference, domain)
    rows += [("references", reference), ("by reference", by_reference)]
    return captioned(rows)


def captioned(rows: list[tuple[str, Tensor]]) -> Tensor:
    """Rows of images (n, 3, H, W) in [-1, 1] or uint8 as one picture, captions to their left: uint8 (3, H', W')."""
    scale = enlargement(rows[0][1].shape[2])
    picture = grid([images for _, images in rows], scale).permute(1, 2, 0).numpy()
    font = ImageFont.load_default(CAPTION_SIZE)
    width = max(CAPTION_WIDTH, *(12 + math.ceil(font.getlength(caption)) for caption, _ in rows))
    sheet = Image.new("RGB", (width + picture.shape[1], picture.shape[0]), "white")
    sheet.paste(Image.fromarray(picture), (width, 0))
    draw = ImageDraw.Draw(sheet)
    row_height = picture.shape[0] / len(rows)
    for i, (caption, _) in enumerate(rows):
        draw.text((6, (i + 0.5) * row_height), caption, fill="black", font=font, anchor="lm")
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1)
