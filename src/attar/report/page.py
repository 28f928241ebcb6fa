"""report.html: one self-contained page that shows what a condensed set is and how good it is."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from markupsafe import Markup

from attar.card import CLASSIFIED
from attar.condensed import Condensed
from attar.real.objects import DETECTION
from attar.real.realset import RealSet
from attar.report import accuracy, facts, losses, pictures, wording
from attar.report.balance import balance, weights
from attar.report.choice import choice, judged_of
from attar.report.classes import per_class
from attar.report.cost import cost
from attar.report.excerpts import excerpts
from attar.report.facts import Score, Step
from attar.report.provenance import provenance
from attar.report.render import template

LOG = "log.jsonl"


def render(condensed: Condensed, *, real: RealSet | None = None, folder: str | None = None) -> str:
    """The page of a condensed set: one HTML file without scripts or outside resources; equal sets give equal bytes.

    Args:
        condensed: what is shown; what its manifest lacks is left out.
        real: where given, a few real examples of each class stand before the kept ones.
        folder: what the page calls the set's folder in code and commands; the name of its path where left out.

    Raises:
        UsageError: ``real`` has other classes than the condensed set.
    """
    manifest = condensed.manifest
    steps, scores = facts.lineage(manifest.get("lineage")), facts.scores(manifest.get("scores"))
    n_real = facts.whole(facts.mapping(manifest.get("source")).get("rows")) or (len(real) if real else None)
    noun, synthetic = "examples" if condensed.bytes8 is None else "images", manifest.get("kind") == "synthetic"
    judged = judged_of(condensed)
    folder = folder or (condensed.path.name if condensed.path else "") or "this-folder"
    context = {
        "name": _name(condensed),
        "kept": len(condensed),
        "real": n_real,
        "synthetic": synthetic,
        "result": _result(condensed, scores, steps, n_real=n_real, noun=noun),
        "verdict": wording.verdict(scores[0] if scores else None, alike=_alike(condensed)),
        "line": _line(condensed, steps),
        "gallery": pictures.gallery(condensed, real),
        "excerpts": excerpts(condensed),
        "groups": accuracy.groups(scores, kept=_worth(condensed), real=n_real, noun=noun, synthetic=synthetic),
        "evaluate": f"attar evaluate {facts.text(shlex.quote(folder))}",
        "loss": losses.chart(condensed.files.get(LOG, b"")),
        "choice": choice(condensed, judged, real),
        "balance": balance(condensed, judged),
        "weights": weights(condensed),
        "cost": cost(condensed, n_real, steps),
        "steps": steps,
        "provenance": provenance(condensed, steps),
        "scorable": condensed.labelled and condensed.task in ("", CLASSIFIED),
        "items": _items(condensed),
        "code": _code(folder, condensed),
    }
    return template("page.html.j2", context)


def _name(condensed: Condensed) -> str:
    return facts.text(facts.mapping(condensed.manifest.get("source")).get("name") or "a dataset", 80)


def _result(
    condensed: Condensed, scores: Sequence[Score], steps: Sequence[Step], *, n_real: int | None, noun: str
) -> Markup:
    """The sentence at the head of the page."""
    n, synthetic = len(condensed), condensed.manifest.get("kind") == "synthetic"
    what = f"synthetic {noun}" if synthetic else "real examples"
    subject = f"{wording.count(n)} {what if n != 1 else what[:-1]} of {_name(condensed)}"
    if not synthetic and steps and steps[0].method:
        subject += f", chosen by {steps[0].named},"
    stored = _worth(condensed)
    if stored < n:
        what = "stored ones" if condensed.enlarged > 1 else "images' worth of bytes"
        subject += f", decoded from {wording.count(stored)} {what},"
    best = scores[0] if scores else None
    return wording.sentence(best, subject=subject, kept=stored, real=n_real, noun=noun)


def _worth(condensed: Condensed) -> int:
    """Images that the stored bytes are worth, where a manifest tells."""
    if "stored" in condensed.exact:
        return condensed.worth
    return facts.whole(facts.mapping(condensed.manifest.get("budget")).get("stored")) or len(condensed)


def _alike(condensed: Condensed) -> str:
    """What random examples beside it have in common with it."""
    return "of as many bytes" if _worth(condensed) < len(condensed) else "of the same number"


def _line(condensed: Condensed, steps: Sequence[Step]) -> list[str]:
    """What it is, in a few words each."""
    sizes = [n for _, n in per_class(condensed)]
    said = [f"{len(sizes)} classes"] if len(sizes) > 1 else []
    if sizes and min(sizes) == max(sizes):
        said.append(f"{wording.count(sizes[0])} of each class")
    if condensed.bytes8 is not None:
        c, h, w = condensed.bytes8.shape[1:]
        said.append(f"{h} × {w} pixels, {'grey' if c == 1 else 'colour'}")
    return said + [f"{s.verb} {s.named}".strip() + (f", seed {s.seed}" if s.seed else "") for s in steps]


def _items(condensed: Condensed) -> str:
    """What a set as a torch dataset holds."""
    if condensed.task == DETECTION:
        return "(image, objects)"
    return "(image, label)" if condensed.labelled else "(image, -1), as no example has a label"


def _code(folder: str, condensed: Condensed) -> str:
    """Three lines that open the set and read batches; a JSON string in full Unicode is a Python string too."""
    batch = min(256, max(1, len(condensed)))
    lines = [
        "import attar, torch",
        f"kept = attar.open({json.dumps(folder, ensure_ascii=False)})",
        f"loader = torch.utils.data.DataLoader(kept, batch_size={batch}, shuffle=True)",
    ]
    if condensed.task == DETECTION:  # images hold any number of objects: no batch of them by itself
        lines = ["import attar", lines[1], "image, objects = kept[0]"]
    return "\n".join(facts.text(line, 400) for line in lines)
