"""What TensorBoard shows of a run: every figure as a scalar, preview pictures, how the components are used.

Legend: D domains, K components.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress, count
from pathlib import Path

from torch import Tensor

from cluster.notes import Row
from cluster.row_parts import SHARES, shares_of

NOT_DRAWN = ("step", "seconds")
"""The axes: the step itself, and the time that TensorBoard shows beside it."""


class Board:
    """The event files of one run; a resumed run hides what was written after the step it resumed at."""

    def __init__(self, folder: Path, resumed_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # the driver imports this module, and draws nothing

        self._writer = SummaryWriter(str(folder), purge_step=resumed_at + 1 if resumed_at else None)

    def row(self, row: Row) -> None:
        """Scalars under their own names (``workers/0/data_wait`` for what is nested), and a histogram per domain."""
        step, seconds = row["step"], row.get("seconds", time.time())
        shares_DK = shares_of(row)
        hidden = (*NOT_DRAWN, SHARES) if shares_DK else NOT_DRAWN
        for name, value in row.items():
            if name not in hidden:
                for tag, number in flatten(name, value):
                    self._writer.add_scalar(tag, number, step, walltime=seconds)
        for domain, shares in enumerate(shares_DK):
            self._draw_shares(f"components/domain_{domain}", shares, step, seconds)

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Preview pictures, uint8 (3, H, W), by name."""
        for name, picture in pictures.items():
            self._writer.add_image(f"previews/{name}", picture, step)

    def close(self) -> None:
        """Flush everything to disk."""
        self._writer.close()

    def _draw_shares(self, tag: str, shares: Sequence[float], step: int, seconds: float) -> None:
        """K bars of the shares' heights: bar k reaches from k - 1/2 to k + 1/2."""
        # TensorBoard drops empty bars at both ends and lets the next ones reach to min and max instead.
        used = list(compress(count(), shares))
        self._writer.add_histogram_raw(
            tag,
            min=used[0] - 0.5,
            max=used[-1] + 0.5,
            num=1,
            sum=sum(k * share for k, share in enumerate(shares)),
            sum_squares=sum(k * k * share for k, share in enumerate(shares)),
            bucket_limits=[k + 0.5 for k in range(len(shares))],
            bucket_counts=list(shares),
            global_step=step,
            walltime=seconds,
        )


def flatten(name: str, value: object) -> Iterator[tuple[str, float]]:
    """The numbers in a value, each under the path that leads to it."""
    if isinstance(value, int | float):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(f"{name}/{key}", inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(value):
            yield from flatten(f"{name}/{index}", inner)
