"""A published ``.pt`` as a Condensed that is evaluated like any other."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from attar.condensed import open_condensed
from attar.errors import DataError
from attar.evaluate import imported
from attar.evaluate.evaluate import evaluate
from attar.evaluate.imported import condensed_from_pt
from attar.real.realset import Splits


def test_an_imported_set_is_evaluated(digits: Splits, tmp_path: Path) -> None:
    index = digits.train.sample(2, torch.Generator().manual_seed(0)).flatten()
    images, labels = digits.train.draw(index) * 1.5, digits.train.labels[index]  # beyond the range of 8-bit pictures
    path = tmp_path / "res_DC.pt"
    torch.save({"data": [[images, labels]], "accs_all_exps": {}}, path)
    kept = condensed_from_pt(path, digits.train, recipe={"protocol": "dsa"})
    assert kept.kind == "synthetic" and torch.equal(kept.images, images) and torch.equal(kept.labels, labels)
    (entry,) = kept.manifest["lineage"]
    assert (entry["verb"], entry["method"]) == ("import", "imported")
    assert entry["files"] == {"res_DC.pt": hashlib.sha256(path.read_bytes()).hexdigest()}
    exact, rounded = evaluate(kept, digits, nets=("convnet:depth=1:width=8",), seeds=1, epochs=2)
    assert (exact["images"], rounded["images"]) == ("exact", "8-bit")
    kept.scored([exact, rounded]).save(tmp_path / "kept")
    assert torch.equal(open_condensed(tmp_path / "kept").images, images)


def test_soft_labels_are_distributions_or_said_to_be_logits(
    digits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = digits.train.draw(torch.arange(4))
    logits = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    torch.save([images, logits], tmp_path / "logits.pt")
    monkeypatch.setattr(imported, "import_pt", lambda path, **asked: (images, logits))  # the reader has its own tests
    with pytest.raises(DataError, match="if they are logits"):
        condensed_from_pt(tmp_path / "logits.pt", digits.train)
    kept = condensed_from_pt(tmp_path / "logits.pt", digits.train, logits=True)
    assert torch.allclose(kept.exact["soft_label"], logits.softmax(1))
    assert kept.labels.tolist() == logits.argmax(1).tolist()
    assert kept.recipe == {"labels": "soft"}
