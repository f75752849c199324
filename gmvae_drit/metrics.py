"""What a trained translator is worth: content kept, components used, components that differ.

Legend: n images, K components, F features, H, W image size. All without gradient and noise-free unless it is said.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gmvae_drit.classifier import Classifier
from gmvae_drit.mixture import relative_information
from gmvae_drit.translator import Translator


@torch.inference_mode()
def accuracy(classifier: Classifier, image: Tensor, label: Tensor) -> float:
    """Share of `image` (n, 3, H, W) that `classifier` gives its `label` (n,)."""
    return float((classifier(image).argmax(1) == label).float().mean())


@torch.inference_mode()
def translate_by_prior(translator: Translator, image: Tensor, domain: int, temperature: float) -> Tensor:
    """Each image once, its attribute drawn from the prior of `domain`, the components taking turns: (n, 3, H, W)."""
    target = torch.full((len(image),), domain)
    y = torch.arange(len(image)) % translator.prior.components
    return translator.translate(image, translator.prior.sample(target, y, temperature), target)


@torch.inference_mode()
def translate_by_reference(translator: Translator, image: Tensor, reference: Tensor, domain: int) -> Tensor:
    """Each image once, with the attribute of the reference (n, 3, H, W) of `domain` at its place: (n, 3, H, W)."""
    target = torch.full((len(image),), domain)
    return translator.translate(image, translator.attribute(reference, target).mode(), target)


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
    K = translator.prior.components
    if K == 1:
        return Usage(0.0, 0.0, 0.0)
    domains = torch.full((len(image),), domain)
    logits_BK = translator.attribute(image, domains).logits_BK
    share_K = logits_BK.argmax(1).bincount(minlength=K) / len(image)
    mean_entropy = _entropy(logits_BK.softmax(1).mean(0))
    information = float(relative_information(logits_BK, domains))
    return Usage(mean_entropy / math.log(K), information, _entropy(share_K) / math.log(K))


def _entropy(p: Tensor) -> float:
    return float(torch.distributions.Categorical(probs=p).entropy())


@dataclass(frozen=True)
class Distances:
    """Mean pairwise distance of pictures of one content."""

    between: float
    """Of pictures by different components."""
    within: float
    """Of pictures by one component."""


@torch.inference_mode()
def component_distances(
    translator: Translator,
    image: Tensor,
    domain: int,
    temperature: float,
    features: Callable[[Tensor], Tensor],
    draws: int = 3,
) -> Distances:
    """Translate each image to `domain` by `draws` prior draws of every component; compare `features` of the pictures.

    `features` maps (n, 3, H, W) to (n, ...); the distance is the mean absolute difference of its elements.
    """
    target = torch.full((len(image),), domain)
    content = translator.generator.shared(translator.content(image))
    pictures: list[tuple[int, Tensor]] = []
    for k in range(translator.prior.components):
        for _ in range(draws):
            z = translator.prior.sample(target, torch.full_like(target, k), temperature)
            pictures.append((k, features(translator.generator.render(content, z, target))))
    between: list[float] = []
    within: list[float] = []
    for (k, a), (other, b) in itertools.combinations(pictures, 2):
        (within if k == other else between).append(float((a - b).abs().mean()))
    return Distances(sum(between) / max(1, len(between)), sum(within) / max(1, len(within)))
