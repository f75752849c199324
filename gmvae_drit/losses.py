"""Losses of DRIT++/MDMM (arXiv:1905.01270) that the training step orders. Pure functions, means over the batch.

Legend: B batch, P patches, D domains, Z attribute size.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def adversarial_real(logits: list[Tensor]) -> Tensor:
    """-log sigmoid(logits) (arXiv:1406.2661, section 3): the discriminator's on reals, and the non-saturating
    generator's on fakes. `logits` are (B, P), one tensor per scale; summed over scales."""
    return sum((F.softplus(-x).mean() for x in logits), start=torch.zeros((), device=logits[0].device))


def adversarial_fake(logits: list[Tensor]) -> Tensor:
    """-log(1 - sigmoid(logits)): the discriminator's on fakes. As `adversarial_real` otherwise."""
    return sum((F.softplus(x).mean() for x in logits), start=torch.zeros((), device=logits[0].device))


def domain_classification(logits: list[Tensor], domain: Tensor) -> Tensor:
    """Cross-entropy of the domain logits (B, D), summed over scales."""
    return sum((F.cross_entropy(x, domain) for x in logits), start=torch.zeros((), device=domain.device))


def r1_penalty(logits: list[Tensor], image: Tensor) -> Tensor:
    """|grad D(x)|^2 / 2 on real images (arXiv:1801.04406, eq. 9); `image` must require gradients."""
    score = sum((x.mean(1).sum() for x in logits), start=torch.zeros((), device=image.device))
    (gradient,) = torch.autograd.grad(score, image, create_graph=True)
    return 0.5 * gradient.float().square().sum((1, 2, 3)).mean()


def domain_confusion(logits: Tensor) -> Tensor:
    """Cross-entropy of the content discriminator's logits (B, D) to the uniform distribution.

    DRIT++ (section 3.1) asks for probability 1/2 of either domain; this is the same for any number of domains.
    """
    return -logits.log_softmax(1).mean()


def mode_seeking(image: Tensor, image2: Tensor, z: Tensor, z2: Tensor) -> Tensor:
    """1 / (|image - image2|_1 / |z - z2|_1 + 1e-5) (arXiv:1903.05628, eq. 3 as minimised), mean over the batch.

    Images (B, 3, H, W) of one content, codes (B, Z); the norms are means over elements. Per sample, so that the mean
    over ranks is the loss of the joined batch.
    """
    d_image = (image - image2).abs().flatten(1).mean(1)
    d_z = (z - z2).abs().mean(1)
    return (1 / (d_image / d_z.clamp_min(1e-5) + 1e-5)).mean()
