"""The networks of the GMVAE: q(y | x), q(z | x, y), p(z | y), p(x | z).

Legend: B batch, V augmented views, K components, Z latent size, F features, C, H, W image.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmvae_drit.config import MixtureSettings
from gmvae_drit.gmvae.settings import ConvSettings, DenseSettings, GmvaeSettings
from gmvae_drit.networks.attribute import AttributePosterior
from gmvae_drit.networks.prior import MixturePrior

GROUP = 8  # channels that are normalised together


class GmvaeNetwork(nn.Module):
    """All that is trained. Images are (B, C, H, W) in [0, 1] with `settings.channels` channels."""

    def __init__(self, settings: GmvaeSettings) -> None:
        super().__init__()
        K, Z, width = settings.components, settings.latent_size, settings.network.features
        # Apart from q(z|x,y), so that what the clusters need does not cost the reconstruction its features.
        self.component_features = new_encoder(settings)
        self.component_head = nn.Linear(width, K)
        self.gaussian_features = new_encoder(settings)
        self.gaussian_hidden = nn.Linear(width, width)
        self.component_bias = nn.Embedding(K, width)
        self.gaussian_head = nn.Linear(width, 2 * Z)
        self.prior = MixturePrior(MixtureSettings(components=K), Z, domains=1)
        self.decoder = new_decoder(settings)

    def component_logits(self, image: Tensor) -> Tensor:
        """Logits of q(y | x), (B, K) float32."""
        logits_BK: Tensor = self.component_head(self.component_features(image)).float()
        return logits_BK

    def posterior(self, image: Tensor, logits_BK: Tensor) -> AttributePosterior:
        """q(y | x) as given and q(z | x, y) of every y."""
        hidden_BF = self.gaussian_hidden(self.gaussian_features(image))
        # The first layer of an MLP on [features, one-hot y], for every y at once: W f + W' y + b.
        hidden_BKF = F.leaky_relu(hidden_BF[:, None] + self.component_bias.weight, 0.2)
        mean_BKZ, logvar_BKZ = self.gaussian_head(hidden_BKF).float().chunk(2, dim=2)
        return AttributePosterior(logits_BK, mean_BKZ, logvar_BKZ.clamp(-8, 8))

    def encode(self, image: Tensor) -> AttributePosterior:
        """q(y | x) and q(z | x, y) of every y."""
        return self.posterior(image, self.component_logits(image))

    def decode(self, z_BZ: Tensor) -> Tensor:
        """Logits (`rec_type: bce`) or pixels (`mse`) of p(x | z), (B, C, H, W) float32."""
        out: Tensor = self.decoder(z_BZ).float()
        return out

    def forward(
        self, image: Tensor, views: Sequence[Tensor], temperature: float, hard: bool
    ) -> dict[str, Tensor]:
        """All that the loss needs: logits of the image and (V, B, K) of its views, q and p of z, the decoded image."""
        B = len(image)
        logits, *of_views = self.component_logits(torch.cat([image, *views])).split(B)
        posterior = self.posterior(image, logits)
        p_mean, p_logvar = self.prior(one_domain(image))
        return {
            "logits": logits,
            "view_logits": torch.stack(of_views) if of_views else logits.new_zeros(0, *logits.shape),
            "q_mean": posterior.mean_BKZ,
            "q_logvar": posterior.logvar_BKZ,
            "p_mean": p_mean,
            "p_logvar": p_logvar,
            "decoded": self.decode(posterior.sample(temperature, hard)),
        }

    @torch.no_grad()
    def cluster(self, image: Tensor) -> Tensor:
        """The most probable component of each image, (B,) int64."""
        return self.component_logits(image).argmax(1)

    @torch.no_grad()
    def embed(self, image: Tensor) -> Tensor:
        """z (B, Z): mean of q(z | x, y) at the most probable y."""
        return self.encode(image).mode()

    @torch.no_grad()
    def sample(self, component_B: Tensor, temperature: float = 1.0) -> Tensor:
        """What p(x | z) gives for z ~ p(z | y = component), as `decode` does; `temperature` scales the deviation."""
        return self.decode(self.prior.sample(one_domain(component_B), component_B, temperature))


def new_encoder(settings: GmvaeSettings) -> nn.Sequential:
    """(B, C, H, W) to features (B, F)."""
    match settings.network:
        case DenseSettings() as dense:
            sizes = [settings.channels * settings.image_size**2, *dense.hidden]
            return nn.Sequential(nn.Flatten(), *_dense_layers(sizes))
        case ConvSettings() as conv:
            widths = [settings.channels, *(conv.width << i for i in range(3))]
            layers: list[nn.Module] = []
            for c_in, c_out in pairwise(widths):
                layers += [
                    nn.Conv2d(c_in, c_out, 4, 2, 1),
                    nn.GroupNorm(c_out // GROUP, c_out),
                    nn.LeakyReLU(0.2),
                ]
            flat = widths[-1] * (settings.image_size // 8) ** 2
            return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, conv.features), nn.LeakyReLU(0.2))


def new_decoder(settings: GmvaeSettings) -> nn.Sequential:
    """z (B, Z) to (B, C, H, W)."""
    side, C = settings.image_size, settings.channels
    match settings.network:
        case DenseSettings() as dense:
            sizes = [settings.latent_size, *reversed(dense.hidden)]
            return nn.Sequential(
                *_dense_layers(sizes), nn.Linear(sizes[-1], C * side**2), nn.Unflatten(1, (C, side, side))
            )
        case ConvSettings() as conv:
            low, width = side // 4, conv.width
            return nn.Sequential(
                nn.Linear(settings.latent_size, conv.features),
                nn.LeakyReLU(0.2),
                nn.Linear(conv.features, 2 * width * low**2),
                nn.Unflatten(1, (2 * width, low, low)),
                nn.LeakyReLU(0.2),
                nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
                nn.GroupNorm(width // GROUP, width),
                nn.LeakyReLU(0.2),
                nn.ConvTranspose2d(width, C, 4, 2, 1),
            )


def _dense_layers(sizes: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.LeakyReLU(0.2)]
    return layers


def one_domain(like: Tensor) -> Tensor:
    """The domain of every image, for what is kept by domain: here there is one."""
    return torch.zeros(len(like), dtype=torch.int64, device=like.device)
