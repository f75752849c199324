"""Weights of the translation models' loss terms. Free of torch.

Defaults are those of DRIT++/MDMM (arXiv:1905.01270) and of the GMVAE (arXiv:1611.02648) unless the line says otherwise.
"""

from typing import Annotated, Literal

from pydantic import Field

from gmvae_drit.settings import Settings, Weight


class LossWeights(Settings):
    """Weights of the loss terms. What `content_reconstruction` and `mode_seeking` need is computed only where they
    are on."""

    adversarial: Weight = 1.0
    """Image adversarial loss, of fakes by a reference's attribute and of fakes by a prior draw."""
    classify_real: Weight = 1.0
    """Domain classification of real images (discriminator, `conditioning: classify`)."""
    classify_fake: Weight = 5.0
    """Domain classification of fakes (translator, `conditioning: classify`)."""
    content_adversarial: Weight = 1.0
    """Domain confusion of the content code (needs `content_discriminator`)."""
    reconstruction: Weight = 10.0
    """Self reconstruction G(E_c(x), E_a(x), d)."""
    reconstruction_type: Literal["l1", "mse", "bce"] = "l1"
    """Self reconstruction by absolute error (DRIT++), squared error, or binary cross-entropy of pixels in [0, 1]
    (GMVAE); all are means over pixels. The cross-cycle is L1 always."""
    cycle: Weight = 10.0
    """Cross-cycle reconstruction, L1."""
    content_norm: Weight = 0.01
    """Mean square of the content code."""
    content_reconstruction: Weight = 0.0
    """L1 between the content code of an image and those of its two translations. Not in DRIT++."""
    kl: Weight = 0.01
    """The attribute's KL terms together; with `kind: drit` that is KL(q(z|x) || N(0, I))."""
    free_bits: Weight = 0.0
    """Nats per attribute dimension that the Gaussian KL does not punish."""
    kl_warmup: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the run over which the KL weight grows from 0."""
    latent_regression: Weight = 10.0
    """L1 between a prior draw z and the mean encoded from its translation."""
    attribute_consistency: Weight = 0.0
    """L1 between the mean attribute codes of an image and of its deformed copy (`deformation`): the code holds what
    survives deformations, colour and not shape. Not in DRIT++."""
    mode_seeking: Weight = 1.0
    """1 / (|dI| / |dz| + 1e-5) for two prior draws (arXiv:1903.05628)."""


class MixtureLossWeights(LossWeights):
    """Weights of the loss terms, with those that only a mixture has."""

    gauss: Weight = 1.0
    """KL(q(z|x,y) || p(z|y)) within `kl`."""
    categ: Annotated[float, Field(ge=0, le=1)] = 1.0
    """KL(q(y|x) || p(y)) within `kl`: it punishes an informative y, so lower it where `information` is on."""
    categ_floor: Weight = 0.0
    """Nats of that KL which are not punished: at most log K. Alone it does not prevent collapse."""
    usage: Weight = 0.0
    """KL(mean q(y) || p(y)) on a running mean: keeps every component in use. Not in DRIT++ or GMVAE."""
    information: Weight = 0.0
    """Hinge max(0, information_floor * log K - I(x; y)): keeps q(y|x) decided. Not in DRIT++ or GMVAE."""
    entropy: Weight = 0.0
    """Mean entropy of q(y|x): each image belongs to one component. Use it with `usage`."""
    consistency: Weight = 0.0
    """KL(q(y|x) || q(y|deformed x)), the first held constant: a component holds what survives `deformation`
    (arXiv:1702.08720, eq. 5). Not computed where 0."""
    information_floor: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Share of log K that the mutual information I(x; y) must reach."""
    component_regression: Weight = 0.0
    """Cross-entropy between the component of a prior draw and q(y) of its translation."""
