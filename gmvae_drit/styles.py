"""What an image can be rendered with: prior draws, attributes of references, and ways between them.

Every draw has its own seed, made of the run's seed and of what the draw is called: it depends neither on the device,
nor on how many others are asked for, nor on the batch it is rendered in.
Legend: F frames, K components, Z attribute size, H, W image size.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gmvae_drit.errors import ModelError
from gmvae_drit.translator import Translator


@dataclass(frozen=True)
class Style:
    """Attributes for one picture (F = 1), or for the frames of a way from one attribute to another."""

    domain: int
    name: str
    """For file names, such as `c2-s0`."""
    codes: Tensor
    """(F, Z) on the CPU, fp32."""


@dataclass(frozen=True)
class Draws:
    """Which draws from the prior of one domain: all that decides them."""

    domain: int
    domain_name: str
    components: tuple[int, ...]
    samples: int
    """Draws altogether; the components take turns."""
    temperature: float
    """Scale of a draw's deviation from its component's mean."""
    seed: int

    def styles(self, translator: Translator, image: str = "") -> list[Style]:
        """The draws, anew for each `image` name; those of the empty name are for every image."""
        out = []
        for i in range(self.samples):
            k, sample = self.components[i % len(self.components)], i // len(self.components)
            codes = self._draw(translator, k, sample, image)
            out.append(Style(self.domain, f"c{k}-s{sample}", codes))
        return out

    def ways(self, translator: Translator, frames: int, image: str = "") -> list[Style]:
        """`samples` ways of so many `frames` through the components in their order, by draws that `styles` gives."""
        out = []
        for sample in range(self.samples):
            ends = torch.cat([self._draw(translator, k, sample, image) for k in self.components])
            name = "-".join(f"c{k}" for k in self.components)
            out.append(Style(self.domain, f"{name}-s{sample}", way(ends, frames)))
        return out

    @torch.inference_mode()
    def _draw(self, translator: Translator, k: int, sample: int, image: str) -> Tensor:
        """z of p(z | y = k) for noise that is a function of its name, (1, Z)."""
        device = next(translator.parameters()).device
        shape = (1, translator.generator.size)
        noise_BZ = self.temperature * keyed_noise(shape, self.seed, self.domain_name, k, sample, image)
        domain, component = (torch.tensor([i], device=device) for i in (self.domain, k))
        return translator.prior.place(domain, component, noise_BZ.to(device)).float().cpu()


def keyed_noise(shape: Sequence[int], *key: str | int) -> Tensor:
    """Standard normal numbers that are a function of `key`, on the CPU."""
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def check_components(translator: Translator, asked: Sequence[int]) -> tuple[int, ...]:
    """The components `asked` for, or all where it is empty. Raises ModelError if the prior has no such component."""
    K = translator.prior.components
    for k in asked:
        if not 0 <= k < K:
            known = f"components 0 to {K - 1}" if K > 1 else "a single Gaussian, which is component 0"
            raise ModelError(f"component {k}: this model has {known}")
    return tuple(asked) or tuple(range(K))


@torch.inference_mode()
def reference_code(translator: Translator, reference: Tensor, domain: int) -> Tensor:
    """The attribute (1, Z) of a reference image (3, H, W) in [-1, 1] of `domain`, without noise.

    Raises ModelError if the image is too small for the encoder.
    """
    smallest = 2**translator.attribute.downsamplings
    if min(reference.shape[1:]) < smallest:
        raise ModelError(f"a reference must be at least {smallest} pixels on each side; raise --size")
    device = next(translator.parameters()).device
    posterior = translator.attribute(reference[None].to(device), torch.tensor([domain], device=device))
    code: Tensor = posterior.mode().float().cpu()
    return code


def way(ends: Tensor, frames: int) -> Tensor:
    """`frames` codes (F, Z), evenly along the straight lines through the `ends` (n, Z), n > 1."""
    lines = len(ends) - 1
    place = (
        torch.arange(frames) * lines
    )  # in steps of 1 / (frames - 1): integers, so that the ends are met exactly
    line = (place // (frames - 1)).clamp(max=lines - 1)
    share = (place - line * (frames - 1))[:, None] / (frames - 1)
    return (1 - share) * ends[line] + share * ends[line + 1]
