"""The published update of DRIT++/MDMM, which `benchmarks/step.py` measures the shipped one against.

It (arXiv:1808.00948, arXiv:1905.01270) is written down here from the papers and from the order of operations in the
public code. A full forward serves the discriminators, which judge (reals, fakes by reference) and (reals, fakes by
prior draws) in separate calls. A second full forward serves encoders and generator, which learn from two backward
passes through one graph: everything that involves a reference's attribute, then everything that involves a prior draw
(for E_c and G alone), with one optimizer step each. The generator makes the fakes of either domain in one call, with
all of its blocks run anew for every attribute. Nothing is frozen on the way.

With one forward it is the public code as it stands: it keeps the graph of the discriminators' forward, steps the
optimizers between the two backward passes, and so stops with an in-place error on today's PyTorch
(github.com/HsinYingLee/DRIT, issue 62, where the second forward is the advice given).

For the same networks, weights, objective and noise as the shipped side, this one gives up what is published otherwise,
mostly to its advantage: one image discriminator for both kinds of fakes instead of two (hence one optimizer step of it,
and half the weight for each of its two looks at the domain of the reals); this project's attribute encoder, mixture
prior and discriminators; losses as means over batch and domains where the public code adds the domains up; uniform
confusion of the content discriminator, cross-entropy of the domains; a prior draw per image; both backward passes
before the first optimizer step; fused Adam.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from benchmarks.step_shipped import PROGRESS
from gmvae_drit import losses, mixture
from gmvae_drit.model import Batch
from gmvae_drit.training import TranslationModel
from gmvae_drit.translator import swap_halves

TEMPERATURE = 1.0  # of the Gumbel-softmax at epoch 0
Terms = dict[str, Tensor]


class PublishedUpdate:
    """One update in the published order, on the networks of a `TranslationModel`."""

    def __init__(
        self,
        model: TranslationModel,
        forwards: int,
        optimizer: Callable[[list[nn.Parameter], float], Optimizer],
    ) -> None:
        """`forwards`: 2, or 1 to let encoders and generator use the graph of the discriminators' forward."""
        assert model.content_discriminator is not None
        self.model, self.forwards = model, forwards
        t, rates = model.translator, model.learning_rates(PROGRESS)
        rate = rates["translator"]
        self.content_discriminator = model.content_discriminator
        self.content_opt = optimizer(list(t.content.parameters()), rate)
        self.attribute_opt = optimizer([*t.attribute.parameters(), *t.prior.parameters()], rate)
        self.generator_opt = optimizer(list(t.generator.parameters()), rate)
        self.discriminator_opt = optimizer(list(model.discriminator.parameters()), rates["discriminator"])
        self.content_discriminator_opt = optimizer(
            list(self.content_discriminator.parameters()), rates["content_discriminator"]
        )
        self.translator_gradient: dict[nn.Parameter, Tensor] = {}

    def step(self, batch: Batch, keep_gradient: bool = False) -> Terms:
        """One update. Both forwards draw the same noise, so that the losses can be compared."""
        image, domain = batch["image"], batch["domain"]
        noise = torch.get_rng_state()
        out = self.forward(image, domain)
        terms = self.update_content_discriminator(out, domain) | self.update_discriminator(image, domain, out)
        if self.forwards == 2:
            torch.set_rng_state(noise)
            out = self.forward(image, domain)
        return terms | self.update_translator(image, domain, out, keep_gradient)

    def forward(self, image: Tensor, domain: Tensor) -> Terms:
        """All fakes, reconstructions and codes of one batch [a, b]."""
        t, other, half = self.model.translator, swap_halves(domain), len(image) // 2
        content = t.content(image)
        posterior = t.attribute(image, domain)
        z = posterior.sample(TEMPERATURE, t.hard_gumbel)
        y_prior = t.prior.sample_component(other)
        z_prior = t.prior.sample(other, y_prior)
        (content_a, content_b), (z_a, z_b) = content.split(half), z.split(half)
        z_prior_b, z_prior_a = z_prior.split(half)  # the first half is of domain a, drawn in domain b
        d_a, d_b = domain.split(half)

        # Images of domain a from the contents of (b, a, b), and of domain b from those of (a, b, a).
        in_a = self.generate([content_b, content_a, content_b], [z_a, z_a, z_prior_a], d_a)
        in_b = self.generate([content_a, content_b, content_a], [z_b, z_b, z_prior_b], d_b)
        by_reference, by_prior = torch.cat([in_b[0], in_a[0]]), torch.cat([in_b[2], in_a[2]])

        cycle_content_a, cycle_content_b = t.content(by_reference).split(half)
        cycle_z_b, cycle_z_a = t.attribute(by_reference, other).sample(TEMPERATURE, t.hard_gumbel).split(half)
        (cycle_a,) = self.generate([cycle_content_a], [cycle_z_a], d_a)
        (cycle_b,) = self.generate([cycle_content_b], [cycle_z_b], d_b)
        prior_mean, prior_logvar = t.prior(domain)
        return {
            "content": content.float() if content.dtype == torch.bfloat16 else content,
            "q_logits": posterior.logits_BK,
            "q_mean": posterior.mean_BKZ,
            "q_logvar": posterior.logvar_BKZ,
            "p_mean": prior_mean,
            "p_logvar": prior_logvar,
            "reconstruction": torch.cat([in_a[1], in_b[1]]),
            "by_reference": by_reference,
            "by_prior": by_prior,
            "cycle": torch.cat([cycle_a, cycle_b]),
            "z_prior": z_prior,
            "regressed_z": t.attribute(by_prior, other).mean_of(y_prior),
        }

    def generate(self, contents: list[Tensor], codes: list[Tensor], domain: Tensor) -> tuple[Tensor, ...]:
        """One generator call: contents[i] with attributes codes[i], all in one domain."""
        generator = self.model.translator.generator
        images: Tensor = generator(torch.cat(contents), torch.cat(codes), domain.repeat(len(codes)))
        return images.split(len(domain))

    def update_content_discriminator(self, out: Terms, domain: Tensor) -> Terms:
        """From the code of the discriminators' forward."""
        loss = F.cross_entropy(self.content_discriminator(out["content"].detach()), domain)
        self.content_discriminator_opt.zero_grad()
        _backward(loss)
        clip_norm = self.model.settings.content_discriminator.clip_norm
        clip_grad_norm_(self.content_discriminator.parameters(), clip_norm)
        self.content_discriminator_opt.step()
        return {"content_discriminator": loss.detach()}

    def update_discriminator(self, image: Tensor, domain: Tensor, out: Terms) -> Terms:
        """Each kind of fakes against the reals, in its own two calls."""
        w, other = self.model.settings.loss, swap_halves(domain)
        terms = {"discriminator": torch.zeros(()), "classify_real": torch.zeros(())}
        self.discriminator_opt.zero_grad()
        for kind in ("by_reference", "by_prior"):
            of_fakes = self.model.discriminator(out[kind].detach(), other)
            of_reals = self.model.discriminator(image, domain)
            real_or_fake = w.adversarial * (
                losses.adversarial_fake(of_fakes.real) + losses.adversarial_real(of_reals.real)
            )
            classification = 0.5 * w.classify_real * losses.domain_classification(of_reals.domain, domain)
            _backward(real_or_fake + classification)
            terms["discriminator"] = terms["discriminator"] + real_or_fake.detach()
            terms["classify_real"] = terms["classify_real"] + classification.detach()
        self.discriminator_opt.step()
        return terms

    def update_translator(self, image: Tensor, domain: Tensor, out: Terms, keep_gradient: bool) -> Terms:
        """Two backward passes through one graph; E_a takes no step by the second."""
        w = self.model.settings.loss.model_dump()
        by_reference, by_prior = self.reference_terms(image, domain, out), self.prior_terms(domain, out)
        self._zero_translator()
        _backward(sum(w[name] * term for name, term in by_reference.items()), retain_graph=True)
        first = self._take_gradient()
        _backward(sum(w[name] * term for name, term in by_prior.items()))
        second = self._take_gradient()
        constant = {*self.model.translator.attribute.parameters(), *self.model.translator.prior.parameters()}
        if keep_gradient:
            self.translator_gradient = {
                p: g if p in constant or p not in second else g + second[p] for p, g in first.items()
            }

        self._give_gradient(first)
        for optimizer in (self.content_opt, self.attribute_opt, self.generator_opt):
            optimizer.step()
        self._give_gradient(second)
        for optimizer in (self.content_opt, self.generator_opt):
            optimizer.step()

        both = {name: by_reference[name] + by_prior[name] for name in by_reference.keys() & by_prior.keys()}
        return {name: term.detach() for name, term in (by_reference | by_prior | both).items()}

    def reference_terms(self, image: Tensor, domain: Tensor, out: Terms) -> Terms:
        """The losses for E_c, E_a and G."""
        q, p = (out["q_mean"], out["q_logvar"]), (out["p_mean"], out["p_logvar"])
        gauss = mixture.expected_gaussian_kl(out["q_logits"], q, p, self.model.settings.loss.free_bits)
        return self.adversarial_terms(out["by_reference"], domain) | {
            "content_adversarial": losses.domain_confusion(self.content_discriminator(out["content"])),
            "reconstruction": F.l1_loss(out["reconstruction"], image),
            "cycle": F.l1_loss(out["cycle"], image),
            "content_norm": out["content"].square().mean(),
            "kl": gauss + mixture.categorical_kl(out["q_logits"]),
        }

    def prior_terms(self, domain: Tensor, out: Terms) -> Terms:
        """The losses for E_c and G alone."""
        return self.adversarial_terms(out["by_prior"], domain) | {
            "latent_regression": F.l1_loss(out["regressed_z"], out["z_prior"])
        }

    def adversarial_terms(self, fakes: Tensor, domain: Tensor) -> Terms:
        """What the image discriminator says of one kind of fakes."""
        other = swap_halves(domain)
        verdict = self.model.discriminator(fakes, other)
        return {
            "adversarial": losses.adversarial_real(verdict.real),
            "classify_fake": losses.domain_classification(verdict.domain, other),
        }

    def _zero_translator(self) -> None:
        for optimizer in (self.content_opt, self.attribute_opt, self.generator_opt):
            optimizer.zero_grad()

    def _take_gradient(self) -> dict[nn.Parameter, Tensor]:
        taken = {p: p.grad for p in self.model.translator.parameters() if p.grad is not None}
        self._zero_translator()
        return taken

    def _give_gradient(self, gradient: Mapping[nn.Parameter, Tensor]) -> None:
        self._zero_translator()
        for p, g in gradient.items():
            p.grad = g


def _backward(loss: Tensor, retain_graph: bool = False) -> None:
    """As the shipped update does: the backward pass itself is not autocast."""
    with torch.autocast("cpu", enabled=False):
        loss.backward(retain_graph=retain_graph)
