"""Of every cluster one stays, by the rule; what was there before a delivery always does."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.preprocess.near.clusters import cluster_table, link_type
from datapipe.preprocess.near.components import components

PLACES = st.tuples(st.integers(0, 3), st.integers(0, 4))
LINKS = st.lists(
    st.tuples(PLACES, PLACES).filter(lambda pair: pair[0] < pair[1]), min_size=1, max_size=20, unique=True
)  # fmt: skip


def number(place):
    return (place[0] << 32) | place[1]


def table_of(pairs, score, *, first=0, gone=()):
    """The cluster table of links (a, b, jaccard)."""
    links = np.zeros(len(pairs), link_type())
    for record, (a, b, jaccard) in zip(links, pairs, strict=True):
        record["a"], record["b"], record["jaccard"] = number(a), number(b), jaccard
        record["a_score"], record["b_score"] = score(a), score(b)
    found = components(links["a"], links["b"])
    table = cluster_table(links, found, first=first, gone=np.array(sorted(map(number, gone)), np.uint64))
    return {(row["split"], row["position"]): row for row in table.to_pylist()}


@given(LINKS, st.randoms(use_true_random=False), st.integers(0, 4))
@settings(max_examples=150, deadline=None)
def test_one_survivor_by_the_rule(links, random, first):
    """The greatest score stays, of equal ones the first; documents of earlier splits all stay, and take the others."""
    scores = {(s, p): (s * 7 + p * 3) % 4 for s in range(4) for p in range(5)}
    pairs = [(a, b, 0.9) for a, b in links]
    rows = table_of(pairs, scores.get, first=first)
    clusters = {}
    for place, row in rows.items():
        clusters.setdefault(row["cluster"], []).append(place)
        assert rows[row["survivor_split"], row["survivor_position"]]["kept"]
        assert row["kept"] == ((row["survivor_split"], row["survivor_position"]) == place)
    for members in clusters.values():
        old = sorted(place for place in members if place[0] < first)
        kept = sorted(place for place in members if rows[place]["kept"])
        assert kept == (old or [min(members, key=lambda place: (-scores[place], place))])
        for place in members:
            if not rows[place]["kept"]:
                assert (rows[place]["survivor_split"], rows[place]["survivor_position"]) == kept[0]
    random.shuffle(pairs)
    assert table_of(pairs, scores.get, first=first) == rows, "the order of links is of no matter"


def test_the_nearest_neighbour_is_named():
    """Of several links the closest, of equally close ones the first; an unverified one has no similarity."""
    a, b, c, d = (0, 1), (0, 2), (1, 0), (1, 1)
    rows = table_of([(a, b, 0.8), (b, c, 0.9), (b, d, 0.9)], lambda _: 0)
    assert [(r["jaccard"], r["link_split"], r["link_position"]) for r in rows.values()] == [
        (0.8, 0, 2),
        (0.9, 1, 0),
        (0.9, 0, 2),
        (0.9, 0, 2),
    ]
    assert {row["jaccard"] for row in table_of([(a, b, np.nan)], lambda _: 0).values()} == {None}


def test_what_went_before_stays_gone():
    """A new document near one that went goes for the one that stayed then, not for the one that went."""
    stayed, went, new = (0, 5), (0, 2), (1, 0)
    rows = table_of([(stayed, went, np.nan), (went, new, 0.9)], lambda _: 0, first=1, gone=[went])
    assert not rows[went]["kept"]
    assert rows[stayed]["kept"]
    assert (rows[new]["survivor_split"], rows[new]["survivor_position"]) == stayed
    assert not rows[new]["kept"]
