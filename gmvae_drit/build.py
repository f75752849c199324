"""From settings to a model: the one place that knows every family."""

from gmvae_drit.config import DritSettings, GmvaeDritSettings, GmvaeSettings, ModelSettings
from gmvae_drit.errors import ModelError
from gmvae_drit.gmvae.model import Gmvae
from gmvae_drit.model import Model
from gmvae_drit.training import TranslationModel
from gmvae_drit.translator import Translator


def build_model(settings: ModelSettings, domains: tuple[str, ...]) -> Model:
    """A new model of the family `settings.kind` with weights drawn from torch's default generator."""
    check_domains(settings, domains)
    match settings:
        case GmvaeDritSettings() | DritSettings():
            return TranslationModel(settings, len(domains))
        case GmvaeSettings():
            return Gmvae(settings)


def check_domains(settings: ModelSettings, domains: tuple[str, ...]) -> None:
    """ModelError where a model of this family cannot be trained on so few domains."""
    if len(domains) < settings.least_domains:
        raise ModelError(
            f"a model of kind {settings.kind} needs at least {settings.least_domains} domains to translate between, "
            f"and the data hold {', '.join(domains)} only"
        )


def build_translator(settings: ModelSettings, domains: tuple[str, ...]) -> Translator:
    """A new network of the kind that `Model.exported` gives for these settings."""
    match settings:
        case GmvaeDritSettings() | DritSettings():
            return Translator(settings, len(domains))
        case GmvaeSettings():
            raise ModelError("a model of kind gmvae clusters and generates; it does not translate")
