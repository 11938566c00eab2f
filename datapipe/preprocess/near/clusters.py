"""From links to what becomes of each document: one survivor per cluster, the others named beside it.

What enters: verified links with the scores of both ends; what earlier deliveries have found. What leaves: the cluster
table, one row per document that is linked to any. Invariant: a function of the set of links, whatever their order; of
every cluster at least one document stays, and a document of an earlier delivery never goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

_LOW: Final = 0xFFFFFFFF


def link_type() -> Any:
    """The type of a verified link: places ((split << 32) | position), their scores, their Jaccard similarity."""
    import numpy as np

    return np.dtype(
        [("a", "<u8"), ("b", "<u8"), ("jaccard", "<f8"), ("a_score", "<f8"), ("b_score", "<f8")]
    )  # fmt: skip


def cluster_table(
    links: npt.NDArray[np.void],
    found: npt.NDArray[np.uint64],
    *,
    first: int = 0,
    gone: npt.NDArray[np.uint64] | None = None,
) -> pa.Table:
    """Who stays.

    Args:
        links: records of `link_type`; a link that is not verified has NaN for its similarity. Links of earlier
            deliveries (a document that went, its survivor) may be among them.
        found: uint64[m, 2], each place of the links with the least of its component, by place (`components`).
        first: documents of splits below it are of earlier deliveries: they stay where they stayed.
        gone: uint64[g], ascending: those of them that went.

    Returns:
        A row per document, by (split, position): `cluster: uint64` (the place of its first document), `split`,
        `position: uint32`, `survivor_split`, `survivor_position: uint32`, `kept: bool`, `jaccard: double` (the greatest
        similarity it is linked by), `link_split`, `link_position: uint32` (to whom).

        In a cluster with documents of earlier deliveries those that stayed stay, and all others go, for the first of
        them. Else the one with the greatest score stays, of equal ones the first.
    """
    import numpy as np
    import pyarrow as pa

    places, clusters = found[:, 0], found[:, 1]
    one, two = np.searchsorted(places, links["a"]), np.searchsorted(places, links["b"])
    score = np.full(len(places), -np.inf)
    score[one], score[two] = links["a_score"], links["b_score"]
    old = places >> np.uint64(32) < np.uint64(first)
    stayed = old & ~np.isin(places, gone) if gone is not None else old
    # Within a cluster: who stayed before, then by score, then by place.
    order = np.lexsort((places, np.where(stayed, 0.0, -score), ~stayed, clusters))
    begins = np.flatnonzero(np.diff(clusters[order], prepend=clusters[order][:1] + np.uint64(1)))
    chosen = np.empty(len(places), np.int64)
    chosen[order] = np.repeat(order[begins], np.diff(np.append(begins, len(order))))
    kept = stayed | ((chosen == np.arange(len(places))) & ~old)
    survivor = np.where(kept, places, places[chosen])
    jaccard, link = _nearest(len(places), places, one, two, links["jaccard"])
    columns = {
        "cluster": pa.array(clusters),
        "split": _half(places, high=True),
        "position": _half(places, high=False),
        "survivor_split": _half(survivor, high=True),
        "survivor_position": _half(survivor, high=False),
        "kept": pa.array(kept),
        "jaccard": pa.array(jaccard, mask=np.isnan(jaccard)),
        "link_split": _half(link, high=True),
        "link_position": _half(link, high=False),
    }
    return pa.table(columns)


def _nearest(
    n: int,
    places: npt.NDArray[np.uint64],
    one: npt.NDArray[np.int64],
    two: npt.NDArray[np.int64],
    jaccard: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint64]]:
    """The similarity of each place's nearest neighbour, and that neighbour (of equally near ones the first)."""
    import numpy as np

    node, other = np.concatenate([one, two]), np.concatenate([two, one])
    value = np.concatenate([jaccard, jaccard])
    order = np.lexsort((places[other], -np.nan_to_num(value, nan=-1.0), node))
    begins = np.flatnonzero(np.diff(node[order], prepend=-1))
    best = order[begins]
    nearest, link = np.full(n, np.nan), places.copy()
    nearest[node[best]], link[node[best]] = value[best], places[other[best]]
    return nearest, link


def _half(places: npt.NDArray[np.uint64], *, high: bool) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    return pa.array(((places >> np.uint64(32)) if high else (places & np.uint64(_LOW))).astype(np.uint32))
