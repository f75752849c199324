"""The space of the attribute z, which is all that the families of translation models differ in: its prior, how its
components are relaxed, and the loss terms of its posterior.

Legend: B batch, D domains, K components, Z attribute size. `out` is what `Translator.forward` returns.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from gmvae_drit import mixture
from gmvae_drit.config import (
    AttributeSettings,
    GumbelSettings,
    LossWeights,
    MixtureLossWeights,
    MixtureSettings,
)
from gmvae_drit.model import Progress
from gmvae_drit.networks.attribute import AttributeEncoder
from gmvae_drit.networks.prior import MixturePrior, Prior, StandardGaussian
from gmvae_drit.schedules import gumbel_temperature, linear_warmup


class AttributeSpace(nn.Module, ABC):
    """What one family makes of the attribute. Loss terms are returned by the names of their weights, unweighted."""

    components: int
    """Components K of the posterior and of the prior."""
    hard: bool
    """Whether a sample's y is one-hot (straight-through)."""

    @abstractmethod
    def new_prior(self, size: int) -> Prior:
        """p(y) p(z | y, d) of attributes of `size` dimensions."""

    def new_encoder(self, settings: AttributeSettings, domains: int) -> AttributeEncoder:
        """E_a."""
        return AttributeEncoder(settings, self.components, domains)

    def connect(self, encoder: AttributeEncoder, prior: Prior) -> None:
        """Let the encoder know the prior, where it needs to."""

    @abstractmethod
    def temperature(self, progress: Progress) -> float:
        """Temperature of the relaxed y."""

    @abstractmethod
    def posterior_terms(
        self, domain: Tensor, out: Mapping[str, Tensor], progress: Progress
    ) -> dict[str, Tensor]:
        """What q(y, z | x) of a batch must satisfy."""

    def regression_terms(self, out: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """How far a prior draw is from what is encoded from its translation."""
        return {"latent_regression": F.l1_loss(out["regressed_z"], out["z_prior"])}

    def after_step(
        self, translator: nn.Module, domain: Tensor, out: Mapping[str, Tensor], progress: Progress
    ) -> None:
        """What follows the codes of a step other than by gradients."""

    def schedules(self, progress: Progress) -> dict[str, float]:
        """What changes over a run, for the log."""
        return {}


class GaussianSpace(AttributeSpace):
    """One Gaussian N(0, I) (DRIT++, arXiv:1905.01270, section 3.3): a mixture of one component that learns nothing."""

    components = 1
    hard = False

    def __init__(self, weights: LossWeights) -> None:
        super().__init__()
        self.weights = weights

    def new_prior(self, size: int) -> Prior:
        """See `AttributeSpace.new_prior`."""
        return StandardGaussian(size)

    def temperature(self, progress: Progress) -> float:
        """See `AttributeSpace.temperature`: of one component every relaxation is 1."""
        return 1.0

    def posterior_terms(
        self, domain: Tensor, out: Mapping[str, Tensor], progress: Progress
    ) -> dict[str, Tensor]:
        """KL(q(z|x) || N(0, I))."""
        w = self.weights
        return {"kl": linear_warmup(w.kl_warmup, progress) * expected_kl(out, w.free_bits)}


class MixtureSpace(AttributeSpace):
    """A Gaussian mixture in each domain (GMVAE, arXiv:1611.02648)."""

    def __init__(
        self, settings: MixtureSettings, gumbel: GumbelSettings, weights: MixtureLossWeights, domains: int
    ) -> None:
        super().__init__()
        self.settings, self.gumbel, self.weights, self.domains = settings, gumbel, weights, domains
        self.components, self.hard = settings.components, gumbel.hard
        self.usage = mixture.ComponentUsage(domains, settings.components)

    def new_prior(self, size: int) -> Prior:
        """See `AttributeSpace.new_prior`."""
        return MixturePrior(self.settings, size, self.domains)

    def temperature(self, progress: Progress) -> float:
        """See `AttributeSpace.temperature`."""
        return gumbel_temperature(self.gumbel, progress)

    def posterior_terms(
        self, domain: Tensor, out: Mapping[str, Tensor], progress: Progress
    ) -> dict[str, Tensor]:
        """KL of the posterior to the mixture prior, and what keeps the mixture from collapsing."""
        w = self.weights
        gauss = expected_kl(out, w.free_bits)
        categ = mixture.categorical_kl(out["q_logits"])
        usage_D, information_D, weight_D = self.usage(out["q_logits"], domain)
        shortfall_D = (w.information_floor * math.log(self.components) - information_D).clamp_min(0)
        return {
            "kl": linear_warmup(w.kl_warmup, progress) * (w.gauss * gauss + w.categ * categ),
            "usage": (weight_D * usage_D).sum(),
            "information": (weight_D * shortfall_D).sum(),
        }

    def regression_terms(self, out: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `AttributeSpace.regression_terms`; of the component as well."""
        component = F.cross_entropy(out["regressed_logits"], out["y_prior"])
        return super().regression_terms(out) | {"component_regression": component}

    def schedules(self, progress: Progress) -> dict[str, float]:
        """See `AttributeSpace.schedules`."""
        return {"temperature": self.temperature(progress)}


def expected_kl(out: Mapping[str, Tensor], free_bits: float) -> Tensor:
    """KL of the posterior in `out` to its prior, the Gaussian part (`mixture.expected_gaussian_kl`)."""
    q, p = (out["q_mean"], out["q_logvar"]), (out["p_mean"], out["p_logvar"])
    return mixture.expected_gaussian_kl(out["q_logits"], q, p, free_bits)
