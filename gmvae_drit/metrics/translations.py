"""Translations to measure, and how well images come through them.

Legend: n images, K components, H, W image size. Without gradient; noise-free unless it is said.
"""

import torch
from torch import Tensor

from gmvae_drit.classifier import Classifier
from gmvae_drit.translator import Translator


@torch.inference_mode()
def accuracy(classifier: Classifier, image: Tensor, label: Tensor) -> float:
    """Share of `image` (n, 3, H, W) that `classifier` gives its `label` (n,)."""
    return float((classifier(image).argmax(1) == label).float().mean())


def components_in_turn(translator: Translator, n: int, first: int = 0) -> Tensor:
    """0, 1, …, K - 1, 0, … (n,) int64; `first` is the place of the first image in a larger set that comes in batches.

    What a translation by component k shows is measured by a `contingency` of these and of what a judge sees.
    """
    return torch.arange(first, first + n) % translator.prior.components


@torch.inference_mode()
def translate_by_prior(
    translator: Translator, image: Tensor, domain: int, temperature: float, first: int = 0
) -> Tensor:
    """Each image once, its attribute drawn from the prior of `domain` by `components_in_turn`: (n, 3, H, W)."""
    y = components_in_turn(translator, len(image), first)
    return translate_by_component(translator, image, y, domain, temperature)


@torch.inference_mode()
def translate_by_component(
    translator: Translator, image: Tensor, component: Tensor, domain: int, temperature: float
) -> Tensor:
    """Each image once, its attribute drawn from its `component` (n,) of the prior of `domain`: (n, 3, H, W)."""
    target, y = torch.full((len(image),), domain, device=image.device), component.to(image.device)
    return translator.translate(image, translator.prior.sample(target, y, temperature), target)


@torch.inference_mode()
def translate_by_reference(translator: Translator, image: Tensor, reference: Tensor, domain: int) -> Tensor:
    """Each image once, with the attribute of the reference (n, 3, H, W) of `domain` at its place: (n, 3, H, W)."""
    target = torch.full((len(image),), domain, device=image.device)
    return translator.translate(image, translator.attribute(reference, target).mode(), target)


@torch.inference_mode()
def reconstruction_error(translator: Translator, image: Tensor, domain: int) -> Tensor:
    """|G(E_c(x), E_a(x)) - x| of images (n, 3, H, W) of `domain`, mean over pixels, (n,)."""
    return _l1(translate_by_reference(translator, image, image, domain), image)


@torch.inference_mode()
def cycle_error(translator: Translator, image: Tensor, translation: Tensor, domain: int) -> Tensor:
    """|x' - x|, mean over pixels, (n,): x' has the content of the `translation` and the attribute of its source x,
    `image` (n, 3, H, W) of `domain`. How much of the content outlives a translation."""
    return _l1(translate_by_reference(translator, translation, image, domain), image)


def _l1(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().flatten(1).mean(1)
