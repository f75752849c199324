"""The GMVAE as the engine sees it. Legend: B batch, V views, K components, Z latent size, C, H, W image."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gmvae_drit import mixture
from gmvae_drit.augmentations import deform
from gmvae_drit.errors import ModelError
from gmvae_drit.gmvae.networks import GmvaeNetwork, one_domain
from gmvae_drit.gmvae.objective import negative_elbo, reconstruction
from gmvae_drit.gmvae.settings import GmvaeSettings
from gmvae_drit.images import enlargement, grid, to_unit
from gmvae_drit.model import Batch, Model, Progress, Update
from gmvae_drit.schedules import cosine_decay, gumbel_temperature, linear_warmup

SAMPLES = 10  # of each component in a preview


class Gmvae(Model):
    """q(y|x) q(z|x,y), p(y) p(z|y) p(x|z), and the mutual-information terms. Knows neither labels nor domains."""

    def __init__(self, settings: GmvaeSettings) -> None:
        super().__init__()
        self.settings = settings
        self.network = GmvaeNetwork(settings)
        self.usage = mixture.ComponentUsage(1, settings.components, settings.usage_momentum)

    def networks(self) -> dict[str, nn.Module]:
        """See `Model.networks`."""
        return {"gmvae": self.network}

    def optimizers(self) -> dict[str, Optimizer]:
        """See `Model.optimizers`."""
        o = self.settings.optimizer
        return {"gmvae": Adam(self.network.parameters(), o.learning_rate, o.betas, fused=True)}

    def learning_rates(self, progress: Progress) -> dict[str, float]:
        """See `Model.learning_rates`."""
        o = self.settings.optimizer
        return {"gmvae": o.learning_rate * linear_warmup(o.warmup, progress) * cosine_decay(progress)}

    def train_step(
        self, nets: Mapping[str, nn.Module], batch: Batch, update: Update, progress: Progress
    ) -> dict[str, Tensor]:
        """One Adam step on -ELBO and the mutual-information terms.

        Raises ModelError where the images are not of the size that the networks were built for.
        """
        s, image = self.settings, self.pixels(batch["image"])
        temperature = gumbel_temperature(s.gumbel, progress)
        views = [deform(image, **s.deformation.model_dump())] if s.loss.consistency else []
        out = nets["gmvae"](image, views, temperature, s.gumbel.hard)

        q, p = (out["q_mean"], out["q_logvar"]), (out["p_mean"], out["p_logvar"])
        usage_D, information_D, _ = self.usage(out["logits"], one_domain(image))
        terms = {
            "rec": reconstruction(out["decoded"], image, s.rec_type).mean(),
            "gauss": mixture.expected_gaussian_kl(out["logits"], q, p, free_bits=0),
            "categ": mixture.categorical_kl(out["logits"]),
            "usage": usage_D.sum(),
            "entropy": mixture.categorical_entropy(out["logits"]).mean(),
        }
        if s.loss.consistency:
            terms["consistency"] = mixture.consistency(out["logits"], out["view_logits"])
        weights = s.loss.model_dump()
        update("gmvae", torch.stack([weights[name] * term for name, term in terms.items()]).sum())
        log = {name: term.detach() for name, term in terms.items()}
        return log | {"information": information_D.detach().sum(), "temperature": torch.tensor(temperature)}

    def pixels(self, image: Tensor) -> Tensor:
        """A batch's images, (B, 3, H, W) uint8 or in [-1, 1], as the networks see them: (B, channels, H, W) in [0, 1].

        Raises ModelError where they are of another size than the networks.
        """
        s = self.settings
        if image.shape[2:] != (s.image_size, s.image_size):
            raise ModelError(
                f"images of {image.shape[2]} x {image.shape[3]} pixels: model.image_size = {s.image_size}; "
                f"set it to the images' side, or crop (data.crop) to it"
            )
        x = to_unit(image).add(1).mul(0.5)
        return x.mean(1, keepdim=True) if s.channels == 1 else x

    @torch.no_grad()
    def eval_step(self, batch: Batch) -> dict[str, Tensor]:
        """-log p(x|z) at the most probable (y, z), and I(x; y) / log K over the batch."""
        image = self.pixels(batch["image"])
        posterior = self.network.encode(image)
        decoded = self.network.decode(posterior.mode())
        return {
            "rec": reconstruction(decoded, image, self.settings.rec_type).mean(),
            "information": mixture.relative_information(posterior.logits_BK, one_domain(image)),
        }

    @torch.no_grad()
    def negative_elbo(self, image: Tensor) -> Tensor:
        """-ELBO in nats per image of a batch's images, one draw of z."""
        x, network = self.pixels(image), self.network
        posterior = network.encode(x)
        prior = network.prior(one_domain(x))
        return negative_elbo(x, posterior, prior, network.decode, self.settings.rec_type)

    @torch.no_grad()
    def previews(self, batch: Batch) -> dict[str, Tensor]:
        """`reconstructions`: images above their reconstructions. `components`: samples, a row for each component."""
        image, network = self.pixels(batch["image"]), self.network
        pair = [image, self.visible(network.decode(network.embed(image)))]
        return {
            "reconstructions": grid([_rgb(x) for x in pair], enlargement(image.shape[2])),
            "components": self.component_sheet(SAMPLES),
        }

    @torch.no_grad()
    def component_sheet(self, columns: int, temperature: float = 1.0) -> Tensor:
        """Samples of p(x | y): a row for each component, uint8 (3, H', W')."""
        K, device = self.settings.components, self.usage.mean_DK.device
        rows = [self.network.sample(torch.full((columns,), k, device=device), temperature) for k in range(K)]
        return grid([_rgb(self.visible(row)) for row in rows])

    def visible(self, decoded: Tensor) -> Tensor:
        """What `GmvaeNetwork.decode` gives as the mean pixels of p(x | z), in [0, 1]."""
        return decoded.sigmoid() if self.settings.rec_type == "bce" else decoded.clamp(0, 1)

    def component_shares(self) -> Tensor | None:
        """See `Model.component_shares`: all images are one domain."""
        return self.usage.shares()

    def exported(self) -> nn.Module:
        """See `Model.exported`: everything, for clustering and sampling."""
        return self.network


def _rgb(x: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) in [0, 1] to (B, 3, H, W) in [-1, 1]."""
    return x.expand(-1, 3, -1, -1) * 2 - 1
