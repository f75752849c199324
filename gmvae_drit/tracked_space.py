"""The attribute space of a mixture that follows the codes by EM (`networks/tracked.py`)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gmvae_drit.attribute_space import AttributeSpace, expected_kl
from gmvae_drit.config import AttributeSettings, LossWeights, TrackingSettings
from gmvae_drit.model import Progress
from gmvae_drit.networks.attribute import AttributeEncoder
from gmvae_drit.networks.prior import Prior
from gmvae_drit.networks.tracked import TrackedAttributeEncoder, TrackedMixture
from gmvae_drit.schedules import linear_warmup


class TrackedSpace(AttributeSpace):
    """N(0, I) at first, then the mixture of recent codes. The components carry no gradient: codes are drawn to them."""

    hard = False

    def __init__(
        self, settings: TrackingSettings, components: int, weights: LossWeights, domains: int
    ) -> None:
        super().__init__()
        self.settings, self.components, self.weights, self.domains = settings, components, weights, domains

    def new_prior(self, size: int) -> Prior:
        """See `AttributeSpace.new_prior`."""
        return TrackedMixture(self.settings, self.components, size, self.domains)

    def new_encoder(self, settings: AttributeSettings, domains: int) -> AttributeEncoder:
        """See `AttributeSpace.new_encoder`: one Gaussian."""
        return TrackedAttributeEncoder(settings, domains)

    def connect(self, encoder: AttributeEncoder, prior: Prior) -> None:
        """See `AttributeSpace.connect`: the component is read off the prior."""
        assert isinstance(encoder, TrackedAttributeEncoder)
        assert isinstance(prior, TrackedMixture)
        encoder.read_off(prior)

    def temperature(self, progress: Progress) -> float:
        """See `AttributeSpace.temperature`: all components share one q(z|x), so that y needs no relaxation."""
        return 1.0

    def posterior_terms(
        self, domain: Tensor, out: Mapping[str, Tensor], progress: Progress
    ) -> dict[str, Tensor]:
        """sum_k p(k|z) KL(q(z|x) || p(z|k)) (VaDE, arXiv:1611.05148, eq. 12), the responsibilities held constant."""
        w = self.weights
        return {"kl": linear_warmup(w.kl_warmup, progress) * expected_kl(out, w.free_bits)}

    @torch.no_grad()
    def after_step(
        self, translator: nn.Module, domain: Tensor, out: Mapping[str, Tensor], progress: Progress
    ) -> None:
        """Remember the codes; let frame and mixture follow them. The same on every rank."""
        encoder, prior = translator.attribute, translator.prior
        assert isinstance(encoder, TrackedAttributeEncoder)
        assert isinstance(prior, TrackedMixture)
        mean_BZ = out["q_mean"][:, 0].detach()
        if not bool(mean_BZ.isfinite().all()):
            return  # the engine skips such a step, and so must what is remembered
        prior.remember(mean_BZ, domain)
        encoder.follow(mean_BZ, domain)
        first = int(self.settings.warmup * progress.total_steps)
        if progress.step == first:
            prior.fit(torch.Generator().manual_seed(progress.step))
        elif progress.step > first and progress.step % self.settings.every == 0:
            prior.follow()
