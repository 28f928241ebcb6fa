"""Held-out parts: exact counts, every class on both sides, groups whole, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from real_makers import pictures, write_parquet

from attar.errors import DataError, UsageError
from attar.real.load import load
from attar.real.split import hold_out, hold_out_groups
from attar.seeds import Seeds

LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=60)


@given(LABELS, st.floats(0.05, 0.9))
def test_every_class_of_two_is_on_both_sides(labels, fraction):
    y = torch.tensor(labels)
    kept, held = hold_out(y, 5, fraction=fraction, seeds=Seeds(0))
    assert torch.cat([kept, held]).sort().values.tolist() == list(range(len(y)))
    assert kept.tolist() == sorted(kept.tolist()) and held.tolist() == sorted(held.tolist())
    for k in range(5):
        n, inside = int((y == k).sum()), int((y[held] == k).sum())
        if n >= 2:
            assert 1 <= inside <= n - 1
            assert abs(inside - fraction * n) < 1 or inside in (1, n - 1)
        else:
            assert inside == 0


def test_large_classes_are_divided_exactly():
    y = torch.arange(1000) % 10
    for fraction, per_class in ((0.2, 20), (0.05, 5)):
        _kept, held = hold_out(y, 10, fraction=fraction, seeds=Seeds(0))
        assert torch.bincount(y[held]).tolist() == [per_class] * 10


def test_the_seed_decides():
    y = torch.arange(100) % 2
    first, again, other = (hold_out(y, 2, fraction=0.2, seeds=Seeds(s))[1].tolist() for s in (0, 0, 1))
    assert first == again != other


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=6, max_size=80))
def test_groups_stay_whole_and_training_keeps_every_class(rows):
    groups, y = [g for g, _ in rows], torch.tensor([k for _, k in rows])
    try:
        kept, held = hold_out_groups(y, 3, groups, fraction=0.3, seeds=Seeds(0))
    except DataError:
        holders = {k: {g for g, c in rows if c == k} for _, k in rows}
        assert set(groups) == {g for h in holders.values() if len(h) == 1 for g in h}, (
            "some group could have been held out"
        )
        return
    assert not {groups[i] for i in kept} & {groups[i] for i in held}
    assert set(y[kept].tolist()) == set(y.tolist())
    assert 0 < len(held) < len(rows)


def test_groups_reach_the_quota_where_they_can():
    groups, y = np.repeat(np.arange(100), 5), torch.from_numpy(np.repeat(np.arange(100) % 4, 5))
    _kept, held = hold_out_groups(y, 4, groups.tolist(), fraction=0.2, seeds=Seeds(0))
    assert torch.bincount(y[held]).tolist() == [25] * 4


def test_groups_of_a_column(tmp_path):
    patients = [i // 3 for i in range(30)]
    path = write_parquet(tmp_path / "scans.parquet", pictures(30), [(i // 3) % 2 for i in range(30)], patient=patients)
    splits = load(path, group="patient", test_fraction=0.3)
    sides = [set(s.table["patient"].to_pylist()) for s in (splits.train, splits.test)]
    assert not sides[0] & sides[1] and len(splits.test) in (6, 9, 12)
    assert "groups of 'patient'" in splits.notes[0]
    for s in (splits.train, splits.test):
        assert s.table["patient"].to_pylist() == [patients[i] for i in s.ids]


def test_the_note_counts(tmp_path):
    path = write_parquet(tmp_path / "pets.parquet", pictures(10), [0, 1] * 5)
    splits = load(path)
    assert splits.notes == (
        "pets has no test split: 2 of 10 examples are held out as one, from every class (seed 0), 8 remain",
    )


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2])
def test_fractions_out_of_range(fraction):
    with pytest.raises(UsageError, match="between 0 and 1"):
        load("digits", test_fraction=fraction)
