"""Cost of one training step: the shipped single pass against the published update of DRIT++/MDMM.

    python benchmarks/step.py --out benchmarks/results/step.md     # 5 minutes
    python benchmarks/step.py --size 32 --pairs 3                  # a quick look

Concat generator at the published widths, 64 px, two domains, batch 1 + 1, content discriminator on, mode seeking off
(MDMM has none). Process CPU time of one thread, the variants in turn within one run, and FLOPs of one step.

The published update (arXiv:1808.00948, arXiv:1905.01270) is written down here from the papers and from the order of
operations in the public code. A full forward serves the discriminators, which judge (reals, fakes by reference) and
(reals, fakes by prior draws) in separate calls. A second full forward serves encoders and generator, which learn from
two backward passes through one graph: everything that involves a reference's attribute, then everything that
involves a prior draw (for E_c and G alone), with one optimizer step each. The generator makes the fakes of either
domain in one call, with all of its blocks run anew for every attribute. Nothing is frozen on the way.

`published, one forward` is the same without the second forward: the public code as it stands. It keeps the graph of
the discriminators' forward, steps the optimizers between the two backward passes, and so stops with an in-place
error on today's PyTorch (github.com/HsinYingLee/DRIT, issue 62, where the second forward is the advice given).

Both sides have the same networks, weights, objective and noise, and that is checked in float64 before anything is
timed: equal loss terms, equal gradients. For that the published side gives up what is published otherwise, mostly to
its advantage: one image discriminator for both kinds of fakes instead of two (hence one optimizer step of it, and half
the weight for each of its two looks at the domain of the reals); this project's attribute encoder, mixture prior and
discriminators; losses as means over batch and domains where the public code adds the domains up; uniform confusion of
the content discriminator, cross-entropy of the domains; a prior draw per image; both backward passes before the first
optimizer step; fused Adam. The shipped side also keeps the averaged weights and checks gradients for infinities.
"""

import argparse
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam, Optimizer
from torch.utils.flop_counter import FlopCounterMode

from cluster.update import GuardedUpdate
from gmvae_drit import losses, mixture
from gmvae_drit.config import GmvaeDritSettings, MixtureLossWeights
from gmvae_drit.model import Batch, Progress
from gmvae_drit.networks.concat_generator import ConcatGenerator
from gmvae_drit.training import TranslationModel
from gmvae_drit.translator import swap_halves

PROGRESS = Progress(step=1, total_steps=1000, epoch=0.0)
TEMPERATURE = 1.0  # of the Gumbel-softmax at epoch 0
WARM_UP = 2
Terms = dict[str, Tensor]


def published_settings() -> GmvaeDritSettings:
    """The defaults are the published widths and weights."""
    return GmvaeDritSettings(loss=MixtureLossWeights(mode_seeking=0))


def plain_generator(generator: ConcatGenerator, content: Tensor, z: Tensor, domain: Tensor) -> Tensor:
    """DRIT++'s concat generator as published: all residual blocks see [features, d, z]."""
    h = generator.first(content)
    condition = torch.cat([F.one_hot(domain, generator.domains).to(h.dtype), z.to(h.dtype)], 1)
    h = generator.residual(torch.cat([h, _as_channels(condition, h)], 1))
    for stage in generator.up:
        h = stage(torch.cat([h, _as_channels(z.to(h.dtype), h)], 1))
    return torch.tanh(generator.to_image(torch.cat([h, _as_channels(z.to(h.dtype), h)], 1)))


def _as_channels(x: Tensor, like: Tensor) -> Tensor:
    return x[:, :, None, None].expand(-1, -1, *like.shape[2:])


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
        assert isinstance(generator, ConcatGenerator)
        images = plain_generator(generator, torch.cat(contents), torch.cat(codes), domain.repeat(len(codes)))
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


class ShippedUpdate:
    """`TranslationModel.train_step` with the engine's guarded update, as one worker runs it."""

    def __init__(
        self, model: TranslationModel, optimizer: Callable[[list[nn.Parameter], float], Optimizer]
    ) -> None:
        rates = model.learning_rates(PROGRESS)
        optimizers = {
            name: optimizer(list(net.parameters()), rates[name]) for name, net in model.networks().items()
        }
        self.model, self.update = model, GuardedUpdate(optimizers, torch.device("cpu"))

    def step(self, batch: Batch) -> Terms:
        """One update."""
        terms = self.model.train_step(self.model.networks(), batch, self.update, PROGRESS)
        self.update.end_step()
        return terms


def new_model() -> TranslationModel:
    """The same weights at every call."""
    torch.manual_seed(0)
    return TranslationModel(published_settings(), domains=2).train()


def new_batch(size: int) -> Batch:
    """One image of either domain."""
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    return {"image": 2 * images - 1, "domain": torch.tensor([0, 1])}


def adam(model: TranslationModel) -> Callable[[list[nn.Parameter], float], Optimizer]:
    """The optimizer of the model's settings."""
    o = model.settings.optimizer
    return lambda parameters, rate: Adam(
        parameters, rate, betas=o.betas, weight_decay=o.weight_decay, fused=True
    )


