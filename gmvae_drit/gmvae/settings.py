"""Settings of the GMVAE by itself. Free of torch. The defaults are the recipe of `benchmarks/gmvae_mnist.py`."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from gmvae_drit.settings import Best, GumbelSettings, Rate, Settings, Weight


class DenseSettings(Settings):
    """Fully-connected networks; the decoder mirrors the encoder."""

    kind: Literal["dense"] = "dense"
    """Sort of network."""
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (512, 256)
    """Units of the encoder's hidden layers. Published: two of 512 (public implementations)."""

    @property
    def features(self) -> int:
        """Units of the last hidden layer."""
        return self.hidden[-1]


class ConvSettings(Settings):
    """Convolutional networks: three stride-2 stages down, two up."""

    kind: Literal["conv"] = "conv"
    """Sort of network."""
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 16
    """Channels of the first stage, doubled by each; a multiple of 8."""
    features: PositiveInt = 128
    """Units of the layer after the convolutions."""


class DeformationSettings(Settings):
    """Random deformations under which q(y|x) should not change. Choose those that keep what a component means."""

    rotation: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Largest rotation, in degrees."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Largest change of width and of height, as a share."""
    shear: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Largest shear, in pixels per pixel."""
    shift: Weight = 2.5
    """Largest shift, in pixels."""
    elastic: Weight = 1.5
    """Standard deviation of the elastic displacement, in pixels; 0 for none."""
    cells: Annotated[int, Field(ge=2)] = 5
    """Knots of the elastic field along each side."""


class GmvaeWeights(Settings):
    """Weights of the loss terms, all in nats per image. The first three are the negative ELBO
    (arXiv:1611.02648, eq. 4); the others keep the components in use, for the ELBO alone collapses."""

    rec: Weight = 1.0
    """-log p(x|z), summed over pixels."""
    gauss: Weight = 1.0
    """KL(q(z|x,y) || p(z|y))."""
    categ: Annotated[float, Field(ge=0, le=1)] = 0.0
    """KL(q(y|x) || p(y)). Published: 1. It punishes an informative y, so it is off where `entropy` is on."""
    usage: Weight = 200.0
    """KL(mean q(y) || p(y)), on a running mean: all components are used, equally often."""
    entropy: Weight = 50.0
    """Mean entropy of q(y|x): each image belongs to one component. With `usage` at the same weight this is -I(x; y)
    (Krause et al. 2010; arXiv:1702.08720, eq. 7)."""
    consistency: Weight = 200.0
    """KL(q(y|x) || q(y|deformed x)), the first held constant: a component holds what survives deformations
    (arXiv:1702.08720, eq. 5). Not computed where 0. Much above `usage`, all q(y|x) stay uniform."""


class GmvaeOptimizerSettings(Settings):
    """Adam with a short warm-up and cosine decay."""

    learning_rate: Rate = 1.5e-3
    """Highest learning rate."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay of Adam's first and second moment."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the run over which the rate grows from 0."""


class GmvaeSettings(Settings):
    """GMVAE: clusters images and generates them, cluster by cluster. One domain is enough; more are pooled."""

    least_domains: ClassVar[int] = 1
    held_out: ClassVar[Mapping[str, Best]] = {"rec": "lowest", "information": "highest"}
    """What `Gmvae.eval_step` measures."""

    kind: Literal["gmvae"] = "gmvae"
    """Model family."""
    image_size: Annotated[int, Field(ge=16, multiple_of=4)] = 32
    """Side of the square images in pixels, a multiple of 4; the first layers are as large."""
    channels: Literal[1, 3] = 1
    """What the networks see of an RGB image: 1 takes the mean of its channels, 3 all of them."""
    components: Annotated[int, Field(ge=2)] = 10
    """Components K of the mixture."""
    latent_size: PositiveInt = 32
    """Dimensions of z. Published: 64 (public implementations)."""
    network: Annotated[ConvSettings | DenseSettings, Field(discriminator="kind")] = ConvSettings()
    """`conv` or `dense`."""
    gumbel: GumbelSettings = GumbelSettings()
    """Relaxation of y towards the decoder."""
    rec_type: Literal["bce", "mse"] = "bce"
    """p(x|z): `bce` Bernoulli per pixel in [0, 1], `mse` Gaussian of variance 1."""
    loss: GmvaeWeights = GmvaeWeights()
    usage_momentum: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of a new batch in the running mean q(y); 1 takes the batch's own mean, over all workers."""
    deformation: DeformationSettings = DeformationSettings()
    optimizer: GmvaeOptimizerSettings = GmvaeOptimizerSettings()
