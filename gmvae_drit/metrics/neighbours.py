"""The nearest real images of translations: are they copies? Legend: n, m images, F features."""

import torch
from torch import Tensor


def nearest(query: Tensor, reference: Tensor, count: int) -> Tensor:
    """Indices (n, count) of the rows of `reference` (m, F) that are closest to each row of `query` (n, F), closest
    first, by Euclidean distance."""
    return torch.cdist(query.double(), reference.double()).topk(count, dim=1, largest=False).indices
