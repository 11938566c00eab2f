"""Links → drop lists and the cluster table, files in and files out.

What enters: link files, cluster tables of earlier deliveries. What leaves: a file of drop lists (one record batch per
split, positions ascending, with the place of the survivor), the cluster table as Parquet, by (split, position).
Invariant: both are functions of the set of links. Memory: `components.IN_MEMORY` links, or where there are more, one
of `PARTS` parts of them (whole clusters each, so one cluster has to fit), 8 bytes for each document that went in an
earlier delivery, and what is dropped of one split.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from typing import TYPE_CHECKING, Any, Final

from datapipe.preprocess.near import components as home
from datapipe.preprocess.near.clusters import cluster_table, link_type
from datapipe.preprocess.near.components import components, components_on_disk, scatter
from datapipe.preprocess.near.record_file import CLASSES, RecordWriter, in_order, read_begins, read_records
from datapipe.preprocess.prior_runs import known_of
from datapipe.preprocess.rows_file import RowsWriter
from datapipe.preprocess.sorted_run import RunWriter
from datapipe.preprocess.work import WorkFolder
from datapipe.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.preprocess.near.near_tasks import ClustersTask
    from datapipe.preprocess.tasks import OutputFile
    from datapipe.storage import Store

PARTS: Final = 64
BATCH: Final = 1 << 20
"""Links and rows read at a time."""
Lists = dict[str, tuple[int, int, str]]


def resolved(store: Store, task: ClustersTask) -> tuple[dict[str, OutputFile], Lists, int]:
    """Do it: files by kind, drop lists by split, documents dropped."""
    import numpy as np

    work = WorkFolder(store)
    known = _known(store, task)
    before = [np.zeros(0, np.uint64), known["b"], *(links["b"] for links in _earlier(store, task.before))]
    gone = np.unique(np.concatenate(before))
    files: dict[str, OutputFile] = {}
    lists: Lists = {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="clusters-", dir=work.scratch()))
        writer = RecordWriter("rows", work, stack)
        for links, found in _parts(store, task, folder, known):
            table = cluster_table(links, found, first=task.first, gone=gone)
            writer.add(_records(table.filter(np.asarray(table.column("split")) >= task.first)))
        made = writer.finish()
        if task.keeps:
            files[task.keeps] = _kept(work, made, task.keeps, stack)
        if made is None:
            return files, lists, 0
        path = stack.enter_context(work.scratch_file("clusters"))
        drops = stack.enter_context(work.scratch_file("drops"))
        lists = _write(made[0], path, drops)
        files["clusters"] = work.keep_file("clusters", path)
        if lists:
            files["drops"] = work.put_file("drops", task.key, drops)
    return files, lists, sum(rows for _, rows, _ in lists.values())


def _known(store: Store, task: ClustersTask) -> npt.NDArray[np.void]:
    """Of the documents of earlier deliveries that links are to: for whom each went, as runs know it.

    Links as `_earlier` gives them. That is all of their clusters that has a say: who stayed stays, and the first place
    of a cluster, which names it, is told beside who stayed.
    """
    import numpy as np

    if not task.runs:
        return np.zeros(0, link_type())
    first = np.uint64(task.first) << np.uint64(32)
    ends = [batch[side] for batch in _batches(store, task.links) for side in ("a", "b")]
    places = np.unique(np.concatenate([np.zeros(0, np.uint64), *ends]))
    rows = _looked_up(store, task, places[places < first])
    went = rows[rows["survivor"] != rows["place"]]
    stayed = _looked_up(store, task, np.unique(np.concatenate([rows["survivor"], rows["place"]])))
    stayed = stayed[(stayed["survivor"] == stayed["place"]) & (stayed["cluster"] != stayed["place"])]
    links = np.zeros(len(went) + len(stayed), link_type())
    links["a"] = np.concatenate([went["survivor"], stayed["place"]])
    links["b"] = np.concatenate([went["place"], stayed["cluster"]])
    links["jaccard"] = np.nan
    return links


def _looked_up(store: Store, task: ClustersTask, places: npt.NDArray[np.uint64]) -> npt.NDArray[np.void]:
    import numpy as np

    return known_of(store, task.runs, known_type(), places * np.uint64(_SPREAD))


_SPREAD: Final = 0x9E3779B97F4A7C15
"""Odd, so that no two places have one product: places as hashes, for a run."""


def known_type() -> Any:
    """A record of the run of a cluster table."""
    import numpy as np

    return np.dtype([("hash", "<u8"), ("place", "<u8"), ("survivor", "<u8"), ("cluster", "<u8")])


def _kept(work: WorkFolder, made: tuple[str, int] | None, kind: str, stack: contextlib.ExitStack) -> OutputFile:
    """The run of a cluster table, from its sorted rows."""
    import numpy as np

    sorted_ = RecordWriter(kind, work, stack)
    path = stack.enter_context(work.scratch_file(kind))
    with contextlib.closing(RunWriter(path, known_type(), 0, CLASSES)) as run:
        if made is not None:
            for rows in _by_split(made[0]):
                records = np.zeros(len(rows), known_type())
                records["place"] = rows["place"] >> np.uint64(_SHIFT)
                records["hash"] = records["place"] * np.uint64(_SPREAD)
                for name in ("survivor", "cluster"):
                    records[name] = rows[name]
                sorted_.add(records)
        whole = sorted_.finish()
        if whole is not None:
            folder, name = os.path.split(whole[0])
            store = open_store(folder)
            for start in range(0, whole[1], BATCH):
                run.add(read_records(store, name, known_type(), start, min(whole[1], start + BATCH)))
        run.finish()
    return work.keep_file(kind, path)


def _batches(store: Store, paths: tuple[str, ...]) -> Iterator[npt.NDArray[np.void]]:
    """The links of a delivery."""
    import numpy as np

    size = link_type().itemsize
    for path in paths:
        end = store.info(path).size
        for start in range(0, end, BATCH * size):
            yield np.frombuffer(store.read(path, start, min(end, start + BATCH * size)), link_type())


def _parts(
    store: Store, task: ClustersTask, folder: str, known: npt.NDArray[np.void]
) -> Iterator[tuple[npt.NDArray[np.void], npt.NDArray[np.uint64]]]:
    """Links and components, whole clusters at a time; links in one order."""
    import numpy as np

    def batches() -> Iterator[npt.NDArray[np.void]]:
        yield from _batches(store, task.links)
        yield known
        yield from _earlier(store, task.before)

    links: list[npt.NDArray[np.void]] = []
    count = 0
    for batch in batches():
        links.append(batch)
        count += len(batch)
        if count > home.IN_MEMORY:
            break
    else:
        whole = in_order(np.concatenate([np.zeros(0, link_type()), *links]))
        yield whole, components(whole["a"], whole["b"])
        return
    links.clear()
    names = {kind: [os.path.join(folder, f"{kind}-{i}") for i in range(PARTS)] for kind in _KINDS}  # noqa: PTH118
    for places in components_on_disk(((batch["a"], batch["b"]) for batch in batches()), folder):
        scatter(names["labels"], places, places[:, 0])
        scatter(names["members"], places, places[:, 1])
    for batch in batches():
        scatter(names["by_place"], batch, batch["a"])
    for number in range(PARTS):
        labels = _places(names["labels"][number])
        mine = _read(names["by_place"][number], link_type())
        scatter(names["by_cluster"], mine, labels[np.searchsorted(labels[:, 0], mine["a"]), 1])
    for number in range(PARTS):
        if len(members := _places(names["members"][number])):
            yield in_order(_read(names["by_cluster"][number], link_type())), members


_KINDS: Final = ("labels", "members", "by_place", "by_cluster")


def _read(path: str, kind: Any) -> Any:
    """A scattered file, which is not there where nothing went into it."""
    import numpy as np

    return np.fromfile(path, kind) if os.path.exists(path) else np.zeros(0, kind)  # noqa: PTH110


def _places(path: str) -> npt.NDArray[np.uint64]:
    import numpy as np

    places: npt.NDArray[np.uint64] = _read(path, np.uint64).reshape(-1, 2)
    return places[np.argsort(places[:, 0])]


def _row_type() -> Any:
    """A row of the cluster table, to be sorted by place."""
    import numpy as np

    return np.dtype(
        [("place", "<u8"), ("cluster", "<u8"), ("survivor", "<u8"), ("link", "<u8"), ("jaccard", "<f8"), ("kept", "?")]
    )


_SHIFT: Final = 12
"""Splits are fewer than 2^20: their numbers go to the top, where a record file's classes are told apart."""


