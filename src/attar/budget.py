"""How much to keep, divided over the classes so that the total is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral

from attar.errors import DataError, UsageError


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many examples to keep. Exactly one field is set.

    Args:
        ipc: images per class, >= 1.
        rows: examples in all, >= 1.
        fraction: share of the real examples, in (0, 1].
        bytes: raw 8-bit bytes of the kept examples, >= one example.
    """

    ipc: int | None = None
    rows: int | None = None
    fraction: float | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        given = {k: v for k, v in vars(self).items() if v is not None}
        if len(given) != 1:
            what = ", ".join(given) or "nothing"
            raise UsageError(f"a budget takes exactly one of ipc, rows, fraction, bytes, but got {what}; try ipc=10")
        name, value = next(iter(given.items()))
        if name == "fraction" and not 0 < value <= 1:
            raise UsageError(f"fraction={value} is not in (0, 1]; try --keep 0.1")
        if name != "fraction" and not (isinstance(value, Integral) and int(value) >= 1):
            raise UsageError(f"{name}={value} must be a whole number of at least 1")

    def __str__(self) -> str:
        name, value = next((k, v) for k, v in vars(self).items() if v is not None)
        return f"{name} {value}"

    def total(self, sizes: Sequence[int], example_bytes: int = 1) -> int:
        """The number of examples to keep out of classes of the given sizes."""
        n = sum(sizes)
        if self.ipc is not None:
            return self.ipc * len(sizes)
        if self.rows is not None:
            return self.rows
        if self.fraction is not None:
            return max(1, round(Fraction(str(self.fraction)) * n))
        assert self.bytes is not None
        if self.bytes < example_bytes:
            raise UsageError(
                f"bytes={self.bytes} is less than one example of {example_bytes} bytes; raise it to {example_bytes}"
            )
        return self.bytes // example_bytes

    def counts(
        self,
        sizes: Sequence[int],
        *,
        balanced: bool = True,
        example_bytes: int = 1,
        names: Sequence[str] = (),
        limited: bool = True,
    ) -> list[int]:
        """Examples to keep per class; the sum is exactly :meth:`total`.

        Args:
            sizes: real examples per class, length K.
            balanced: the same number for every class as far as the classes reach; else in proportion to their sizes.
            example_bytes: raw bytes of one example, for a budget in bytes.
            names: class names for messages.
            limited: whether a class can give no more examples than it has (selection, and real starts).

        Raises:
            DataError: an ``ipc`` larger than a class, or a total larger than all classes together.
        """
        total = self.total(sizes, example_bytes)
        if self.ipc is not None:
            for k, size in enumerate(sizes):
                if limited and size < self.ipc:
                    name = names[k] if k < len(names) else str(k)
                    least = f"lower --ipc to {min(sizes)}" if min(sizes) else "leave out the classes without examples"
                    raise DataError(
                        f"ipc={self.ipc} asks for {self.ipc} examples of every class but class '{name}' has {size}; "
                        f"{least} or use --rows"
                    )
            return [self.ipc] * len(sizes)
        if limited and total > sum(sizes):
            raise DataError(f"{self} asks for {total} examples but there are {sum(sizes)}; lower it")
        if balanced:
            return level(total, sizes) if limited else largest_remainder(total, [1] * len(sizes))
        return largest_remainder(total, sizes, sizes if limited else None)


def largest_remainder(total: int, shares: Sequence[int], caps: Sequence[int] | None = None) -> list[int]:
    """Divides ``total`` in proportion to ``shares`` (Hamilton's method); ties go to the lower class.

    Args:
        caps: no part exceeds its cap; what is cut off is divided again among the others.
    """
    parts = [0] * len(shares)
    open_ = [i for i, s in enumerate(shares) if s > 0]
    left = total
    while left and open_:
        whole = sum(shares[i] for i in open_)
        quota = {i: Fraction(left * shares[i], whole) for i in open_}
        given = {i: int(q) for i, q in quota.items()}
        order = sorted(open_, key=lambda i: (given[i] - quota[i], i))
        for i in order[: left - sum(given.values())]:
            given[i] += 1
        if caps is None:
            return [given.get(i, 0) for i in range(len(shares))]
        for i in open_:
            parts[i] += given[i]
        left = sum(max(0, parts[i] - caps[i]) for i in open_)
        for i in open_:
            parts[i] = min(parts[i], caps[i])
        open_ = [i for i in open_ if parts[i] < caps[i]]
    return parts


def level(total: int, sizes: Sequence[int]) -> list[int]:
    """Divides ``total`` as evenly as the class sizes allow (water filling).

    The result is ``min(size, x)`` for the largest whole level x that fits; what is left goes one by one to the lowest
    classes that reach above x. So parts of open classes never differ by more than one, and the parts of a smaller total
    are never larger.
    """
    x, high = 0, max(sizes, default=0)
    while x < high:
        middle = (x + high + 1) // 2
        fits = sum(min(s, middle) for s in sizes) <= total
        x, high = (middle, high) if fits else (x, middle - 1)
    parts = [min(s, x) for s in sizes]
    above = [i for i, s in enumerate(sizes) if s > x]
    for i in above[: total - sum(parts)]:
        parts[i] += 1
    return parts
