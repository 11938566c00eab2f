"""Files in, files out: pairs → links by reading the shingles that are needed; links → drop lists and the cluster table.

What enters: pair records, sets files; link files. What leaves: link records; a file of drop lists (one record batch per
split, positions ascending, with the place of the survivor), the cluster table as Parquet. Invariant: results are in one
order whatever the order of the input; of shingles no more than was asked for is held at a time.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from datapipe.preprocess.near.clusters import cluster_table, link_type
from datapipe.preprocess.near.components import IN_MEMORY, components, components_on_disk
from datapipe.preprocess.near.record_file import in_order
from datapipe.preprocess.near.sets_file import SetsFile
from datapipe.preprocess.near.verification import jaccards
from datapipe.preprocess.rows_file import RowsWriter
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.preprocess.near.near_tasks import ClustersTask
    from datapipe.preprocess.tasks import OutputFile
    from datapipe.storage import Store

_OPEN: Final = 64
"""Tables of sets files held; 28 bytes for each document of a split."""


def verified(
    store: Store, sets: Mapping[int, str], pairs: npt.NDArray[np.void], threshold: float | None, limit: int
) -> Iterator[npt.NDArray[np.void]]:
    """The pairs that are links.

    Args:
        sets: sets files by split. pairs: records of `pair_type`, any order, repeats allowed.
        threshold: the least similarity; None: every pair is a link, and none has a similarity.
        limit: bytes of shingles held at a time (one pair's at least).

    Yields:
        Records of `link_type`.
    """
    import numpy as np

    pairs = in_order(pairs, distinct=True)
    # Neighbours of one document stand together, so that its shingles are read once or twice.
    pairs = pairs[np.lexsort((pairs["a"], pairs["a_split"], pairs["b"], pairs["b_split"]))]
    tables: OrderedDict[int, SetsFile] = OrderedDict()

    def table(split: int) -> SetsFile:
        if split not in tables:
            tables[split] = SetsFile(store, sets[split])
            if len(tables) > _OPEN:
                tables.popitem(last=False)
        tables.move_to_end(split)
        return tables[split]

    records = {}
    for side in ("a", "b"):
        found = np.zeros(len(pairs), [("kept", "<i8"), ("size", "<i8"), ("score", "<f8")])
        for split in np.unique(pairs[f"{side}_split"]).tolist():
            mine = np.flatnonzero(pairs[f"{side}_split"] == split)
            rows = table(split).records[table(split).rows_of(pairs[side][mine])]
            for name in ("kept", "size", "score"):
                found[name][mine] = rows[name]
        records[side] = found
    links = np.zeros(len(pairs), link_type())
    for side in ("a", "b"):
        links[side] = (pairs[f"{side}_split"].astype(np.uint64) << np.uint64(32)) | pairs[side]
        links[f"{side}_score"] = records[side]["score"]
    if threshold is None:
        links["jaccard"] = np.nan
        yield links
        return
    cost = np.cumsum(4 * (records["a"]["kept"] + records["b"]["kept"]))
    begin = 0
    while begin < len(pairs):
        base = int(cost[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(cost, base + limit)))
        part = slice(begin, end)
        one, two = links["a"][part], links["b"][part]
        places, ends = np.unique(np.concatenate([one, two]), return_inverse=True)
        shingles: list[npt.NDArray[np.uint32]] = []
        whole = np.zeros(len(places), bool)
        splits = places >> np.uint64(32)
        for first, last in itertools.pairwise([0, *(np.flatnonzero(np.diff(splits)) + 1).tolist(), len(places)]):
            file = table(int(splits[first]))
            numbers = file.rows_of((places[first:last] & np.uint64(0xFFFFFFFF)).astype(np.uint32))
            shingles += file.shingles(numbers)
            whole[first:last] = file.records["kept"][numbers] == file.records["size"][numbers]
        made = links[part]
        made["jaccard"] = jaccards(shingles, whole, ends[: len(one)], ends[len(one) :])
        # A quotient of counts is rounded: 4/5 equals a threshold written 0.8, and nothing is below it by rounding.
        yield made[made["jaccard"] >= threshold]
        begin = end


def resolved(
    store: Store, task: ClustersTask
) -> tuple[dict[str, OutputFile], dict[str, tuple[int, int, str]], int]:  # fmt: skip
    """Links → drop lists and the cluster table: (files, lists by split, documents dropped)."""
    import numpy as np
    import pyarrow.parquet as pq

    work = WorkFolder(store)
    links = np.concatenate(
        [np.zeros(0, link_type()), *(np.frombuffer(store.read(path), link_type()) for path in task.links)]
    )
    earlier, gone = _earlier(store, task.before)
    links = np.sort(np.concatenate([links, earlier]), order=["b", "a"])
    found = _components(links, work.scratch())
    table = cluster_table(links, found, first=task.first, gone=gone)
    ours = table.filter(np.asarray(table.column("split")) >= task.first)
    files: dict[str, OutputFile] = {}
    if ours.num_rows:
        with work.scratch_file("clusters") as path:
            pq.write_table(ours, path, compression="zstd")
            files["clusters"] = work.put_file("clusters", task.key, path)
    dropped = ours.filter(np.logical_not(np.asarray(ours.column("kept"))))
    lists: dict[str, tuple[int, int, str]] = {}
    if dropped.num_rows:
        with work.scratch_file("drops") as path:
            lists = write_drops(path, dropped)
            files["drops"] = work.put_file("drops", task.key, path)
    return files, lists, dropped.num_rows


def write_drops(path: str, dropped: pa.Table) -> dict[str, tuple[int, int, str]]:
    """Write drop lists of rows by (split, position), with their survivors: by split, (batch, rows, digest)."""
    import numpy as np
    import xxhash

    names = ["position", "survivor_split", "survivor_position"]
    splits = dropped.column("split").to_numpy()
    bounds = [0, *(np.flatnonzero(np.diff(splits)) + 1).tolist(), len(splits)]
    lists = {}
    with RowsWriter(path) as writer:
        for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
            part = dropped.slice(begin, end - begin).select(names).combine_chunks()
            writer.write(part)
            data = b"".join(np.ascontiguousarray(part.column(name).to_numpy()).tobytes() for name in names)
            lists[str(int(splits[begin]))] = (number, end - begin, xxhash.xxh3_64_hexdigest(data))
    return lists


def _earlier(
    store: Store, paths: tuple[str, ...]
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint64]]:  # fmt: skip
    """What earlier deliveries found: a link from each document that went to its survivor, and those that went."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts, gone = [np.zeros(0, link_type())], [np.zeros(0, np.uint64)]
    for path in paths:
        table = pq.read_table(pa.BufferReader(store.read(path)))
        table = table.filter(np.logical_not(np.asarray(table.column("kept"))))
        columns = {name: table.column(name).to_numpy().astype(np.uint64) for name in _PLACES}
        links = np.zeros(table.num_rows, link_type())
        links["a"] = (columns["survivor_split"] << np.uint64(32)) | columns["survivor_position"]
        links["b"] = (columns["split"] << np.uint64(32)) | columns["position"]
        links["jaccard"] = np.nan
        parts.append(links)
        gone.append(links["b"])
    return np.concatenate(parts), np.sort(np.concatenate(gone))


_PLACES: Final = ("split", "position", "survivor_split", "survivor_position")


def _components(links: npt.NDArray[np.void], scratch: str | None) -> npt.NDArray[np.uint64]:
    import numpy as np

    if len(links) <= IN_MEMORY:
        return components(links["a"], links["b"])
    batches = ((links["a"][i : i + RECORDS], links["b"][i : i + RECORDS]) for i in range(0, len(links), RECORDS))
    found = np.concatenate(list(components_on_disk(batches, scratch)))
    return found[np.argsort(found[:, 0])]


RECORDS: Final = 1 << 20
