"""The translator: encoders, prior and generator as one network, with the single forward pass of a step.

Legend: N batch (first half one domain, second half another), Z attribute size, K components, H, W image size.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gmvae_drit.config import TranslationSettings
from gmvae_drit.networks.attribute import AttributePosterior
from gmvae_drit.networks.content import ContentEncoder
from gmvae_drit.networks.generators import build_generator


def swap_halves(x: Tensor) -> Tensor:
    """Exchange the two domains' halves of a batch: sample i meets its partner of the other domain."""
    return x.roll(x.shape[0] // 2, 0)


class Translator(nn.Module):
    """E_c, E_a, p(z | y, d) and G."""

    def __init__(self, settings: TranslationSettings, domains: int) -> None:
        super().__init__()
        size, space = settings.attribute.size, settings.attribute_space(domains)
        self.content = ContentEncoder(settings.content)
        self.attribute = space.new_encoder(settings.attribute, domains)
        self.prior = space.new_prior(size)
        space.connect(self.attribute, self.prior)
        self.generator = build_generator(
            settings.generator, self.content.channels, settings.content.downsamplings, size, domains
        )
        self.hard_gumbel = space.hard
        self.mode_seeking = settings.loss.mode_seeking > 0
        self.content_reconstruction = settings.loss.content_reconstruction > 0

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(
        self, image: Tensor, domain: Tensor, temperature: float, view: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Everything that the losses of one step need, from one pass over a batch of two domains.

        image (N, 3, H, W) in [-1, 1], domain (N,) with sample i and i + N/2 of different domains. All fakes of both
        domains come from one generator call, each content's shared part is computed once, and the cross-cycle
        (DRIT++, section 3.2) from a second call. Of `view`, a changed copy of the images, the posterior alone is
        computed. Keys ending in `_logits`, `_mean`, `_logvar` are of q(y|x), q(z|x,y).
        """
        N, other = len(image), swap_halves(domain)
        content = self.content(image)
        posterior: AttributePosterior = self.attribute(image, domain)
        z = posterior.sample(temperature, self.hard_gumbel)
        y_prior = self.prior.sample_component(other)
        z_prior = self.prior.sample(other, y_prior)

        attributes, domains = [z, swap_halves(z), z_prior], [domain, other, other]
        if self.mode_seeking:
            attributes.append(self.prior.sample(other, self.prior.sample_component(other)))
            domains.append(other)
        shared = self.generator.shared(content)
        copies = shared.repeat(len(domains), 1, 1, 1)
        before_tanh = self.generator.before_tanh(copies, torch.cat(attributes), torch.cat(domains))
        images = before_tanh.tanh().float().split(N)
        reconstruction, by_reference, by_prior = images[:3]

        fakes = torch.cat([by_reference, by_prior]) if self.content_reconstruction else by_reference
        fakes_content = self.content(fakes)
        cycle_content = fakes_content[:N]
        cycle_z = self.attribute(by_reference, other).sample(temperature, self.hard_gumbel)
        cycle = self.generator(cycle_content, swap_halves(cycle_z), domain).float()
        regressed = self._attribute_held_constant(by_prior, other)

        prior_mean, prior_logvar = self.prior(domain)
        prior_shear = self.prior.shear(domain)
        out = {
            "content": content.float(),
            "fakes_content": fakes_content.float(),
            "q_logits": posterior.logits_BK,
            "q_mean": posterior.mean_BKZ,
            "q_logvar": posterior.logvar_BKZ,
            "mean_z": posterior.mean(),
            "p_mean": prior_mean,
            "p_logvar": prior_logvar,
            "reconstruction": reconstruction,
            "reconstruction_before_tanh": before_tanh[:N],
            "by_reference": by_reference,
            "by_prior": by_prior,
            "cycle": cycle,
            "y_prior": y_prior,
            "z_prior": z_prior,
            "regressed_logits": regressed.logits_BK,
            "regressed_z": regressed.mean_of(y_prior),
        }
        if self.mode_seeking:
            out |= {"by_prior2": images[3], "z_prior2": attributes[3]}
        if view is not None:
            of_view: AttributePosterior = self.attribute(view, domain)
            out |= {"view_z": of_view.mean(), "view_logits": of_view.logits_BK[None]}
        if prior_shear is not None:
            out["p_shear"] = prior_shear
        return out

    def _attribute_held_constant(self, image: Tensor, domain: Tensor) -> AttributePosterior:
        """E_a with constant weights: gradients reach the image only, so the latent regression cannot be won by
        moving the encoder to the generator (DRIT++ updates G and E_c alone by this loss)."""
        constants = {name: p.detach() for name, p in self.attribute.named_parameters()}
        posterior: AttributePosterior = functional_call(self.attribute, constants, (image, domain))
        return posterior

    def translate(self, image: Tensor, attribute: Tensor, domain: Tensor) -> Tensor:
        """Content of `image` (N, 3, H, W) in [-1, 1], rendered with `attribute` (N, Z) in `domain` (N,)."""
        out: Tensor = self.generator(self.content(image), attribute, domain).float()
        return out
