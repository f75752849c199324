"""The preview picture of a run: what becomes of a few held-out images.

Legend: n images of one domain, K components.
"""

import torch
from torch import Tensor

from gmvae_drit.images import enlargement, grid
from gmvae_drit.translator import Translator, swap_halves


@torch.no_grad()
def preview_grid(translator: Translator, image: Tensor, domain: Tensor) -> Tensor:
    """Columns: the images of a two-domain batch (N, 3, H, W). Rows: source; self reconstruction; translation to the
    other domain by the mean of each of its K components; by its partner's attribute; cross-cycle. uint8 (3, H', W')."""
    other = swap_halves(domain)
    shared = translator.generator.shared(translator.content(image))
    z = translator.attribute(image, domain).mode()
    by_reference = translator.generator.render(shared, swap_halves(z), other).float()
    z_back = translator.attribute(by_reference, other).mode()
    rows = [image, translator.generator.render(shared, z, domain).float()]
    means_NKZ, _ = translator.prior(other)
    rows += [translator.generator.render(shared, z_k, other).float() for z_k in means_NKZ.unbind(1)]
    rows += [by_reference, translator.translate(by_reference, swap_halves(z_back), domain)]
    return grid(rows, enlargement(image.shape[2]))
