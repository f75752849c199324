"""How the batch of a step is shared out: over ranks, and over the passes of a rank that accumulates gradients."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cluster.update import Part


@dataclass(frozen=True)
class Shares:
    """Of the ``share`` images of each domain in a batch, over ``world_size`` ranks that differ by at most one image,
    and over as many passes on every rank, of ``per_pass`` images at most where that is possible."""

    share: int
    world_size: int
    per_pass: int | None = None

    @property
    def passes(self) -> int:
        """Passes of a step: equal on all ranks, for they meet in each; at least one image a pass on every rank."""
        largest, smallest = -(-self.share // self.world_size), self.share // self.world_size
        return 1 if self.per_pass is None else min(-(-largest // self.per_pass), smallest)

    def parts(self, batch: Mapping[str, Tensor]) -> list[tuple[dict[str, Tensor], Part]]:
        """A rank's batch, whose first half may be of another domain than the second, in equal measure of both."""
        domain = batch["domain"]
        halves = 1 if domain[0] == domain[-1] else 2
        mine, passes = len(domain) // halves, self.passes
        parts = []
        for number in range(passes):
            begin, end = mine * number // passes, mine * (number + 1) // passes
            part = Part(weight=(end - begin) * self.world_size / self.share, is_last=number == passes - 1)
            parts.append(({k: _cut(v, halves, begin, end) for k, v in batch.items()}, part))
        return parts


def _cut(value: Tensor, halves: int, begin: int, end: int) -> Tensor:
    if end - begin == len(value) // halves:
        return value
    part: Tensor = value.unflatten(0, (halves, -1))[:, begin:end].flatten(0, 1)
    return part
