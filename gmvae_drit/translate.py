"""Translation of images by an exported model.

Legend: n samples, Z attribute size, K components, H, W image size.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gmvae_drit.errors import ModelError
from gmvae_drit.translator import Translator


@dataclass(frozen=True)
class Attributes:
    """The attributes to render an image with: codes (n, Z) and, for file names and captions, what each one is."""

    codes: Tensor
    names: tuple[str, ...]


def prior_attributes(
    translator: Translator, domain: int, samples: int, component: int | None, temperature: float, seed: int
) -> Attributes:
    """`samples` draws from the prior of one component, or from each component in turn where it is None.

    Raises ModelError if the mixture has no such component.
    """
    K = translator.prior.components
    if component is not None and not 0 <= component < K:
        raise ModelError(f"component {component}: this model has components 0 to {K - 1}")
    device = translator.prior.raw_mean_DKZ.device
    chosen = [component] * samples if component is not None else [i % K for i in range(samples)]
    torch.manual_seed(seed)
    y = torch.tensor(chosen, device=device)
    codes = translator.prior.sample(torch.full_like(y, domain), y, temperature)
    return Attributes(codes, tuple(f"c{k}-s{chosen[:i].count(k)}" for i, k in enumerate(chosen)))


@torch.inference_mode()
def reference_attribute(translator: Translator, reference: Tensor, domain: int) -> Attributes:
    """The attribute of a reference image (3, H, W) in [-1, 1] of the target domain.

    Raises ModelError if the image is too small for the encoder.
    """
    smallest = 2**translator.attribute.downsamplings
    if min(reference.shape[1:]) < smallest:
        raise ModelError(f"the reference must be at least {smallest} pixels on each side; raise --size")
    device = translator.prior.raw_mean_DKZ.device
    posterior = translator.attribute(reference[None].to(device), torch.tensor([domain], device=device))
    return Attributes(posterior.mode(), ("reference",))


@torch.inference_mode()
def translate_image(
    translator: Translator, image: Tensor, domain: int, attributes: Attributes, seed: int, batch: int = 16
) -> Tensor:
    """The image (3, H, W) in [-1, 1] in another domain, once per attribute: (n, 3, H, W) in [-1, 1] on the CPU.

    Any H and W: the image is padded to whole content cells, at least two each way, and cut back. The content is
    encoded once. `seed` fixes the generator's injected noise, so that one attribute looks the same on every image.
    """
    device = translator.prior.raw_mean_DKZ.device
    H, W = image.shape[1:]
    cell = translator.generator.cell
    bottom, right = (max(2, math.ceil(side / cell)) * cell - side for side in (H, W))
    padded = F.pad(image[None].to(device), (0, right, 0, bottom), mode="replicate")
    shared = translator.generator.shared(translator.content(padded))
    torch.manual_seed(seed)
    out = []
    for codes in attributes.codes.split(batch):
        target = torch.full((len(codes),), domain, device=device)
        out.append(
            translator.generator.render(shared.expand(len(codes), -1, -1, -1), codes, target).float().cpu()
        )
    return torch.cat(out)[:, :, :H, :W]
