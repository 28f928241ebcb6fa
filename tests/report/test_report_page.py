"""report.html: what it says, that it stands alone, and that poor manifests do not stop it."""

from __future__ import annotations

import base64
import dataclasses
import re
import statistics
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from attar.condensed import Condensed, condense, open_condensed
from attar.errors import UsageError
from attar.io import png
from attar.method import Rows
from attar.real.realset import RealSet
from attar.report import page, wording
from attar.report.facts import Measure

VOID = {"meta", "img", "br", "path", "line", "circle", "rect"}


class Reader(HTMLParser):
    """Collects elements with attributes and the text outside the style sheet; checks that elements are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", "".join(self.words)).replace("\u00a0", " ").replace("\u202f", " ")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def pictures(html: str) -> list[torch.Tensor]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [png.decode(base64.b64decode(x)) for x in found]


def test_the_page_opens_with_the_result_in_one_sentence(synthetic: Condensed, score: Any) -> None:
    text = Reader(page.render(synthetic.scored([score()]))).text
    sentence = (
        "30 synthetic images of digits train a ConvNet to 0.861 ± 0.010 accuracy; "
        "30 random real images reach 0.620 ± 0.030; all 1,438 real images reach 0.968 ± 0.004."
    )
    assert sentence in text
    assert "That is 0.241 above random examples of the same number." in text
    assert text.index(sentence) < text.index("What was kept") < text.index("Accuracy") < text.index("Cost")


def test_decoded_images_are_told_beside_as_many_random_ones_as_are_stored(synthetic: Condensed, score: Any) -> None:
    synthetic.exact["stored"] = synthetic.images[::3]
    text = Reader(page.render(synthetic.scored([score()]))).text
    assert "30 synthetic images of digits, decoded from 10 stored ones, train a ConvNet to" in text
    assert "above random examples of as many bytes." in text
    assert "10 random real images reach 0.620" in text and "30 random" not in text


def test_a_score_within_the_spread_of_random_examples_is_called_so(synthetic: Condensed, score: Any) -> None:
    text = Reader(page.render(synthetic.scored([score(0.64, 0.02)]))).text
    assert "not clearly different from taking examples at random" in text


def test_a_clear_difference_is_told_although_the_intervals_touch() -> None:
    kept, random = [0.90, 0.92, 0.89], [0.69, 0.70, 0.80]
    one, other = (
        Measure(mean=statistics.fmean(x), std=statistics.stdev(x), interval=(0.0, 1.0), seeds=3) for x in (kept, random)
    )
    expected = ttest_ind(kept, random, equal_var=False).confidence_interval(0.95)
    found = wording.difference(one, other)
    assert found is not None and found[0] > 0
    assert found == pytest.approx((expected.low, expected.high))
    assert wording.difference(one, Measure(mean=0.5)) is None


def test_a_score_without_random_examples_is_said_to_stand_alone(synthetic: Condensed, score: Any) -> None:
    alone = {**score(), "baseline": {"random": None}}
    assert "stands alone" in Reader(page.render(synthetic.scored([alone]))).text


def test_both_networks_and_both_sources_of_images_are_in_the_table(synthetic: Condensed, score: Any) -> None:
    scores = [score(0.70, network="mlp", images="8-bit"), score(), score(0.71, network="mlp")]
    scores += [{**score(0.85, images="8-bit"), "best_mean": 0.877}]
    html = page.render(synthetic.scored(scores))
    text = Reader(html).text
    for shown in ("0.861 ± 0.010", "0.850 ± 0.010", "0.710 ± 0.010", "0.700 ± 0.010", "0.841–0.881", "0.877"):
        assert shown in text
    assert "train a ConvNet to 0.861" in text, "the first exact score is the one that the page opens with"
    assert html.count('class="chart dots"') == 2


def test_a_ranking_shows_both_scores_with_their_intervals(synthetic: Condensed, score: Any) -> None:
    found = {
        "label_robust": {"score": 0.31234, "interval": [0.29, 0.33], "w": 0.5},
        "augmentation_robust": {"score": 0.2999, "interval": None, "gamma": 0.5},
    }
    text = Reader(page.render(synthetic.scored([{**score(), "protocol": "dd-ranking, dsa", "ranking": found}]))).text
    assert "DD-Ranking, ConvNet label-robust score 0.3123 (0.2900–0.3300)" in text.replace("score0", "score 0")
    assert "augmentation-robust score 0.2999 " in text.replace("score0", "score 0")
    assert "DD-Ranking" not in Reader(page.render(synthetic.scored([score()]))).text
    broken = {**score(), "ranking": {"label_robust": {"score": "high", "interval": [1, "x"]}}}
    assert "DD-Ranking" not in Reader(page.render(synthetic.scored([broken]))).text


def test_the_parts_of_a_synthetic_page(synthetic: Condensed, score: Any) -> None:
    text = Reader(page.render(synthetic.scored([score()]), folder="digits-dm")).text
    for shown in (
        'kept = attar.open("digits-dm")',
        "attar distill digits --method dm --ipc 3 --out small",
        "lr_img0.5",
        "momentumnone",
        "crop, scale",
        "cpuTestium 9",
        "seed7",
        "34 s",
        "612 MB",
        "Mean loss against steps",
        synthetic.manifest["source"]["fingerprint"],
    ):
        assert shown in text.replace("\n", ""), shown
    assert "Class balance" not in text
    assert "attar evaluate" not in text


def test_sizes_are_told_beside_the_real_set(synthetic: Condensed) -> None:
    html = page.render(synthetic)
    rows = [re.sub(r"<[^>]+>", "|", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    rows = [[c.replace("\u202f", " ") for c in row.split("|") if c] for row in rows]
    assert ["examples", "30", "1,438", "2.09 %"] in rows
    assert ["pictures, 8-bit pixels", "1.92 kB", "92 kB", "2.09 %"] in rows
    assert ["pictures, exact numbers", "7.68 kB", "92 kB", "8.34 %"] in rows


def test_examples_without_a_class_each_have_no_bytes_of_labels(subset: Condensed) -> None:
    labelled = page.render(subset)
    subset.table = subset.table.drop_columns(["label"])
    assert '<th scope="row">labels</th>' in labelled and '<th scope="row">labels</th>' not in page.render(subset)


def test_checksums_are_those_of_the_saved_files(synthetic: Condensed, tmp_path: Any) -> None:
    html = page.render(synthetic)
    synthetic.save(tmp_path / "kept")
    for name in ("data/train.parquet", "tensors.safetensors"):
        assert open_condensed(tmp_path / "kept").manifest["files"][name]["sha256"] in html


def test_before_stands_a_seeded_few_of_the_real(synthetic: Condensed, real: RealSet) -> None:
    shown = pictures(page.render(synthetic, real=real))
    assert len(shown) == 10 * (4 + 3)
    for k in range(10):
        row = shown[7 * k : 7 * k + 7]
        members = real.raw(real.classes[k])
        assert all((members == x).flatten(1).all(1).any() for x in row[:4])
        assert synthetic.bytes8 is not None
        assert all(torch.equal(x, y) for x, y in zip(row[4:], synthetic.bytes8[synthetic.labels == k]))


def test_a_real_set_of_other_classes_is_refused(synthetic: Condensed, real: RealSet) -> None:
    other = dataclasses.replace(real, class_names=tuple("abcdefghij"))
    with pytest.raises(UsageError, match=r"a, b, c, d, e and 5 more"):
        page.render(synthetic, real=other)


def test_a_subset_tells_picks_gains_and_balance(subset: Condensed, score: Any) -> None:
    html = page.render(subset.scored([score(0.7, images="8-bit")]))
    text = Reader(html).text
    assert "40 real examples of digits, chosen by herding, train a ConvNet to 0.700" in text
    assert "synthetic" not in text.lower()
    assert "Class balance" in text
    first = subset.table["source_id"][0].as_py()
    assert f'title="pick 1, gain 0.9, weight 1, row {first} of the source"' in html


def test_many_examples_are_cut_and_counted(real: RealSet) -> None:
    picked = real.classes[0][:50]
    condensed = condense(Rows(picked=picked), real, kind="subset", lineage=[])
    html = page.render(condensed)
    assert len(pictures(html)) == 10
    assert "the first 10 kept examples are shown" in Reader(html).text


def test_without_a_score_the_page_tells_the_command(synthetic: Condensed) -> None:
    text = Reader(page.render(synthetic, folder="my kept")).text
    assert "has not been measured yet" in text
    assert "attar evaluate 'my kept'" in text


def test_one_example_is_spoken_of_in_the_singular(real: RealSet, score: Any) -> None:
    condensed = condense(Rows(picked=torch.tensor([4])), real, kind="subset", lineage=[]).scored([score()])
    text = Reader(page.render(condensed)).text
    assert "1 real example of digits trains a ConvNet to" in text
    assert "1 random real image reaches 0.620" in text


def test_the_page_stands_alone(synthetic: Condensed, real: RealSet, score: Any) -> None:
    html = page.render(synthetic.scored([score()]), real=real)
    reader = Reader(html)
    tags = {tag for tag, _ in reader.elements}
    assert not tags & {
        "script",
        "link",
        "iframe",
        "object",
        "embed",
        "form",
        "a",
        "base",
        "foreignobject",
        "use",
        "image",
    }
    for _, attrs in reader.elements:
        assert not any(name.startswith("on") or name.endswith("href") for name in attrs)
        assert (attrs.get("src") or "data:").startswith("data:image/png;base64,") or "src" not in attrs
    assert "url(" not in html and "@import" not in html and "://" not in html
    policy = {"http-equiv": "Content-Security-Policy"}
    meta = [m["content"] for m in reader.all("meta") if policy.items() <= m.items()]
    assert meta == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_page_can_be_read_without_seeing_it(synthetic: Condensed, real: RealSet, score: Any) -> None:
    html = page.render(synthetic.scored([score()]), real=real)
    reader = Reader(html)
    assert reader.all("html")[0]["lang"] == "en"
    assert all(img["alt"] for img in reader.all("img"))
    assert all(th.get("scope") in ("row", "col", "rowgroup") for th in reader.all("th"))
    ids = [attrs["id"] for _, attrs in reader.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    charts = [svg for svg in reader.all("svg") if svg.get("role") == "img"]
    assert charts and all(set((svg["aria-labelledby"] or "").split()) <= set(ids) for svg in charts)
    assert "image-rendering: pixelated" in html
    assert "prefers-color-scheme: dark" in html


def test_equal_sets_give_equal_pages(synthetic: Condensed, real: RealSet, score: Any, tmp_path: Any) -> None:
    scored = synthetic.scored([score()])
    first = page.render(scored, real=real, folder="kept")
    scored.save(tmp_path / "kept")
    assert page.render(scored, real=real) == first
    assert page.render(open_condensed(tmp_path / "kept"), real=real) == first


def test_the_file_stays_small_where_pictures_are_many_and_large(real: RealSet) -> None:
    k, per_class, side = 30, 4, 128
    noise = torch.randint(0, 256, (k * per_class, 3, side, side), generator=torch.Generator().manual_seed(0))
    big = RealSet(
        name="noise",
        table=pa.table({"label": torch.arange(k).repeat_interleave(per_class).numpy()}),
        images=noise.to(torch.uint8),
        rows=torch.arange(len(noise)),
        ids=torch.arange(len(noise)),
        class_names=tuple(f"class {i}" for i in range(k)),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )
    html = page.render(condense(Rows(picked=torch.arange(len(noise))), big, kind="subset", lineage=[]), real=big)
    assert len(html) < 4_000_000
    assert "10 more classes are not shown" in Reader(html).text
    assert max(max(x.shape) for x in pictures(html)) == 96


def test_text_takes_the_place_of_pictures() -> None:
    table = pa.table({"label": [0, 1], "text": ["a plain sentence", "another " * 100]})
    ids = torch.arange(2)
    real = RealSet(
        name="texts", task="text", table=table, images=None, rows=ids, ids=ids, class_names=("human", "machine")
    )
    text = Reader(page.render(condense(Rows(picked=ids), real, kind="subset", lineage=[]))).text
    assert "a plain sentence" in text and "another another" in text and "…" in text
    assert "2 real examples of texts" in text


def test_a_minimal_manifest_is_enough(synthetic: Condensed) -> None:
    bare = dataclasses.replace(synthetic, manifest={}, files={}, exact={})
    text = Reader(page.render(bare)).text
    assert "30 real examples of a dataset" in text
    assert "attar evaluate this-folder" in text


def test_a_broken_log_is_left_out(synthetic: Condensed) -> None:
    for broken in (
        b"",
        b"nonsense",
        b'{"step": 1, "loss": [NaN]}\n' * 3,
        b"[" * 100_000,
        b'{"step": 1, "loss": [1]}\n' * 2,
    ):
        synthetic.files["log.jsonl"] = broken
        assert 'id="loss"' not in page.render(synthetic)


def test_one_seed_has_no_spread(synthetic: Condensed, score: Any) -> None:
    single = {**score(0.9, 0.0), "seeds": 1, "accuracies": [0.9], "interval": None}
    text = Reader(page.render(synthetic.scored([single]))).text
    assert "to 0.900 accuracy;" in text and "0.900 ±" not in text
    assert "A single seed says nothing of the spread." in text


def test_soft_labels_and_other_protocols_are_named(synthetic: Condensed, score: Any) -> None:
    soft, hard = {**score(0.9), "labels": "soft"}, score(0.8)
    soft["baseline"]["full"]["protocol"] = "full"
    text = Reader(page.render(synthetic.scored([soft, hard]))).text
    assert "train a ConvNet with soft labels to 0.900" in text
    assert "all 1,438 real images, protocol full" in text
    assert "ConvNet, protocol dsa, hard labels, augmentation auto, 300 epochs" in text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
KNOWN = st.fixed_dictionaries(
    {},
    optional={
        "last_mean": JSON | st.floats(),
        "last_std": JSON | st.floats(),
        "interval": JSON | st.tuples(st.floats(), st.floats()).map(list),
        "accuracies": JSON | st.lists(st.floats()),
        "baseline": st.dictionaries(
            st.sampled_from(["random", "full", "<x>"]),
            JSON | st.fixed_dictionaries({"last_mean": st.floats()}, optional={"last_std": JSON}),
        ),
        "network": JSON,
        "labels": JSON,
        "seeds": JSON,
        "images": st.sampled_from(["exact", "8-bit"]) | JSON,
    },
)
MANIFEST = st.fixed_dictionaries(
    {},
    optional={
        "kind": JSON | st.sampled_from(["subset", "synthetic"]),
        "class_names": JSON | st.lists(st.text(), max_size=12),
        "scores": JSON | st.lists(KNOWN, max_size=3),
        "lineage": JSON
        | st.lists(
            st.dictionaries(
                st.sampled_from(
                    ["verb", "method", "settings", "seconds", "steps", "command", "plan", "peak_memory", "seed"]
                ),
                JSON,
            ),
            max_size=2,
        ),
        "source": JSON | st.dictionaries(st.sampled_from(["name", "rows", "fingerprint"]), JSON),
        "budget": JSON
        | st.dictionaries(st.sampled_from(["rows", "bytes_examples", "bytes_labels", "per_class"]), JSON),
        "recipe": JSON,
        "preprocessing": JSON,
    },
)


@pytest.fixture(scope="module")
def tiny(real: RealSet) -> Condensed:
    return condense(Rows(picked=torch.tensor([5, 9, 1])), real, kind="subset", lineage=[])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(manifest=MANIFEST)
def test_no_manifest_stops_the_page(manifest: dict[str, Any], tiny: Condensed) -> None:
    html = page.render(dataclasses.replace(tiny, manifest=manifest))
    Reader(html.encode().decode())
