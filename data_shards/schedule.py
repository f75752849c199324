"""What each step of one rank draws, and from which windows: the orders of all domains together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from data_shards.order import DomainOrder, PairOrder


@dataclass(frozen=True, slots=True)
class Draw:
    """One image of a batch."""

    domain: int
    lane: int
    epoch: int
    window: int
    place: int
    """Within the window."""
    opens: bool
    """The rank needs this window from here on; before, it needed the lane's window before that, or none."""


@dataclass(frozen=True)
class Schedule:
    """The draws of the rank that owns ``lanes``."""

    orders: Sequence[DomainOrder]
    pairs: PairOrder
    lanes: range

    def draws(self, start_step: int) -> Iterator[list[Draw]]:
        """Of ``start_step``, ``start_step + 1``, … without end."""
        seen: set[int] = set()
        for step in count(start_step):
            draws: list[Draw] = []
            for domain, used in zip(*self.pairs.at(step), strict=True):
                order = self.orders[domain]
                epoch, position = divmod(used, order.steps_per_epoch)
                for lane in self.lanes:
                    window, place = order.window_at(lane, position)
                    opens = place == 0 or domain not in seen
                    draws.append(Draw(domain, lane, epoch, window, place, opens))
                seen.add(domain)
            yield draws
