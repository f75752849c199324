"""The space of the attribute z, which is all that the families of translation models differ in: its prior, how its
components are relaxed, and the loss terms of its posterior.

Legend: B batch, D domains, K components, Z attribute size. `out` is what `Translator.forward` returns.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvae_drit import mixture
from gmvae_drit.config import AttributeSettings, GmvaeDritSettings, LossWeights, WarmupSettings
from gmvae_drit.errors import ModelError
from gmvae_drit.gaussian_mixture import CodeMemory, fit_mixture, on_every_rank, refit_mixture
from gmvae_drit.model import Progress
from gmvae_drit.networks.attribute import AttributeEncoder, ResponsibilityEncoder
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
        self, priors: Sequence[Prior], domain: Tensor, out: Mapping[str, Tensor], progress: Progress
    ) -> None:
        """What the priors, trained and averaged, learn of the codes of a step other than by gradients."""

    def component_shares(self) -> Tensor | None:
        """See `Model.component_shares`."""
        return None

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

    def __init__(self, settings: GmvaeDritSettings, domains: int) -> None:
        super().__init__()
        m = settings.mixture
        self.settings, self.mixture, self.weights, self.domains = settings, m, settings.loss, domains
        self.components, self.hard = m.components, settings.gumbel.hard
        self.usage = mixture.ComponentUsage(domains, m.components)
        self.memory = CodeMemory(domains, m.warmup.codes, settings.attribute.size) if m.warmup else None

    def new_prior(self, size: int) -> Prior:
        """See `AttributeSpace.new_prior`."""
        return MixturePrior(self.mixture, size, self.domains)

    def new_encoder(self, settings: AttributeSettings, domains: int) -> AttributeEncoder:
        """See `AttributeSpace.new_encoder`."""
        if self.mixture.posterior == "responsibilities":
            return ResponsibilityEncoder(settings, domains)
        return super().new_encoder(settings, domains)

    def connect(self, encoder: AttributeEncoder, prior: Prior) -> None:
        """See `AttributeSpace.connect`: responsibilities are read off the prior."""
        if isinstance(encoder, ResponsibilityEncoder):
            encoder.read_off(prior)

    def temperature(self, progress: Progress) -> float:
        """See `AttributeSpace.temperature`."""
        return gumbel_temperature(self.settings.gumbel, progress)

    def posterior_terms(
        self, domain: Tensor, out: Mapping[str, Tensor], progress: Progress
    ) -> dict[str, Tensor]:
        """KL of the posterior to the mixture prior, and what keeps the mixture from collapsing."""
        w, logits = self.weights, out["q_logits"]
        gauss = expected_kl(out, w.free_bits)
        categ = mixture.categorical_kl(logits).clamp_min(w.categ_floor)
        usage_D, information_D, weight_D = self.usage(logits, domain)
        shortfall_D = (w.information_floor * math.log(self.components) - information_D).clamp_min(0)
        parted = self._parted(progress)
        terms = {
            "kl": linear_warmup(w.kl_warmup, progress) * (w.gauss * gauss + w.categ * categ),
            "usage": parted * (weight_D * usage_D).sum(),
            "information": parted * (weight_D * shortfall_D).sum(),
            "entropy": parted * mixture.categorical_entropy(logits).mean(),
        }
        if w.consistency:
            terms["consistency"] = parted * mixture.consistency(logits, out["view_logits"])
        return terms

    @torch.no_grad()
    def after_step(
        self, priors: Sequence[Prior], domain: Tensor, out: Mapping[str, Tensor], progress: Progress
    ) -> None:
        """See `AttributeSpace.after_step`: the mixture of recent codes, at the end of the warm-up and of the run. The
        same on every rank."""
        warmup = self.mixture.warmup
        if warmup is None or self.memory is None:
            return
        self.memory.add(out["mean_z"], domain)
        if not progress.ends_step:
            return
        step, full = progress.step + 1, self.mixture.covariance == "full"
        if step == self._first_step(progress):
            fits = [self._fit(warmup, d, seed=step) for d in range(self.domains)]
        elif step == progress.total_steps:
            now = priors[0]
            assert isinstance(now, MixturePrior)
            fits = [
                refit_mixture(self.memory.of(d), *now.components_of(d), full) for d in range(self.domains)
            ]
        else:
            return
        mean_DKZ, covariance_DKZZ = (on_every_rank(torch.stack(x)) for x in zip(*fits, strict=True))
        for prior in priors:
            assert isinstance(prior, MixturePrior)
            prior.set_components(mean_DKZ, covariance_DKZZ)

    def _fit(self, warmup: WarmupSettings, domain: int, seed: int) -> tuple[Tensor, Tensor]:
        assert self.memory is not None
        codes_NZ = self.memory.of(domain)
        if len(codes_NZ) < self.components:
            raise ModelError(
                f"model.mixture.warmup.share = {warmup.share} ends after {len(codes_NZ)} images of domain number "
                f"{domain}, too few for {self.components} components: raise it, or train.steps"
            )
        return fit_mixture(
            codes_NZ, self.components, self.mixture.covariance == "full", warmup.restarts, seed
        )

    def _first_step(self, progress: Progress) -> int:
        """The first step after the warm-up."""
        share = self.mixture.warmup.share if self.mixture.warmup else 0.0
        return max(1, round(share * progress.total_steps)) if share else 0

    def _parted(self, progress: Progress) -> bool:
        """Whether the components differ by now."""
        return progress.step >= self._first_step(progress)

    def regression_terms(self, out: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `AttributeSpace.regression_terms`; of the component as well."""
        component = F.cross_entropy(out["regressed_logits"], out["y_prior"])
        return super().regression_terms(out) | {"component_regression": component}

    def component_shares(self) -> Tensor | None:
        """See `Model.component_shares`."""
        return self.usage.shares()

    def schedules(self, progress: Progress) -> dict[str, float]:
        """See `AttributeSpace.schedules`."""
        return {"temperature": self.temperature(progress)}


def expected_kl(out: Mapping[str, Tensor], free_bits: float) -> Tensor:
    """KL of the posterior in `out` to its prior, the Gaussian part (`mixture.expected_gaussian_kl`)."""
    q, p = (out["q_mean"], out["q_logvar"]), (out["p_mean"], out["p_logvar"])
    return mixture.expected_gaussian_kl(out["q_logits"], q, p, free_bits, out.get("p_shear"))
