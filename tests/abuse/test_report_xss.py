"""Names are data: no element and no attribute of a page comes from one, wherever it is put.

A page with hostile names is parsed and compared with the same page with plain names: both must hold the same elements with
the same attributes, and differ in text alone.
"""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

from attar.condensed import Condensed, condense
from attar.method import Rows
from attar.real.load import load
from attar.real.realset import RealSet
from attar.report import compare, facts, page

CORPUS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</style><style>*{background:url(http://x.example)}",
    "</svg><svg onload=alert(1)>",
    "</text><foreignObject><img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "'><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "' onmouseover='alert(1)' x='",
    "` onmouseover=`alert(1)`",
    "x onmouseover=alert(1) ",
    "<!--",
    "--><img src=x>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?php echo 1 ?>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;&quot;",
    "<base href=//x.example>",
    "<meta http-equiv=refresh content=0;url=//x.example>",
    "<link rel=stylesheet href=//x.example/x.css>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<a href=javascript:alert(1)>x</a>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "{0.__class__}{}%s%(x)s",
    "\x00<\x00script>",
    "\u2028<script>\u2029",
    "\u202e<b>",
    "\ud800<b>",
    "＜script＞",
    "+ADw-script+AD4-",
    "<" * 5000,
    "</pre></code><script>",
]

SHOWN_IN = {"alt", "title", "aria-label"}
"""Attributes that hold names as text."""


class Skeleton(HTMLParser):
    """Elements with their attributes, names left out; and all that a reader would see or hear."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: list[Any] = []
        self.words: list[str] = []
        self.feed(html.encode().decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parts.append(
            (tag, [(k, None if k in SHOWN_IN or (tag == "svg" and k == "height") else v) for k, v in attrs])
        )
        self.words += [v or "" for k, v in attrs if k in SHOWN_IN]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self.parts.append("/" + tag)

    def handle_comment(self, data: str) -> None:
        self.parts.append("comment")

    def handle_pi(self, data: str) -> None:
        self.parts.append("instruction")

    def unknown_decl(self, data: str) -> None:
        self.parts.append("declaration")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def three() -> RealSet:
    """30 digits of three classes."""
    train = load("digits").train
    return train.subset(torch.cat([c[:10] for c in train.classes[:3]]))


def score(name: str) -> dict[str, Any]:
    measured = {"last_mean": 0.5, "last_std": 0.1, "interval": [0.4, 0.6]}
    named = dict.fromkeys(("protocol", "network", "labels", "augment", "epochs", "images"), name)
    return {**measured, **named, "baseline": {"random": measured, name: measured}}


def named(real: RealSet, name: str) -> tuple[Condensed, RealSet]:
    """A subset and its real set with ``name`` in every place that takes one."""
    real = dataclasses.replace(
        real, name=name, class_names=(name,) * 10, source={name: name, "path": name, "list": [name]}
    )
    step = {
        **dict.fromkeys(("verb", "method", "seed", "budget", "command"), name),
        "settings": {name: name, "nested": {name: [name]}},
        "plan": {name: name},
        "environment": {name: name},
        "seconds": 1.0,
    }
    picked = torch.tensor([0, 1, 2, 10, 11, 20])
    judged = {k: torch.linspace(1, 0, len(real)) for k in ("score", "confidence", "variability")}
    weight = torch.arange(1.0, 7.0)
    rows = Rows(picked=picked, recipe={name: name}, judged=judged, weight=weight)
    condensed = condense(rows, real, kind="subset", lineage=[step])
    condensed.table = condensed.table.append_column(name.encode(errors="replace"), [["x"] * 6])
    return condensed.scored([score(name)]), real


def skeleton(real: RealSet, name: str) -> Skeleton:
    condensed, real = named(real, name)
    return Skeleton(page.render(condensed, real=real, folder=name))


@pytest.mark.parametrize("name", CORPUS, ids=range(len(CORPUS)))
def test_no_element_of_a_page_comes_from_a_name(three: RealSet, name: str) -> None:
    hostile, plain = skeleton(three, name), skeleton(three, "plain")
    assert hostile.parts == plain.parts
    shown = facts.text(name, 60)
    assert sum(shown in word for word in hostile.words) > 10, "the name is shown as it is"


@pytest.mark.parametrize("name", CORPUS, ids=range(len(CORPUS)))
def test_no_element_of_a_comparison_comes_from_a_name(name: str) -> None:
    def rows(name: str) -> list[dict[str, Any]]:
        return [{"method": name, "ipc": ipc, "score": score(name)} for ipc in (1, 10)]

    for some in (slice(0, 1), slice(0, 2)):
        hostile = Skeleton(compare.render(rows(name)[some], title=name))
        assert hostile.parts == Skeleton(compare.render(rows("plain")[some], title="plain")).parts
        assert any(facts.text(name, 60) in word for word in hostile.words)


@pytest.mark.parametrize("name", CORPUS, ids=range(len(CORPUS)))
def test_names_in_rows_of_text_are_text(name: str) -> None:
    import pyarrow as pa

    def excerpt(name: str) -> Skeleton:
        name = name.encode(errors="replace").decode()
        table = pa.table({"label": [0, 1], name: [name, "x"], "b": ["y", name]})
        ids = torch.arange(2)
        real = RealSet(name="t", task="text", table=table, images=None, rows=ids, ids=ids, class_names=(name, name))
        return Skeleton(page.render(condense(Rows(picked=ids), real, kind="subset", lineage=[])))

    assert excerpt(name).parts == excerpt("plain").parts


def test_the_comparison_of_skeletons_sees_what_is_not_escaped(three: RealSet) -> None:
    condensed, real = named(three, "plain")
    html = page.render(condensed, real=real)
    for broken in ("<b>x</b>", '<img src="x" onerror="y">', "<!-- x -->"):
        assert Skeleton(html.replace(">plain<", f">{broken}<", 1)).parts != Skeleton(html).parts
    assert Skeleton(html.replace('alt="plain', 'alt="" onerror="plain', 1)).parts != Skeleton(html).parts
