"""What the settings of all model families share. Free of torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Weight = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, le=1)]
Best = Literal["lowest", "highest"]
"""Which values of a metric are best."""


class Settings(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class GumbelSettings(Settings):
    """Gumbel-softmax relaxation of y: tau = max(min_temp, init_temp * exp(-decay_temp_rate * epoch))."""

    init_temp: Annotated[float, Field(gt=0)] = 1.0
    """Temperature at epoch 0."""
    min_temp: Annotated[float, Field(gt=0)] = 0.5
    """Lowest temperature."""
    decay_temp_rate: Weight = 0.013862944
    """Decay per epoch; 0 keeps the first temperature."""
    hard: bool = False
    """Straight-through: one-hot forwards, soft gradient backwards."""
