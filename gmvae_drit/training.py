"""A translation model as the engine sees it: networks, optimizers, and the training step in the order of the paper.

Legend: N batch (first half one domain, second half another), K components, Z attribute size.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from gmvae_drit import losses, mixture
from gmvae_drit.augmentations import deform
from gmvae_drit.config import TranslationSettings
from gmvae_drit.errors import ModelError
from gmvae_drit.images import to_unit
from gmvae_drit.model import Batch, Model, Progress, Update
from gmvae_drit.networks.content import ContentDiscriminator
from gmvae_drit.networks.discriminator import Discriminator, Verdict
from gmvae_drit.previews import preview_grid
from gmvae_drit.schedules import ema_decay, linear_decay, ttur_factors
from gmvae_drit.translator import Translator, swap_halves


class TranslationModel(Model):
    """DRIT++ with the attribute space that its settings name, for `domains` domains."""

    def __init__(self, settings: TranslationSettings, domains: int) -> None:
        super().__init__()
        self.settings = settings
        self.translator = Translator(settings, domains)
        self.discriminator = Discriminator(settings.discriminator, domains)
        self.content_discriminator = (
            ContentDiscriminator(settings.content_discriminator, self.translator.content.channels, domains)
            if settings.content_discriminator
            else None
        )
        self.space = settings.attribute_space(domains)
        self.averaged = copy.deepcopy(self.translator).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "TranslationModel":
        """As `nn.Module.train`, but the averaged translator never leaves evaluation mode."""
        super().train(mode)
        self.averaged.eval()
        return self

    def networks(self) -> dict[str, nn.Module]:
        """See `Model.networks`."""
        nets: dict[str, nn.Module] = {"translator": self.translator, "discriminator": self.discriminator}
        if self.content_discriminator is not None:
            nets["content_discriminator"] = self.content_discriminator
        return nets

    def optimizers(self) -> dict[str, Optimizer]:
        """See `Model.optimizers`."""
        o = self.settings.optimizer
        return {
            name: Adam(net.parameters(), o.learning_rate, o.betas, weight_decay=o.weight_decay, fused=True)
            for name, net in self.networks().items()
        }

    def learning_rates(self, progress: Progress) -> dict[str, float]:
        """See `Model.learning_rates`."""
        o = self.settings.optimizer
        rate = o.learning_rate * linear_decay(o.decay_start, progress)
        translator, discriminator = ttur_factors(o)
        rates = {"translator": rate * translator, "discriminator": rate * discriminator}
        if self.settings.content_discriminator:
            ratio = self.settings.content_discriminator.learning_rate_ratio
            rates["content_discriminator"] = rate * discriminator * ratio
        return rates

    def train_step(
        self, nets: Mapping[str, nn.Module], batch: Batch, update: Update, progress: Progress
    ) -> dict[str, Tensor]:
        """One forward of the translator, the discriminators on detached fakes, one backward of the translator.

        Raises ModelError where the images do not fit the networks' down-samplings.
        """
        image, domain = to_unit(batch["image"]), batch["domain"]
        self._check_size(image)
        view = deform(image, **self.settings.deformation.model_dump()) if self.settings.needs_view else None
        out = nets["translator"](image, domain, self.space.temperature(progress), view)

        terms_d = self._discriminator_terms(nets["discriminator"], image, domain, out, progress)
        update("discriminator", torch.stack(list(terms_d.values())).sum())
        c = self.settings.content_discriminator
        if c is not None and progress.step % c.every == 0:
            logits = nets["content_discriminator"](out["content"].detach())
            terms_d["content_discriminator"] = F.cross_entropy(logits, domain)
            update("content_discriminator", terms_d["content_discriminator"], c.clip_norm)

        # The translator learns through the bare discriminators: DDP would wait for gradients that are not due.
        with _frozen(self.discriminator, self.content_discriminator):
            terms = self._adversarial_terms(domain, out) | self._reconstruction_terms(image, out)
        terms |= self.space.posterior_terms(domain, out, progress)
        weights = self.settings.loss.model_dump()
        update("translator", torch.stack([weights[name] * term for name, term in terms.items()]).sum())
        if progress.ends_step:
            self._average(progress)
        self.space.after_step([self.translator.prior, self.averaged.prior], domain, out, progress)

        # The first ones are what the progress line shows.
        in_order = {"discriminator": terms_d["discriminator"]} | terms | terms_d
        log = {name: term.detach() for name, term in in_order.items()}
        return log | {name: torch.tensor(value) for name, value in self.space.schedules(progress).items()}

    @torch.no_grad()
    def _average(self, progress: Progress) -> None:
        """Take this step's weights into the averaged translator, and its buffers as they are."""
        average = get_ema_multi_avg_fn(ema_decay(self.settings.ema_decay, progress))
        average(list(self.averaged.parameters()), list(self.translator.parameters()), 0)
        for kept, now in zip(self.averaged.buffers(), self.translator.buffers(), strict=True):
            kept.copy_(now)

    def _check_size(self, image: Tensor) -> None:
        s, (H, W) = self.settings, image.shape[2:]
        cell = self.translator.generator.cell
        if H % cell or W % cell:
            raise ModelError(
                f"images of {H} x {W} pixels: model.content.downsamplings = {s.content.downsamplings} needs sides that "
                f"are multiples of {cell}; crop (data.crop) or build the shards with another --resize"
            )
        smallest = {
            "content": 2 * cell,  # reflection padding needs a second position
            "attribute": 2**s.attribute.downsamplings,
            "discriminator": 2 ** (s.discriminator.downsamplings + s.discriminator.scales - 1),
        }
        for name, side in smallest.items():
            if min(H, W) < side:
                raise ModelError(
                    f"images of {H} x {W} pixels are too small for model.{name}.downsamplings, which needs {side}; "
                    f"lower it"
                )

    def _discriminator_terms(
        self,
        discriminator: nn.Module,
        image: Tensor,
        domain: Tensor,
        out: Mapping[str, Tensor],
        progress: Progress,
    ) -> dict[str, Tensor]:
        """Weighted losses of the image discriminator: one forward over reals and both kinds of fakes."""
        w, d, other, N = self.settings.loss, self.settings.discriminator, swap_halves(domain), len(image)
        penalize = d.r1_weight > 0 and progress.step % d.r1_every == 0
        real = image.detach().requires_grad_(penalize)
        fakes = torch.cat([out["by_reference"], out["by_prior"]]).detach()
        verdict: Verdict = discriminator(torch.cat([real, fakes]), torch.cat([domain, other, other]))
        real_logits = [x[:N] for x in verdict.real]
        # The fakes count as their two kinds' losses added, as in DRIT++: twice the mean over both.
        fake_loss = 2 * losses.adversarial_fake([x[N:] for x in verdict.real])
        terms = {"discriminator": w.adversarial * (2 * losses.adversarial_real(real_logits) + fake_loss)}
        if verdict.domain:
            terms["classify_real"] = w.classify_real * losses.domain_classification(
                [x[:N] for x in verdict.domain], domain
            )
        if penalize:
            terms["r1"] = d.r1_weight * d.r1_every * losses.r1_penalty(real_logits, real)
        return terms

    def _adversarial_terms(self, domain: Tensor, out: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the discriminators hold against the translator."""
        w, other = self.settings.loss, swap_halves(domain)
        others = torch.cat([other, other])
        verdict = self.discriminator(torch.cat([out["by_reference"], out["by_prior"]]), others)
        terms = {"adversarial": 2 * losses.adversarial_real(verdict.real)}
        if verdict.domain:
            terms["classify_fake"] = 2 * losses.domain_classification(verdict.domain, others)
        if self.content_discriminator is not None and w.content_adversarial:
            terms["content_adversarial"] = losses.domain_confusion(self.content_discriminator(out["content"]))
        return terms

    def _reconstruction_terms(self, image: Tensor, out: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What must come back: the image, its content, the prior draw."""
        w = self.settings.loss
        terms = {
            "reconstruction": losses.RECONSTRUCTIONS[w.reconstruction_type](
                image, out["reconstruction"], out["reconstruction_before_tanh"]
            ),
            "cycle": F.l1_loss(out["cycle"], image),
            "content_norm": out["content"].square().mean(),
        } | self.space.regression_terms(out)
        if w.content_reconstruction:
            terms["content_reconstruction"] = F.l1_loss(
                out["fakes_content"], out["content"].detach().repeat(2, 1, 1, 1)
            )
        if w.attribute_consistency:
            terms["attribute_consistency"] = F.l1_loss(out["view_z"], out["mean_z"])
        if w.mode_seeking:
            terms["mode_seeking"] = losses.mode_seeking(
                out["by_prior"], out["by_prior2"], out["z_prior"], out["z_prior2"]
            )
        return terms

    @torch.no_grad()
    def eval_step(self, batch: Batch) -> dict[str, Tensor]:
        """L1 of self reconstruction and of cross-cycle, and I(x; y) / log K over the batch, averaged weights."""
        image, domain = to_unit(batch["image"]), batch["domain"]
        translator, other = self.averaged, swap_halves(domain)
        posterior = translator.attribute(image, domain)
        content, z = translator.content(image), posterior.mode()
        fake = translator.generator(content, swap_halves(z), other)
        fake_z = translator.attribute(fake, other).mode()
        cycle = translator.translate(fake.float(), swap_halves(fake_z), domain)
        return {
            "reconstruction": F.l1_loss(translator.generator(content, z, domain).float(), image),
            "cycle": F.l1_loss(cycle, image),
            "information": mixture.relative_information(posterior.logits_BK, domain),
        }

    @torch.no_grad()
    def previews(self, batch: Batch) -> dict[str, Tensor]:
        """See `Model.previews`."""
        return {"translations": preview_grid(self.averaged, to_unit(batch["image"]), batch["domain"])}

    def component_shares(self) -> Tensor | None:
        """See `Model.component_shares`."""
        return self.space.component_shares()

    def exported(self) -> nn.Module:
        """See `Model.exported`: the averaged translator."""
        return self.averaged


@contextmanager
def _frozen(*networks: nn.Module | None) -> Iterator[None]:
    """The networks' weights are constants within the block; gradients still pass through to the input."""
    parameters = [p for net in networks if net is not None for p in net.parameters()]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
