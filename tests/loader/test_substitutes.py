"""What stands in for a bad row group: whose rows, how long, and until when there is one."""

from __future__ import annotations

import numpy as np
import pytest

import datapipe
from datapipe.errors import LoaderError
from datapipe.loader.substitutes import _by_length
from tests.loader.damaged_rows import GROUPS, ROWS, damage, ids_of, make, write


def test_a_stand_in_that_is_bad_as_well_is_passed_over(tmp_path):
    """Whichever is found first, the rows are the same: those of the first good one in the keyed order."""
    write(tmp_path, groups=48)
    for group in (1, 2):
        damage(tmp_path, group, groups=48)
    found = []
    for prefetch in (0, 4):
        with make(tmp_path, lanes=2, shuffle=False, prefetch=prefetch, num_threads=4 if prefetch else 1) as loader:
            found.append(ids_of(loader))
            assert loader.state_dict()["quarantined"] == [[0, 1], [0, 2]]
    assert found[0] == found[1]
    delivered = np.concatenate([np.array(batch) for batch in found[0]])
    assert np.bincount(delivered // ROWS, minlength=48).tolist() == [20, 0, 0, 60, *[20] * 44]


def test_too_many_bad_row_groups_are_an_error_that_says_so(tmp_path):
    """Of a lane of 12, one may be bad."""
    write(tmp_path)
    damage(tmp_path, 1)
    damage(tmp_path, 3)
    with (
        make(tmp_path, lanes=2) as loader,
        pytest.raises(LoaderError, match="2 of the 12 row groups of a lane") as info,
    ):
        ids_of(loader)
    assert "1 at most" in str(info.value)
    assert any("part-0.parquet, row group" in note for note in info.value.__notes__)


def test_the_only_row_group_of_a_lane_has_no_stand_in(tmp_path):
    """There is nothing to take its place: that is said, with the shard."""
    write(tmp_path, groups=2)
    damage(tmp_path, 0, groups=2)
    with make(tmp_path, lanes=2) as loader, pytest.raises(LoaderError, match="no other of its lane"):
        ids_of(loader)


def test_packed_rows_are_as_long_as_planned(tmp_path):
    """With lengths of their own, bins are filled as planned: only the bad row group's tokens change."""
    write(tmp_path, lengths=True)
    options = {"pack": datapipe.Pack(32, columns="tokens"), "batch_size": 2}
    with make(tmp_path, **options) as whole:
        before = list(whole)
    damage(tmp_path, 7, "tokens")
    with make(tmp_path, **options) as loader:
        after = list(loader)
        assert loader.state_dict()["quarantined"] == [[0, 7]]
    assert len(before) == len(after)
    changed = 0
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(old["segment_ids"], new["segment_ids"])
        bad = (old["tokens"] // ROWS == 7) & (old["segment_ids"] > 0)
        changed += int(bad.sum())
        assert np.array_equal(old["tokens"][~bad], new["tokens"][~bad])
        assert not (new["tokens"][bad] // ROWS == 7).any()
    assert changed > 50


def test_bucketed_rows_are_no_longer_than_planned(tmp_path):
    """Batches of at most so many tokens stay so."""
    write(tmp_path, lengths=True)
    damage(tmp_path, 7, "tokens")
    with make(tmp_path, bucket=datapipe.Bucket(max_tokens=64), batch_size=16) as loader:
        shapes = [batch["tokens"].shape for batch in loader]
        assert loader.state_dict()["quarantined"] == [[0, 7]]
    assert max(rows * width for rows, width in shapes) <= 64
    with make(tmp_path, bucket=datapipe.Bucket(max_tokens=64), batch_size=16) as again:
        assert [batch["tokens"].shape for batch in again] == shapes


def test_a_mix_replaces_within_the_source(tmp_path):
    """A bad row group of one source is replaced by rows of the same source."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    damage(tmp_path / "b", 7)
    sources = {name: datapipe.open_dataset(tmp_path / name) for name in ("a", "b")}
    mixed = datapipe.mix(sources, {"a": 1, "b": 1}, source="from")
    with datapipe.DataLoader(mixed, 8, lanes=4, window=2, collate="numpy", on_error="quarantine") as loader:
        rows = [(s, int(i) // ROWS) for batch in loader for s, i in zip(batch["from"], batch["id"], strict=True)]
        (entry,) = loader.stats()["quarantined"]
    assert entry["shard"] == "b: part-0.parquet"
    assert rows.count(("b", 7)) == 0
    assert {rows.count(("a", group)) for group in range(GROUPS)} == {ROWS}
    assert sorted(rows.count(("b", group)) for group in range(GROUPS)) == [0, *[ROWS] * (GROUPS - 2), 2 * ROWS]


def test_a_balanced_dataset_replaces_within_the_label(tmp_path):
    """A bad row group is replaced, label by label, by rows of that label: the proportions hold."""
    damage(write(tmp_path, labels=True), 7)
    balanced = datapipe.balance(datapipe.open_dataset(tmp_path), "label")
    with datapipe.DataLoader(balanced, 8, lanes=4, window=2, collate="numpy", on_error="quarantine") as loader:
        batches = list(loader)
        assert len(loader.stats()["quarantined"]) == 2
    assert len(batches) == GROUPS * ROWS // 8
    assert sum(int(batch["label"].sum()) for batch in batches) == GROUPS * ROWS // 2
    assert all((batch["id"] % 2 == batch["label"]).all() for batch in batches)
    assert 7 not in {int(i) // ROWS for batch in batches for i in batch["id"]}


def test_rows_lined_up_by_length():
    """A stand-in is no longer than the row it stands in for, where there is such a one; lengths spread alike."""
    rng = np.random.default_rng(0)
    wanted, there = rng.integers(1, 100, 500), rng.integers(1, 100, 300)
    rows = _by_length(wanted, there)
    fits = wanted >= there.min()
    assert (there[rows] <= wanted)[fits].all()
    assert len(np.unique(rows)) > 150
    assert set(_by_length(np.array([1, 2]), np.array([9, 5, 7])).tolist()) == {1}
