"""Are the components of the mixture used, and do they differ?

Legend: n images, K components, H, W image size. Without gradient.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gmvae_drit.metrics.perceptual import PictureDistance
from gmvae_drit.mixture import relative_information
from gmvae_drit.translator import Translator


@dataclass(frozen=True)
class Usage:
    """How one domain's images are spread over the components; each is a share of log K, in [0, 1]."""

    entropy: float
    """H of the mean q(y|x): 1 if all components are used equally, or if q(y|x) never decides."""
    information: float
    """I(x; y): 1 if every image has one component and all are used equally. The one that cannot be fooled."""
    argmax_entropy: float
    """H of the most probable components."""


@torch.inference_mode()
def component_usage(translator: Translator, image: Tensor, domain: int) -> Usage:
    """Usage of the components by the images (n, 3, H, W) of one domain; all zero where K = 1."""
    domains = torch.full((len(image),), domain, device=image.device)
    return usage(translator.attribute(image, domains).logits_BK)


def usage(logits_nK: Tensor) -> Usage:
    """Usage of the components by images of one domain, from the logits of q(y|x)."""
    n, K = logits_nK.shape
    if K == 1:
        return Usage(0.0, 0.0, 0.0)
    share_K = logits_nK.argmax(1).bincount(minlength=K) / n
    mean_entropy = _entropy(logits_nK.softmax(1).mean(0))
    information = float(relative_information(logits_nK, torch.zeros(n, device=logits_nK.device)))
    return Usage(mean_entropy / math.log(K), information, _entropy(share_K) / math.log(K))


def _entropy(p: Tensor) -> float:
    return float(torch.distributions.Categorical(probs=p).entropy())


@dataclass(frozen=True)
class Distances:
    """Mean distance of two pictures of one content."""

    between: float
    """By two different components; 0 where K = 1."""
    within: float
    """By one component."""
    overall: float
    """By two independent draws from the prior: what K = 1 can be compared in."""


@torch.inference_mode()
def component_distances(
    translator: Translator,
    image: Tensor,
    domain: int,
    temperature: float,
    distance: PictureDistance,
    draws: int = 3,
    batch: int = 16,
) -> Distances:
    """Translate each image (n, 3, H, W) to `domain` by `draws` prior draws of every component, and compare them.

    All pictures of `batch` images are held at once. Needs two draws.
    """
    K = translator.prior.components
    between, within = 0.0, 0.0
    for part in image.split(batch):
        target = torch.full((len(part),), domain, device=part.device)
        content = translator.generator.shared(translator.content(part))
        pictures: list[tuple[int, Tensor]] = []
        for k in (k for k in range(K) for _ in range(draws)):
            z = translator.prior.sample(target, torch.full_like(target, k), temperature)
            pictures.append((k, distance.embed(translator.generator.render(content, z, target).float())))
        for (k, a), (other, b) in itertools.combinations(pictures, 2):
            total = float(distance.between(a, b).sum())
            within, between = (within + total, between) if k == other else (within, between + total)
    pairs_within = len(image) * K * math.comb(draws, 2)
    pairs_between = len(image) * math.comb(K, 2) * draws**2
    within, between = within / pairs_within, between / max(1, pairs_between)
    return Distances(between, within, within / K + between * (K - 1) / K)