def _records(table: pa.Table) -> npt.NDArray[np.void]:
    import numpy as np

    def place(name: str) -> npt.NDArray[np.uint64]:
        prefix = f"{name}_" if name else ""
        split, position = (table.column(f"{prefix}{part}").to_numpy() for part in ("split", "position"))
        joined: npt.NDArray[np.uint64] = (split.astype(np.uint64) << np.uint64(32)) | position
        return joined

    records = np.zeros(table.num_rows, _row_type())
    records["place"] = place("") << np.uint64(_SHIFT)
    records["survivor"], records["link"] = place("survivor"), place("link")
    records["cluster"] = table.column("cluster").to_numpy()
    records["jaccard"] = table.column("jaccard").to_numpy(zero_copy_only=False)
    records["kept"] = table.column("kept").to_numpy(zero_copy_only=False)
    return records


def _write(source: str, path: str, drops: str) -> Lists:
    """The sorted rows → the cluster table and the drop lists."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import xxhash

    lists: Lists = {}
    writer: Any = None
    with RowsWriter(drops) as dropped:
        for records in _by_split(source):
            table = _table(records)
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            part = table.filter(pa.array(~records["kept"])).select(_DROPPED).combine_chunks()
            if part.num_rows:
                data = b"".join(np.ascontiguousarray(part.column(name).to_numpy()).tobytes() for name in _DROPPED)
                split = int(records["place"][0] >> np.uint64(_SHIFT + 32))
                lists[str(split)] = (len(lists), part.num_rows, xxhash.xxh3_64_hexdigest(data))
                dropped.write(part)
    writer.close()
    return lists


_DROPPED: Final = ["position", "survivor_split", "survivor_position"]


def _by_split(source: str) -> Iterator[npt.NDArray[np.void]]:
    """The records of each split, from a record file that is sorted by place."""
    import numpy as np

    folder, name = os.path.split(source)
    store = open_store(folder)
    count = int(read_begins(store, name)[CLASSES])
    held: list[npt.NDArray[np.void]] = []
    for start in range(0, count, BATCH):
        records = read_records(store, name, _row_type(), start, min(count, start + BATCH))
        splits = records["place"] >> np.uint64(_SHIFT + 32)
        bounds = [0, *(np.flatnonzero(np.diff(splits)) + 1).tolist(), len(records)]
        for begin, end in itertools.pairwise(bounds):
            if held and held[0]["place"][0] >> np.uint64(_SHIFT + 32) != splits[begin]:
                yield np.concatenate(held)
                held = []
            held.append(records[begin:end])
    if held:
        yield np.concatenate(held)


def _table(records: npt.NDArray[np.void]) -> pa.Table:
    """Rows of the cluster table, as `cluster_table` has them."""
    import numpy as np
    import pyarrow as pa

    columns = {"cluster": pa.array(records["cluster"])}
    for prefix, places in (
        ("", records["place"] >> np.uint64(_SHIFT)), ("survivor_", records["survivor"]), ("link_", records["link"])
    ):  # fmt: skip
        columns[f"{prefix}split"] = pa.array((places >> np.uint64(32)).astype(np.uint32))
        columns[f"{prefix}position"] = pa.array((places & np.uint64(0xFFFFFFFF)).astype(np.uint32))
    columns["kept"] = pa.array(records["kept"])
    jaccard = np.ascontiguousarray(records["jaccard"])
    columns["jaccard"] = pa.array(jaccard, mask=np.isnan(jaccard))
    return pa.table(columns)


def _earlier(store: Store, paths: tuple[str, ...]) -> Iterator[npt.NDArray[np.void]]:
    """What earlier deliveries found: links from each survivor (`a`) to each document that went for it (`b`)."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in paths:
        for batch in pq.ParquetFile(pa.BufferReader(store.read(path))).iter_batches(BATCH):
            records = _records(pa.Table.from_batches([batch]))
            records = records[~records["kept"]]
            links = np.zeros(len(records), link_type())
            links["a"], links["b"] = records["survivor"], records["place"] >> np.uint64(_SHIFT)
            links["jaccard"] = np.nan
            yield links
