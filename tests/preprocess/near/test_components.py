"""Components are those of union-find, in memory and on disk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.preprocess.near.components import components, components_on_disk

EDGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60)
FAR = 1 << 40


def union_find(edges):
    """Each node with the least of its component."""
    parent = {}

    def root(node):
        parent.setdefault(node, node)
        while parent[node] != node:
            node = parent[node]
        return node

    for a, b in edges:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return sorted((node, root(node)) for node in list(parent))


def ends(edges):
    array = np.array(edges, np.uint64).reshape(-1, 2) * np.uint64(FAR)
    return array[:, 0], array[:, 1]


@given(EDGES, st.integers(1, 5), st.integers(1, 20))
@settings(max_examples=150, deadline=None)
def test_components_are_those_of_union_find(edges, parts, batch):
    """Both ways, for links in any direction, repeated, and of a node with itself."""
    expected = [(a * FAR, b * FAR) for a, b in union_find(edges)]
    assert list(map(tuple, components(*ends(edges)).tolist())) == expected
    batches = [ends(edges[i : i + batch]) for i in range(0, len(edges), batch)]
    found = [tuple(row) for part in components_on_disk(batches, None, parts) for row in part.tolist()]
    assert sorted(found) == expected


@pytest.mark.parametrize("n", [1000])
def test_a_long_chain_is_one_component(n):
    """The worst case of label passing: still few rounds on disk."""
    nodes = np.random.default_rng(0).permutation(n + 1).astype(np.uint64)
    (found,) = components_on_disk([(nodes[:-1], nodes[1:])], None, 1)
    assert found[:, 0].tolist() == list(range(n + 1))
    assert not found[:, 1].any()
    assert (components(nodes[:-1], nodes[1:]) == found).all()
