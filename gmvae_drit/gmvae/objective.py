"""The terms of the GMVAE's objective, as pure functions. Legend: B batch, K components, Z latent size. In nats."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gmvae_drit import mixture
from gmvae_drit.networks.attribute import AttributePosterior


def reconstruction(decoded: Tensor, image: Tensor, rec_type: Literal["bce", "mse"]) -> Tensor:
    """-log p(x | z) of each image (B,), summed over pixels (arXiv:1611.02648, eq. 4, term 1).

    bce: Bernoulli, `decoded` are logits: -sum x log p + (1 - x) log(1 - p).
    mse: Gaussian of variance 1 without its constant: sum (x - decoded)^2 / 2.
    """
    if rec_type == "bce":
        loss = F.binary_cross_entropy_with_logits(decoded, image, reduction="none")
    else:
        loss = 0.5 * (image - decoded).square()
    return loss.flatten(1).sum(1)


@torch.no_grad()
def negative_elbo(
    image: Tensor,
    posterior: AttributePosterior,
    prior: tuple[Tensor, Tensor],
    decode: Callable[[Tensor], Tensor],
    rec_type: Literal["bce", "mse"],
) -> Tensor:
    """-ELBO of the whole batch's mean (arXiv:1611.02648, eq. 4), in nats per image.

    = E_{q(y|x)}[ E_{q(z|x,y)} -log p(x|z) + KL(q(z|x,y) || p(z|y)) ] + KL(q(y|x) || p(y))
    The expectation over y is exact, over z one draw of each y; components of no weight are left out.
    """
    q_BK = posterior.logits_BK.softmax(1)
    row, y = (q_BK > 1e-4).nonzero(as_tuple=True)
    mean, logvar = posterior.mean_BKZ[row, y], posterior.logvar_BKZ[row, y]
    z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
    rec = torch.cat(
        [
            reconstruction(decode(z_n), image[row_n], rec_type)
            for z_n, row_n in zip(z.split(1000), row.split(1000), strict=True)
        ]
    )
    q = posterior.mean_BKZ, posterior.logvar_BKZ
    gauss = mixture.expected_gaussian_kl(posterior.logits_BK, q, prior, free_bits=0)
    return (q_BK[row, y] * rec).sum() / len(image) + gauss + mixture.categorical_kl(posterior.logits_BK)
