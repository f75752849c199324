"""Axes: where a value lies, which values get a tick, and how numbers are written."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

LOG_RATIO = 10
"""Positive curves that span more than this ratio get a logarithmic axis where one is allowed."""


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] onto pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value, clamped to the ends: a logarithm of zero lies at the bottom."""
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """About `count` round values within the range."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            finer = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
            inside = [value for value in finer if self.low <= value <= self.high]
            if len(inside) > count:
                inside = [
                    value for value in (10.0**power for power in powers) if self.low <= value <= self.high
                ]
            return inside[:: math.ceil(len(inside) / count) or 1]
        step = _round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.75)


def fit(values: Iterable[float | None], start: float, end: float, may_log: bool) -> Scale:
    """A scale for these values: logarithmic where it may and they span a lot, from zero where that is near."""
    present = [value for value in values if value is not None]
    low, high = min(present, default=0.0), max(present, default=1.0)
    if may_log and low > 0 and high / low > LOG_RATIO:
        return Scale(low / 1.1, high * 1.1, start, end, log=True)
    if low == high:
        margin = abs(low) / 2 or 0.5
        return Scale(low - margin, high + margin, start, end)
    margin = (high - low) * 0.06
    floor = 0.0 if 0 <= low < high / 2 else low - margin
    return Scale(floor, high + margin, start, end)


def tick(value: float) -> str:
    """A short number for an axis: 2,500 as 2.5k."""
    if value and abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1000:
        return f"{value / 1000:g}k"
    return number(value)


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits."""
    if value is None:
        return "not finite"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return text.replace("e-0", "e-").replace("e+0", "e")
