"""Which rows repeat an earlier one: the first by (split, position) survives, whatever the buckets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.preprocess.duplicates_task import DuplicatesTask, find_repeats
from datapipe.preprocess.hashes import digests_of_ids, encode_hashes, record_type
from datapipe.preprocess.map_task import read_drops
from datapipe.preprocess.stage import Removal
from datapipe.preprocess.tasks import DropList, Place
from datapipe.storage import open_store

GONE = Removal(kind="duplicate", reason="duplicate", step="exact_duplicates")
SPLITS = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=8), max_size=5)


def expected(splits):
    """Repeat → first, by brute force."""
    seen, repeats = {}, {}
    for split, texts in enumerate(splits):
        for position, text in enumerate(texts):
            if text in seen:
                repeats[split, position] = seen[text]
            else:
                seen[text] = (split, position)
    return repeats


@given(SPLITS, st.randoms(use_true_random=False))
def test_find_repeats_is_the_brute_force(splits, random):
    """In any order of the records."""
    rows = [(s, p, text) for s, texts in enumerate(splits) for p, text in enumerate(texts)]
    random.shuffle(rows)
    records = np.zeros(len(rows), record_type())
    records["high"] = [ord(text) for _, _, text in rows]
    records["position"] = [p for _, p, _ in rows]
    repeats, firsts = find_repeats(records, np.array([s for s, _, _ in rows], np.int64))
    got = {rows[a][:2]: rows[b][:2] for a, b in zip(repeats.tolist(), firsts.tolist(), strict=True)}
    assert got == expected(splits)


def run(folder, splits, buckets, first=0):
    """All drop lists of the given splits: {(split, position): (survivor split, survivor position)}."""
    store, place = open_store(str(folder)), Place(url=str(folder))
    hashes = []
    for split, texts in enumerate(splits):
        if texts:
            store.put(f"{split}.hashes", encode_hashes(digests_of_ids(texts), np.arange(len(texts))))
            hashes.append((split, f"{split}.hashes"))
    found = {}
    for bucket in range(buckets):
        width = 256 // buckets
        record = DuplicatesTask(
            key=f"{bucket:032x}",
            stage=1,
            name="duplicates",
            split=bucket,
            output=place,
            low=bucket * width,
            high=(bucket + 1) * width,
            hashes=tuple(hashes),
            first=first,
        ).run()
        for split, (batch, rows, _) in record.lists.items():
            positions, survivors = read_drops(
                store, DropList(path=record.files["drops"].path, batch=batch, removal=GONE)
            )
            assert len(positions) == rows
            assert positions.tolist() == sorted(positions.tolist())
            found |= {(int(split), p): tuple(s) for p, s in zip(positions.tolist(), survivors.tolist(), strict=True)}
    return found


@pytest.mark.parametrize("buckets", [1, 2, 16, 256])
def test_the_lists_do_not_depend_on_the_buckets(tmp_path, buckets):
    """Any number of buckets drops the same rows for the same survivors."""
    splits = [[str(i % 37) for i in range(k, k + 60)] for k in (0, 11, 500)] + [[]]
    assert run(tmp_path, splits, buckets) == expected(splits)


def test_an_earlier_snapshot_is_compared_with_and_left_alone(tmp_path):
    """Rows of splits below `first` are survivors; none of them is listed, repeats among them neither."""
    assert run(tmp_path, [["x", "x"], ["x", "y"], ["y", "x"]], 4, first=1) == {
        (1, 0): (0, 0), (2, 0): (1, 1), (2, 1): (0, 0),
    }  # fmt: skip


def test_a_list_has_a_digest_of_its_own(tmp_path):
    """A split's part of a list keeps its digest when another's changes: that split need not be done again."""

    def digests(splits):
        store, place = open_store(str(tmp_path)), Place(url=str(tmp_path))
        for split, texts in enumerate(splits):
            store.put(f"{split}.hashes", encode_hashes(digests_of_ids(texts), np.arange(len(texts))))
        record = DuplicatesTask(
            key="e" * 32,
            stage=1,
            name="duplicates",
            split=0,
            output=place,
            low=0,
            high=256,
            hashes=tuple((split, f"{split}.hashes") for split in range(len(splits))),
        ).run()
        return {split: digest for split, (_, _, digest) in record.lists.items()}

    before = digests([["a", "b"], ["a"], ["c"]])
    after = digests([["a", "b"], ["a"], ["c"], ["b", "c"]])
    assert after["1"] == before["1"]
    assert set(after) == {"1", "3"}
