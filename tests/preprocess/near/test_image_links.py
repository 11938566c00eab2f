"""Links between image hashes: exact for the threshold, each once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.preprocess.near import image_links
from datapipe.preprocess.near.components import components
from datapipe.preprocess.near.image_links import block_masks, differing, find_links, near_pairs, record_type


def records_of(hashes, pixels=0):
    records = np.zeros(len(hashes), record_type())
    records["hash"], records["position"], records["pixels"] = hashes, np.arange(len(hashes)), pixels
    return records


@st.composite
def crowds(draw):
    """Hashes near a few centres, some of them equal: uint64[n]."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    flips = st.lists(st.integers(0, 63), max_size=14)
    return [
        centre ^ sum(1 << bit for bit in set(bits))
        for centre, bits in draw(st.lists(st.tuples(st.sampled_from(centres), flips), max_size=24))
    ]


@settings(max_examples=60, deadline=None)
@given(crowds(), st.integers(0, 10), st.integers(1, 3))
def test_pairs_are_those_of_every_pair_compared(hashes, threshold, parts):
    """Whatever the hashes, the threshold and the number of parts: each near pair of distinct hashes once."""
    distinct = np.unique(np.array(hashes, np.uint64))
    found = [
        tuple(sorted(pair))
        for part in range(parts)
        for one, two in near_pairs(distinct, threshold, part, parts)
        for pair in zip(one.tolist(), two.tolist(), strict=True)
    ]
    values = distinct.tolist()
    all_near = {
        (a, b)
        for a in range(len(values))
        for b in range(a + 1, len(values))
        if (values[a] ^ values[b]).bit_count() <= threshold
    }
    assert len(found) == len(set(found))
    assert set(found) == all_near


@settings(max_examples=60, deadline=None)
@given(crowds(), st.integers(0, 10), st.integers(0, 3))
def test_links_give_the_clusters_of_all_near_pairs(hashes, threshold, first):
    """Equal hashes too; and with earlier splits, every link that has a new end."""
    records = records_of(np.array(hashes, np.uint64))
    splits = np.array([n % 4 for n in range(len(hashes))], np.uint64)
    found = list(find_links(records, splits, threshold, first=first))
    links = np.concatenate([np.zeros(0, [("a", "<u8"), ("b", "<u8")]), *(each[["a", "b"]] for each in found)])
    assert ((links["b"] >> np.uint64(32)) >= first).all()
    if first:
        return
    places = ((splits << np.uint64(32)) | records["position"]).tolist()
    near = [
        (places[a], places[b])
        for a in range(len(hashes))
        for b in range(len(hashes))
        if a != b and (hashes[a] ^ hashes[b]).bit_count() <= threshold
    ]
    wanted = components(*(np.array([pair[side] for pair in near], np.uint64) for side in (0, 1)))
    assert components(links["a"], links["b"]).tolist() == wanted.tolist()


@settings(max_examples=20, deadline=None)
@given(crowds(), st.integers(0, 8), st.integers(0, 4), st.integers(1, 2))
def test_a_delivery_has_the_links_that_all_pairs_would_give(hashes, threshold, first, parts):
    """The same links in the same order, wherever its hashes stand among those before."""
    records = records_of(np.array(hashes, np.uint64))
    splits = np.array([n % 5 for n in range(len(hashes))], np.uint64)
    for part in range(parts):
        asked = {"part": part, "parts": parts}
        whole = [each.tolist() for each in find_links(records, splits, threshold, **asked)]
        some = [each.tolist() for each in find_links(records, splits, threshold, first=first, **asked)]
        assert [link for each in some for link in each] == [
            link for each in whole for link in each if link[1] >> 32 >= first
        ]


def test_what_was_there_is_not_compared_with_itself(monkeypatch):
    """How many hashes are compared is in proportion to the delivery's, and not to the square of those before."""
    compared = []
    monkeypatch.setattr(image_links, "differing", lambda one, two: compared.append(len(one)) or differing(one, two))
    # Of three bytes each, so that many have the same bits in two blocks: crowds that all meet.
    hashes = np.unique(np.random.default_rng(0).integers(0, 1 << 24, 1000, np.uint64) << np.uint64(20))
    mine = np.zeros(len(hashes), bool)
    mine[::100] = True
    found = [pair for one, two in near_pairs(hashes, 2, mine=mine) for pair in zip(one, two, strict=True)]
    some, compared[:] = sum(compared), []
    everything = [pair for one, two in near_pairs(hashes, 2) for pair in zip(one, two, strict=True)]
    assert 0 < some < sum(compared) / 25
    assert set(found) == {(a, b) for a, b in everything if mine[a] or mine[b]}


def test_blocks_and_bits():
    """Every bit is in one block, whatever the threshold; bits are counted as Python counts them."""
    for threshold in range(11):
        masks = [int(mask) for mask in block_masks(threshold)]
        assert sum(masks) == (1 << 64) - 1
        assert len(masks) == threshold + 2
    values = [0, 1, 2**64 - 1, 2**63, 0x0123456789ABCDEF]
    assert differing(np.array(values, np.uint64), np.zeros(5, np.uint64)).tolist() == [v.bit_count() for v in values]


@pytest.mark.parametrize(("largest", "scores"), [(True, (7, 9)), (False, (0, 0))])
def test_scores_say_who_survives(largest, scores):
    records = records_of(np.array([5, 5], np.uint64), np.array([7, 9]))
    (links,) = [each for each in find_links(records, np.zeros(2, np.uint64), 4, largest=largest) if len(each)]
    assert (links[0]["a_score"], links[0]["b_score"], links[0]["jaccard"]) == (*scores, 1.0)
