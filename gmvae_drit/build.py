"""From settings to a model: the one place that knows every family."""

from gmvae_drit.config import ModelSettings
from gmvae_drit.model import Model
from gmvae_drit.training import GmvaeDrit


def build_model(settings: ModelSettings, domains: tuple[str, ...]) -> Model:
    """A new model of the family `settings.kind` with weights drawn from torch's default generator."""
    return GmvaeDrit(settings, len(domains))
