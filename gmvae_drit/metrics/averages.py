"""A mean over images that come in batches. Legend: n images."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Average:
    """A mean over n images."""

    value: float
    standard_error: float
    """Of the mean; 0 for one image."""
    n: int


class Mean:
    """The mean of one figure per image, whatever the batches."""

    def __init__(self) -> None:
        self._values: list[Tensor] = []

    def update(self, values: Tensor) -> None:
        """Add one figure (n,) of each image of a batch."""
        self._values.append(values.double().cpu())

    def compute(self) -> Average:
        """Raises ValueError before the first image."""
        values = torch.cat([*self._values, torch.empty(0, dtype=torch.float64)])
        n = len(values)
        if n == 0:
            raise ValueError("a mean of no images")
        error = float(values.std()) / n**0.5 if n > 1 else 0.0
        return Average(float(values.mean()), error, n)
