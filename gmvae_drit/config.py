"""Settings of the models. Free of torch, so that `--help` and `--print-config` are fast.

Defaults are the published ones of DRIT++/MDMM (arXiv:1905.01270) and of the GMVAE (arXiv:1611.02648) unless the
line says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from gmvae_drit.gmvae.settings import DeformationSettings as DeformationSettings
from gmvae_drit.gmvae.settings import GmvaeSettings as GmvaeSettings
from gmvae_drit.loss_weights import LossWeights as LossWeights
from gmvae_drit.loss_weights import MixtureLossWeights as MixtureLossWeights
from gmvae_drit.settings import Best as Best
from gmvae_drit.settings import GumbelSettings as GumbelSettings
from gmvae_drit.settings import Rate as Rate
from gmvae_drit.settings import Settings as Settings
from gmvae_drit.settings import Weight as Weight

if TYPE_CHECKING:
    from gmvae_drit.attribute_space import AttributeSpace


class ContentSettings(Settings):
    """Content encoder E_c."""

    width: PositiveInt = 64
    """Channels after the first convolution; doubled by each down-sampling."""
    kernel: Literal[3, 5, 7] = 7
    """Kernel size of the first convolution."""
    max_width: PositiveInt = 256
    """Channels are doubled no further than this."""
    downsamplings: Annotated[int, Field(ge=1, le=4)] = 2
    """Stride-2 stages."""
    residual_blocks: PositiveInt = 4
    """Residual blocks at the lowest resolution."""
    noise: Annotated[float, Field(ge=0)] = 1.0
    """Standard deviation of the Gaussian noise added to the code in training; 0 for none."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Strength in [0, 1] of random colour changes (gain, sign, offset, grey) of what E_c sees in training: they
    keep colour and background out of the content code. Not in DRIT++."""


class AttributeSettings(Settings):
    """Attribute encoder: q(y | x, d) and q(z | x, y, d)."""

    size: PositiveInt = 8
    """Dimensions of the attribute code z."""
    width: PositiveInt = 64
    """Channels after the first convolution."""
    max_width: PositiveInt = 256
    """Channels are doubled by each stage, no further than this."""
    downsamplings: Annotated[int, Field(ge=1, le=6)] = 4
    """Stride-2 stages before global pooling."""
    pooling: Literal["average", "average_max"] = "average"
    """Global pooling; published `average`. With the maximum beside it, what colour a thing has is told from how large
    it is."""


class WarmupSettings(Settings):
    """The prior N(0, I) for a while, then a mixture fitted by EM to the codes that have formed. It learns on by
    gradients, at the mean and scale that the codes have at that time, and by EM once more after the last step
    (ex-post density estimation, arXiv:1903.12436)."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of the run, in (0, 1)."""
    codes: PositiveInt = 1024
    """Codes of each domain that the mixture is fitted to, the most recent ones."""
    restarts: PositiveInt = 10
    """Fits from different seeds, of which the likeliest is taken."""


class MixtureSettings(Settings):
    """Gaussian mixture p(y) p(z | y, d), one table of means and variances per domain."""

    components: PositiveInt = 2
    """Components K of each domain's mixture."""
    min_logvar: Annotated[float, Field(ge=-12)] = -4.0
    """Lower bound of a prior component's log-variance, in the direction in which it is narrowest."""
    max_logvar: Annotated[float, Field(le=4)] = 4.0
    """Upper bound. A low one keeps draws from a component close to what the generator saw of it."""
    init_scale: Annotated[float, Field(ge=0)] = 1.0
    """Standard deviation of the first prior means."""
    posterior: Literal["head", "responsibilities"] = "head"
    """q(y|x). `head`: an output of the encoder (GMVAE), with a Gaussian q(z|x,y) for each component.
    `responsibilities`: one Gaussian q(z|x), and q(y|x) = p(y|z) at its mean (VaDE, arXiv:1611.05148)."""
    warmup: WarmupSettings | None = None
    """Start as a single Gaussian, and with components where codes lie; null starts at random ones."""
    covariance: Literal["diagonal", "full"] = "diagonal"
    """Of each component; GMVAE has diagonal ones. Full ones fit codes whose clusters lie askew."""

    @model_validator(mode="after")
    def _variances_have_room(self) -> MixtureSettings:
        if self.min_logvar >= self.max_logvar:
            raise ValueError(
                f"min_logvar = {self.min_logvar} must be less than max_logvar = {self.max_logvar}"
            )
        return self


class GeneratorSettings(Settings):
    """Generator G(x | content, z, d)."""

    kind: Literal["concat", "adain", "featurewise"] = "concat"
    """How (z, d) enters. `concat` (DRIT++, published default): as constant channels; colour and texture only, and its
    first blocks are shared by all attributes of one content. `adain`: modulates every block. `featurewise` (DRIT++'s
    alternative): 1 x 1 convolutions fuse it into every residual block."""
    residual_blocks: PositiveInt = 4
    """Residual blocks at the lowest resolution."""
    up_convolutions: Annotated[int, Field(ge=1, le=4)] = 1
    """Convolution blocks in each up-sampling stage; published 1, the study's double layer is 2."""
    noise_injection: bool = False
    """Adds learned amounts of per-pixel noise in each `adain` block, for texture that z does not determine."""

    @model_validator(mode="after")
    def _noise_needs_adain(self) -> GeneratorSettings:
        if self.noise_injection and self.kind != "adain":
            raise ValueError("noise_injection needs kind: adain")
        return self


