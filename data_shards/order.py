"""Which samples make which batch: pure functions of the step and the seed.

One domain's epoch: chunks of consecutive samples, permuted; the sequence dealt to the slots of the batch
("lanes"); each lane shuffled within windows. Ranks own lanes, so their number never changes the global order.

Legend: N samples of the domain, B its images per step, G steps per epoch, C samples per chunk, W samples per
window.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


class Stream(IntEnum):
    """What a random stream is for; keeps streams of equal numbers apart."""

    CHUNKS = 0
    WINDOW = 1
    PAIRS = 2


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """The random numbers of (seed, stream, key), the same on every machine and in every order of asking."""
    sequence = np.random.SeedSequence(seed, spawn_key=(int(stream), *key))
    return np.random.Generator(np.random.Philox(sequence))


@dataclass(frozen=True)
class DomainOrder:
    """The order of one domain's samples, epoch after epoch without end."""

    seed: int
    domain: int
    samples: int
    batch: int
    """Images of this domain per step, over all ranks: the number of lanes."""
    chunk: int
    window: int
    """Samples, a multiple of ``chunk``."""
    tail: Literal["drop", "pad"]

    @property
    def steps_per_epoch(self) -> int:
        """G: batches that one pass over the domain makes."""
        full, rest = divmod(self.samples, self.batch)
        return full + (1 if rest and self.tail == "pad" else 0)

    def windows_per_epoch(self, lane: int) -> int:
        """Windows of a lane in one epoch; the first and the last may be shorter than W."""
        return -(-(self.steps_per_epoch + self._shift(lane)) // self.window)

    def window_at(self, lane: int, position: int) -> tuple[int, int]:
        """The window that holds the ``position``-th sample of ``lane`` in an epoch, and its place in there."""
        window = (position + self._shift(lane)) // self.window
        return window, position - self._first_position(lane, window)

    def lane_window(self, epoch: int, lane: int, window: int) -> Indices:
        """The samples of one window of ``lane``, in the order in which they go into batches."""
        start = lane * self.steps_per_epoch
        first = self._first_position(lane, window)
        last = min(self._first_position(lane, window + 1), self.steps_per_epoch)
        positions = np.arange(start + first, start + last) % self.samples
        begin, sample = chunk_layout(self.seed, self.domain, epoch, self.samples, self.chunk)
        chunks = np.searchsorted(begin, positions, side="right") - 1
        indices = sample[chunks] + positions - begin[chunks]
        return generator(self.seed, Stream.WINDOW, self.domain, epoch, lane, window).permutation(indices)

    def _shift(self, lane: int) -> int:
        # Lanes turn to their next window at different steps, so that reading is spread over all steps.
        return lane * self.window // self.batch

    def _first_position(self, lane: int, window: int) -> int:
        return max(window * self.window - self._shift(lane), 0)


@lru_cache(maxsize=64)
def chunk_layout(seed: int, domain: int, epoch: int, samples: int, chunk: int) -> tuple[Indices, Indices]:
    """The samples of one epoch, cut into chunks at a random phase, and the chunks permuted.

    Of each chunk in turn: its first position in the epoch's sequence, and the sample at that position.
    """
    random = generator(seed, Stream.CHUNKS, domain, epoch)
    phase = int(random.integers(chunk))
    starts = np.concatenate([[0], np.arange(phase or chunk, samples, chunk, dtype=np.int64)])
    lengths = np.diff(starts, append=samples)
    order = random.permutation(len(starts))
    begin = np.concatenate([[0], np.cumsum(lengths[order])[:-1]])
    return begin, starts[order]


@dataclass(frozen=True)
class PairOrder:
    """Which two domains make a step: rounds of all pairs of domains, each round in an order of its own.

    One domain alone makes every step.
    """

    seed: int
    domains: int

    @property
    def steps_per_round(self) -> int:
        """Pairs of domains."""
        return self.domains * (self.domains - 1) // 2

    def at(self, step: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The two domains of a step, lower first, and how many batches of each the steps before have used."""
        if self.domains == 1:
            return (0,), (step,)
        turn, place = divmod(step, self.steps_per_round)
        pairs = pair_round(self.seed, self.domains, turn)
        now = pairs[place]
        used = [turn * (self.domains - 1) + sum(domain in pair for pair in pairs[:place]) for domain in now]
        return now, tuple(used)


@lru_cache(maxsize=4)
def pair_round(seed: int, domains: int, turn: int) -> tuple[tuple[int, int], ...]:
    """All pairs of domains once, in the order of round ``turn``."""
    pairs = list(combinations(range(domains), 2))
    return tuple(pairs[place] for place in generator(seed, Stream.PAIRS, turn).permutation(len(pairs)))
