"""The generators by the names that settings know them by."""

from gmvae_drit.config import GeneratorSettings
from gmvae_drit.networks.adain_generator import AdaInGenerator
from gmvae_drit.networks.concat_generator import ConcatGenerator
from gmvae_drit.networks.featurewise_generator import FeaturewiseGenerator
from gmvae_drit.networks.generator import Generator

GENERATORS: dict[str, type[AdaInGenerator | ConcatGenerator | FeaturewiseGenerator]] = {
    "adain": AdaInGenerator,
    "concat": ConcatGenerator,
    "featurewise": FeaturewiseGenerator,
}


def build_generator(
    settings: GeneratorSettings, channels: int, downsamplings: int, size: int, domains: int
) -> Generator:
    """The generator that `settings.kind` names, for content codes of `channels` channels."""
    return GENERATORS[settings.kind](settings, channels, downsamplings, size, domains)
