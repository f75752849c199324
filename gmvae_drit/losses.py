"""Losses of DRIT++/MDMM (arXiv:1905.01270) that the training step orders. Pure functions, means over the batch.

Legend: B batch, P patches, D domains, Z attribute size.
"""

from collections.abc import Callable

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


def binary_cross_entropy(before_tanh: Tensor, image: Tensor) -> Tensor:
    """-(t log p + (1 - t) log(1 - p)) with t = (x + 1) / 2, p = (tanh(a) + 1) / 2, mean over pixels.

    p = sigmoid(2 a): taken from a = `before_tanh`, it is finite and has a gradient 2 (p - t) where tanh(a) rounds to
    -1 or 1, which in half precision is soon. Least for p = t, where it is the entropy of t and not 0.
    """
    return F.binary_cross_entropy_with_logits(2 * before_tanh.float(), 0.5 * (image + 1))


RECONSTRUCTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "l1": lambda image, decoded, before_tanh: F.l1_loss(decoded, image),
    "mse": lambda image, decoded, before_tanh: F.mse_loss(decoded, image),
    "bce": lambda image, decoded, before_tanh: binary_cross_entropy(before_tanh, image),
}
"""Self reconstruction by the names of its types: of the image, the decoded one, and that before its tanh."""
