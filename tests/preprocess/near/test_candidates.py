"""Candidate pairs: all of them in small groups, enough of them to link alike documents in great ones."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.preprocess.near.candidates import CROWD, LEADERS, NEXT, band_records, band_type, find_pairs

ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 6), st.integers(1, 9), st.integers(0, 2)),
    max_size=40,
    unique_by=lambda row: (row[0], row[1], row[2]),
)


def records_of(rows):
    """(hash, split, position, size, digest) of each row."""
    records = np.zeros(len(rows), band_type())
    for name, place in (("hash", 0), ("position", 2), ("size", 3), ("digest", 4)):
        records[name] = [row[place] for row in rows]
    return records, np.array([row[1] for row in rows], np.uint32)


def pairs_of(rows, least=0.0, first=0):
    found = find_pairs(*records_of(rows), least=least, first=first)
    return {((int(p["a_split"]), int(p["a"])), (int(p["b_split"]), int(p["b"]))) for p in found}


@given(ROWS, st.sampled_from([0.0, 0.5]), st.integers(0, 3), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_small_groups_give_every_pair(rows, least, first, random):
    """Of documents that differ in digest, each with each; of the same digest, each with the first of it."""
    expected = set()
    for _, group in itertools.groupby(sorted(rows), key=lambda row: row[0]):
        firsts = {}
        for _, split, position, size, digest in sorted(group, key=lambda row: (row[4], row[1], row[2])):
            one = ((split, position), size)
            others = [firsts[digest]] if digest in firsts else list(firsts.values())
            firsts.setdefault(digest, one)
            for two, other in others:
                if min(size, other) >= least * max(size, other) and max(one[0], two)[0] >= first:
                    expected.add((min(one[0], two), max(one[0], two)))
    assert pairs_of(rows, least, first) == expected
    random.shuffle(rows)
    assert pairs_of(rows, least, first) == expected, "the order of records is of no matter"


def test_a_crowd_is_linear_and_connected():
    """A thousand documents that share a band: each has its leaders and neighbours, no more."""
    rows = [(1, 0, i, 1 + i % 50, i) for i in range(1000)]
    pairs = pairs_of(rows)
    assert len(pairs) <= 1000 * (LEADERS + NEXT)
    leaders = [(0, i) for i in range(LEADERS)]
    assert all((leader, (0, i)) in pairs for leader in leaders for i in range(LEADERS, 1000))
    assert len(pairs_of(rows[:CROWD])) == CROWD * (CROWD - 1) // 2


def test_copies_are_a_star():
    """Ten thousand copies of one document are ten thousand pairs less one."""
    assert len(pairs_of([(1, 0, i, 5, 3) for i in range(10_000)])) == 9_999


def test_band_records():
    """A record a band; equal bands throughout are an equal digest; a document without shingles has none."""
    bands = np.array([[1, 2], [1, 2], [1, 3], [9, 9]], np.uint64)
    records = band_records(bands, np.arange(4, dtype=np.uint32), np.array([5, 5, 6, 0], np.uint32))
    assert records["hash"].tolist() == [1, 2, 1, 2, 1, 3]
    assert records["position"].tolist() == [0, 0, 1, 1, 2, 2]
    digests = records["digest"].tolist()
    assert digests[0] == digests[1] == digests[2] != digests[4]
