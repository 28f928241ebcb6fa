"""Numbers and findings in words."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from scipy.special import stdtrit

from attar.evaluate.scores import LEVEL
from attar.report.facts import Measure, Score

NARROW = "\u202f"
"""A thin space that does not break, between a number and its unit."""

_BASELINES = {"random": "{} random real {}", "full": "all {} real {}"}
_NETWORKS = {"convnet": "ConvNet", "mlp": "MLP", "resnet": "ResNet", "vgg": "VGG", "alexnet": "AlexNet", "vit": "ViT"}


def opening(words: str) -> str:
    """The first letter of a sentence made large."""
    return words[:1].upper() + words[1:]


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(x for x in (", ".join(names[:-1]), *names[-1:]) if x)


def overlap(a: Measure, b: Measure) -> bool:
    """Whether the intervals of two measures touch."""
    return a.reach[0] <= b.reach[1] and b.reach[0] <= a.reach[1]


def difference(a: Measure, b: Measure) -> tuple[float, float] | None:
    """The interval of mean(a) - mean(b) (Welch, 1947); None where a spread is not known.

    gap -+ t(f, .975) sqrt(u + v),  u, v = std^2 / n of each,  f = (u + v)^2 / (u^2 / (n_a - 1) + v^2 / (n_b - 1))
    """
    if a.std is None or b.std is None or (a.seeds or 0) < 2 or (b.seeds or 0) < 2:
        return None
    n, m = a.seeds or 2, b.seeds or 2
    gap, u, v = a.mean - b.mean, a.std**2 / n, b.std**2 / m
    if u + v == 0:
        return gap, gap
    freedom = (u + v) ** 2 / (u**2 / (n - 1) + v**2 / (m - 1))
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * (u + v) ** 0.5
    return gap - half, gap + half


def count(n: int) -> str:
    """1437 -> 1,437."""
    return f"{n:,}"


def size(n: float) -> str:
    """Bytes with a decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 999.5:
            return f"{n:.3g}{NARROW}{unit}"
        n /= 1000
    return f"{n:,.3g}{NARROW}TB"


def duration(seconds: float) -> str:
    """Seconds in the two largest units."""
    if seconds < 59.5:
        return f"{seconds:.2g}{NARROW}s"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    if not hours:
        return f"{m}{NARROW}min {s}{NARROW}s" if s else f"{m}{NARROW}min"
    return f"{hours:,}{NARROW}h {m}{NARROW}min" if m else f"{hours:,}{NARROW}h"


def share(part: float, total: float) -> str:
    """A part of a whole in percent."""
    percent = 100 * part / total
    return f"{percent:.3g}{NARROW}%" if percent < 99.95 else f"{percent:,.0f}{NARROW}%"


def accuracy(m: Measure | None) -> str:
    """``0.861 ± 0.010``."""
    if m is None:
        return "not measured"
    return f"{m.mean:.3f}" if m.std is None else f"{m.mean:.3f} ± {m.std:.3f}"


def interval(m: Measure | None) -> str:
    """``0.851–0.871``."""
    return "" if m is None or m.interval is None else f"{m.interval[0]:.3f}–{m.interval[1]:.3f}"


def network(name: str) -> str:
    """A network's name as the field writes it."""
    for known, written in _NETWORKS.items():
        if name.startswith(known):
            return written + name[len(known) :]
    return name or "network"


def baseline(key: str, *, kept: int, real: int | None, noun: str) -> str:
    """What a baseline is, in words."""
    n = real if key == "full" else kept
    form = _BASELINES.get(key)
    if form is None:
        return key.replace("_", " ").replace("-", " ")
    return form.format("" if n is None else count(n), noun).replace("  ", " ")


def sentence(best: Score | None, *, subject: str, kept: int, real: int | None, noun: str) -> Markup:
    """The result in one sentence.

    Args:
        best: the score to speak of; None where nothing was measured.
        subject: what was kept ("10 synthetic images of digits").
        kept, real: how many examples.
        noun: "images" or "examples".
    """
    one = kept == 1
    if best is None or best.kept is None:
        clause = "it trains" if one else "they train"
        return Markup("{}. How well {} a network has not been measured yet.").format(subject.rstrip(","), clause)
    name = network(best.network)
    article = "an" if name[0].lower() in "aeiou" else "a"
    labels = f" with {best.labels} labels" if best.labels not in ("", "hard") else ""
    said = Markup("{} {} {} {}{} to <strong>{}</strong> accuracy").format(
        subject, "trains" if one else "train", article, name, labels, together(best.kept)
    )
    for key in ("random", "full"):
        if key in best.baselines:
            single = one and key == "random"
            what = baseline(key, kept=kept, real=real, noun=noun[:-1] if single else noun)
            reach = "reaches" if single else "reach"
            said += Markup("; {} {} {}").format(what, reach, together(best.baselines[key]))
    return said + "."


def together(m: Measure) -> str:
    """An accuracy that is not broken over two lines."""
    return accuracy(m).replace(" ", "\u00a0")


def verdict(best: Score | None, *, alike: str) -> str:
    """How the kept examples stand to random ones, with the spread of both in mind.

    Args:
        alike: what both have in common, as ``of the same number``.
    """
    random = best.baselines.get("random") if best else None
    if best is None or best.kept is None:
        return ""
    if random is None:
        return f"No random examples {alike} were measured beside it, so the score stands alone."
    gap, apart = best.kept.mean - random.mean, difference(best.kept, random)
    if apart is not None and apart[0] <= 0 <= apart[1]:
        held = "the 95 % interval of the difference holds 0"
        return f"This is not clearly different from taking examples at random: {held}."
    if apart is None and overlap(best.kept, random):
        return "The two overlap: this is not clearly different from taking examples at random."
    alone = " A single seed says nothing of the spread." if 1 in (best.kept.seeds, random.seeds) else ""
    return f"That is {abs(gap):.3f} {'above' if gap > 0 else 'below'} random examples {alike}.{alone}"