def check_same_objective(size: int) -> float:
    """Largest relative difference between the two sides in float64: loss terms and translator gradient.

    Plain SGD, so that the discriminators move alike on both sides before the translator learns from them: Adam's first
    step is the gradient's sign, which rounding decides where the gradient is nearly zero.
    """

    def sgd(parameters: list[nn.Parameter], rate: float) -> Optimizer:
        return SGD(parameters, lr=rate)

    lifts_half_precision = torch.Tensor.float
    torch.Tensor.float = lambda x: x  # here it would lower the precision
    torch.set_default_dtype(torch.float64)
    try:
        batch, worst = new_batch(size), 0.0
        model = new_model()
        torch.manual_seed(2)
        expected = ShippedUpdate(model, sgd).step(batch)
        for forwards in (1, 2):
            published = PublishedUpdate(new_model(), forwards, sgd)
            torch.manual_seed(2)
            terms = published.step(batch, keep_gradient=True)
            weights = published.model.settings.loss.model_dump()
            left_out = expected.keys() - terms.keys() - {"temperature"}
            assert not any(weights[name] for name in left_out), left_out
            worst = max(worst, *(_difference(terms[name], expected[name]) for name in terms))
            ours, theirs = model.translator.parameters(), published.model.translator.parameters()
            for p, q in zip(ours, theirs, strict=True):
                worst = max(worst, _difference(published.translator_gradient[q], p.grad))
    finally:
        torch.set_default_dtype(torch.float32)
        torch.Tensor.float = lifts_half_precision
    return worst


def _difference(x: Tensor, y: Tensor) -> float:
    return float((x - y).abs().max() / y.abs().max().clamp_min(1e-12))


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    step: Callable[[Batch], object]
    bf16: bool

    def run(self, batch: Batch) -> None:
        """One step."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            self.step(batch)

    def flops(self, batch: Batch) -> float:
        """GFLOP of one step, of matrix products and convolutions."""
        with FlopCounterMode(display=False) as counter:
            self.run(batch)
        return counter.get_total_flops() / 1e9


def make_variants(bf16: bool) -> list[Variant]:
    """Every variant has its own copy of the model."""
    variants = []
    for precision in [False, True] if bf16 else [False]:
        shipped, two, one = new_model(), new_model(), new_model()
        variants += [
            Variant("published", PublishedUpdate(two, 2, adam(two)).step, precision),
            Variant("published, one forward", PublishedUpdate(one, 1, adam(one)).step, precision),
            Variant("shipped", ShippedUpdate(shipped, adam(shipped)).step, precision),
        ]
    return variants


def measure(variants: list[Variant], batch: Batch, pairs: int) -> list[list[float]]:
    """Process CPU seconds of each variant's steps, the variants in turn."""
    seconds: list[list[float]] = [[] for _ in variants]
    for i in range(WARM_UP + pairs):
        for variant, times in zip(variants, seconds, strict=True):
            start = time.process_time()
            variant.run(batch)
            if i >= WARM_UP:
                times.append(time.process_time() - start)
    return seconds


def table(variants: list[Variant], gflop: list[float], seconds: list[list[float]]) -> str:
    """Markdown: a row per variant, ratios against the published update in fp32 and in the row's own precision."""
    lines = [
        "| step | precision | GFLOP | CPU s | CPU s / published in fp32 | CPU s / published in the same precision |",
        "|---|---|---|---|---|---|",
    ]
    for variant, flop, times in zip(variants, gflop, seconds, strict=True):
        alike = next(i for i, v in enumerate(variants) if v.name == "published" and v.bf16 == variant.bf16)
        lines.append(
            f"| {variant.name} | {'bf16' if variant.bf16 else 'fp32'} | {flop:.1f} | {statistics.median(times):.3f} "
            f"| {_ratio(times, seconds[0])} | {_ratio(times, seconds[alike])} |"
        )
    return "\n".join(lines)


def _ratio(times: list[float], against: list[float]) -> str:
    ratios = [x / y for x, y in zip(times, against, strict=True)]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=64, help="image side in pixels [64]")
    parser.add_argument("--pairs", type=int, default=15, help="timed steps of each variant [15]")
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    difference = check_same_objective(arguments.size)
    assert difference < 1e-9, f"the two sides differ by {difference:.1e}: not the same objective"
    has = {name: bool(torch.cpu.get_capabilities().get(name)) for name in ("avx512_bf16", "amx_bf16")}
    variants, batch = make_variants(any(has.values())), new_batch(arguments.size)
    gflop = [variant.flops(batch) for variant in variants]
    seconds = measure(variants, batch, arguments.pairs)
    report = f"""# Cost of one training step

`python {shlex.join(sys.argv)}`

Concat generator at the published widths, {arguments.size} px, batch 1 + 1, two domains, content discriminator on, no
mode seeking. One thread; {arguments.pairs} timed steps of each variant after {WARM_UP}, the variants in turn. CPU s is
process CPU time, median; ratios are of neighbouring steps, median (min to max). "published" is two forwards and two
translator backward passes; what exactly is compared with what: see the head of `benchmarks/step.py`.

{table(variants, gflop, seconds)}

Loss terms and translator gradients of all variants agree in float64: largest relative difference {difference:.0e}.
torch {torch.__version__}, {platform.machine()}, {", ".join(f"{k}: {'yes' if v else 'no'}" for k, v in has.items())}.
"""
    print(report)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(report)


if __name__ == "__main__":
    main()
