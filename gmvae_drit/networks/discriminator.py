"""Patch discriminators of images. Legend: B batch, D domains, H, W image size, P patches."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gmvae_drit.config import DiscriminatorSettings
from gmvae_drit.networks.blocks import InstanceNorm, WideConv2d


@dataclass(frozen=True)
class Verdict:
    """What the discriminators say of a batch, one entry per scale."""

    real: list[Tensor]
    """Logits of "real", (B, P) each."""
    domain: list[Tensor]
    """Domain logits (B, D) each; empty with `conditioning: select`."""


class PatchDiscriminator(nn.Module):
    """One scale: strided convolutions, then real-or-fake per patch and, with `classify`, the domain per image."""

    def __init__(self, settings: DiscriminatorSettings, domains: int) -> None:
        super().__init__()
        norm = spectral_norm if settings.spectral_norm else lambda module: module
        channels = [3, *(min(settings.width << i, settings.max_width) for i in range(settings.downsamplings))]
        layers: list[nn.Module] = []
        for i, (c_in, c_out) in enumerate(pairwise(channels), start=1):
            layers.append(norm(WideConv2d(c_in, c_out, 4, 2, 1)))
            if settings.norm == "instance" and i < settings.downsamplings:
                layers.append(InstanceNorm())
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.Sequential(*layers)
        self.select = settings.conditioning == "select"
        self.real_head = norm(nn.Conv2d(channels[-1], domains if self.select else 1, 1))
        self.domain_head = None if self.select else norm(nn.Linear(channels[-1], domains))

    def forward(self, image: Tensor, domain: Tensor) -> tuple[Tensor, Tensor | None]:
        """image (B, 3, H, W), domain (B,) to logits of "real" (B, P) and domain logits (B, D) or None."""
        features = self.layers(image)
        real = self.real_head(features).flatten(2)  # (B, 1 or D, P)
        if self.select:
            index = domain[:, None, None].expand(-1, 1, real.shape[2])
            real = real.gather(1, index)
        logits = self.domain_head(features.mean((2, 3))).float() if self.domain_head is not None else None
        return real.squeeze(1).float(), logits


class Discriminator(nn.Module):
    """Patch discriminators at `scales` image sizes."""

    def __init__(self, settings: DiscriminatorSettings, domains: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(settings, domains) for _ in range(settings.scales))

    def forward(self, image: Tensor, domain: Tensor) -> Verdict:
        """image (B, 3, H, W) in [-1, 1], domain (B,) int64: the domain that each image claims to be of."""
        verdict = Verdict([], [])
        for i, scale in enumerate(self.scales):
            if i:
                image = F.avg_pool2d(image, 2)
            real, logits = scale(image, domain)
            verdict.real.append(real)
            if logits is not None:
                verdict.domain.append(logits)
        return verdict
