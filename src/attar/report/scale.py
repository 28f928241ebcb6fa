"""Axes: from values to places between 0 and 1, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """An axis.

    Args:
        low, high: values at its ends.
        ticks: round values inside it.
        log: whether equal ratios are equally long.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a value: 0 at ``low``, 1 at ``high``; what lies outside is put on the end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def label(self, tick: float) -> str:
        """A tick in as many digits as tell it from its neighbours."""
        if self.log or len(self.ticks) < 2:
            return f"{tick:,.4g}" if abs(tick) < 1e6 else f"{tick:.0e}"
        step = self.ticks[1] - self.ticks[0]
        size = max(abs(self.low), abs(self.high))
        if step < 1e-5 or size >= 1e7:
            return f"{tick:.{math.ceil(math.log10(size / step)) + 1}g}"
        return f"{tick:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def linear(
    values: Iterable[float], *, least: float = 0.0, inside: tuple[float, float] | None = None, n: int = 5
) -> Scale:
    """An axis whose ends are ticks.

    Args:
        values: what must fit; none give [0, 1].
        least: the shortest span.
        inside: bounds that the ends do not pass.
        n: about how many steps between ticks.
    """
    found = list(values) or [0.0, 1.0]
    low, high = min(found), max(found)
    size = max(abs(low), abs(high))
    if high - low <= 1e-4 * size:  # as good as constant
        least = max(least, 0.1 * size or 1.0)
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    step = _round_step((high - low) / n)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if inside:
        first, last = max(first, math.floor(inside[0] / step)), min(last, math.ceil(inside[1] / step))
        if first >= last:
            first, last = math.floor(inside[0] / step), math.ceil(inside[1] / step)
    return Scale(first * step, last * step, tuple(k * step for k in range(first, last + 1)))


def logarithmic(values: Iterable[float], ticks: tuple[float, ...] = ()) -> Scale:
    """An axis of ratios over positive values; ticks at powers of ten and, where these are few, at 2 and 5 of them."""
    found = list(values)
    low, high = min(found), max(found)
    if high <= low * 1.0001:
        low, high = low / 2, high * 2
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    whole = [10.0**p for p in powers if low <= 10.0**p <= high]
    if len(whole) > 7:
        whole = whole[:: math.ceil(len(whole) / 7)]
    finer = [d * 10.0**p for p in powers for d in (1, 2, 5) if low <= d * 10.0**p <= high]
    return Scale(low, high, ticks or tuple(whole if len(whole) > 2 else finer), log=True)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(d * power for d in (1, 2, 5, 10) if d * power >= least * (1 - 1e-9))