class DiscriminatorSettings(Settings):
    """Patch discriminator of images."""

    conditioning: Literal["classify", "select"] = "classify"
    """`classify` judges real or fake and, with a second head, the domain (DRIT++). `select` has one real-or-fake
    channel per domain and reads that of the image's domain (StarGAN v2)."""
    width: PositiveInt = 64
    """Channels after the first convolution."""
    max_width: PositiveInt = 1024
    """Channels are doubled by each stage, no further than this."""
    downsamplings: Annotated[int, Field(ge=1, le=6)] = 5
    """Stride-2 stages; two to the power of it must not exceed the image size."""
    scales: Annotated[int, Field(ge=1, le=4)] = 1
    """Copies of the discriminator, each seeing the image at half the size of the one before."""
    norm: Literal["none", "instance"] = "none"
    """Normalisation behind every convolution but the last; published none."""
    spectral_norm: bool = False
    """Spectral normalisation of every convolution (arXiv:1802.05957)."""
    r1_weight: Weight = 0.0
    """Weight of the R1 penalty |grad D(x_real)|^2 / 2 (arXiv:1801.04406); 0 for none."""
    r1_every: PositiveInt = 8
    """Steps between two R1 penalties; each is scaled up by this number (lazy regularisation, arXiv:1912.04958)."""

    @model_validator(mode="after")
    def _norm_has_a_place(self) -> DiscriminatorSettings:
        if self.norm != "none" and self.downsamplings == 1:
            raise ValueError(f"norm: {self.norm} needs downsamplings >= 2: the last convolution has none")
        return self


class ContentDiscriminatorSettings(Settings):
    """Content discriminator: tells the domain from the content code; E_c is trained to make that impossible."""

    width: PositiveInt = 256
    """Channels of every layer."""
    every: PositiveInt = 1
    """Steps between two of its updates; E_c learns from it at each step. (The public code gives it three batches to
    the translator's one; here it never takes a batch away.)"""
    learning_rate_ratio: Rate = 0.4
    """Its learning rate, as a share of the discriminator's (published: 1 / 2.5)."""
    clip_norm: Annotated[float, Field(gt=0)] = 5.0
    """Largest gradient norm of one update."""


class OptimizerSettings(Settings):
    """Adam, and the two time-scale update rule (arXiv:1706.08500)."""

    learning_rate: Rate = 1e-4
    """Learning rate of all networks before TTUR."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.5, 0.999)
    """Decay of Adam's first and second moment."""
    weight_decay: Weight = 1e-4
    """L2 penalty in Adam."""
    ttur: Literal["none", "double_gen_enc", "half_discr"] | Annotated[float, Field(gt=0)] = "none"
    """`double_gen_enc`: twice the rate for generator and encoders; `half_discr`: half of it for the discriminators;
    a number: the generator's rate over the discriminators', by which the generator's is multiplied."""
    decay_start: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the run after which the rates fall linearly to 0; 1 for never."""


class TranslationSettings(Settings):
    """What all families of translation models share: the networks, the losses, the optimizer. They differ in the
    space of the attribute z."""

    least_domains: ClassVar[int] = 2
    held_out: ClassVar[Mapping[str, Best]] = {
        "reconstruction": "lowest",
        "cycle": "lowest",
        "information": "highest",
    }
    """What `TranslationModel.eval_step` measures."""

    kind: str
    """Model family."""
    content: ContentSettings = ContentSettings()
    attribute: AttributeSettings = AttributeSettings()
    generator: GeneratorSettings = GeneratorSettings()
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    content_discriminator: ContentDiscriminatorSettings | None = ContentDiscriminatorSettings()
    """null trains without one."""
    loss: LossWeights = LossWeights()
    deformation: DeformationSettings = DeformationSettings()
    """What the attribute should survive, where a consistency term is on."""
    optimizer: OptimizerSettings = OptimizerSettings()
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay per step of the averaged translator that evaluation and export use; 0 uses the last weights. The weights
    before training have no part in the average, so that short runs can be judged, too."""

    @property
    def needs_view(self) -> bool:
        """Whether a loss term compares images with deformed copies."""
        return self.loss.attribute_consistency > 0

    def attribute_space(self, domains: int) -> AttributeSpace:
        """A new attribute space of this family, for `domains` domains."""
        raise NotImplementedError


class DritSettings(TranslationSettings):
    """DRIT++ (arXiv:1905.01270): one Gaussian N(0, I) as the prior of the attribute. The baseline."""

    kind: Literal["drit"] = "drit"
    """Model family."""

    def attribute_space(self, domains: int) -> AttributeSpace:
        """See `TranslationSettings.attribute_space`."""
        from gmvae_drit.attribute_space import GaussianSpace

        return GaussianSpace(self.loss)


class GmvaeDritSettings(TranslationSettings):
    """GMVAE-DRIT: DRIT++ with a Gaussian-mixture attribute space."""

    kind: Literal["gmvae_drit"] = "gmvae_drit"
    """Model family."""
    mixture: MixtureSettings = MixtureSettings()
    gumbel: GumbelSettings = GumbelSettings()
    loss: MixtureLossWeights = MixtureLossWeights()

    @property
    def needs_view(self) -> bool:
        """See `TranslationSettings.needs_view`."""
        return super().needs_view or self.loss.consistency > 0

    def attribute_space(self, domains: int) -> AttributeSpace:
        """See `TranslationSettings.attribute_space`."""
        from gmvae_drit.attribute_space import MixtureSpace

        return MixtureSpace(self, domains)


def _default_family(raw: Any) -> Any:
    return {"kind": "gmvae_drit", **raw} if isinstance(raw, dict) else raw


ModelSettings = Annotated[
    Annotated[GmvaeDritSettings | DritSettings | GmvaeSettings, Field(discriminator="kind")],
    BeforeValidator(_default_family),
]
"""Every model family, told apart by `kind`; without one it is `gmvae_drit`."""
