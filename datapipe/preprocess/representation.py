"""Who and what a dataset is made of: kept documents by language, source, label and length, PII by type, per snapshot.

What enters: the run that made a dataset, and columns of its shards. What leaves: counts, and how uneven they are, so
that skew is seen before training. Invariant: every kept document is in one cell of each dimension, "" where
nothing is known of it; what has too many values is counted by what is most frequent, and the rest together.

Evenness is Pielou's J = H / ln S, H the Shannon entropy of the S cells' shares: 1 where all are equal, towards 0 where
one has nearly all (Pielou 1966, The measurement of diversity in different types of biological collections, J. Theor.
Biol. 13, p. 131). The imbalance ratio is the largest cell over the smallest (Buda, Maki, Mazurowski 2018, A systematic
study of the class imbalance problem in convolutional neural networks, Neural Networks 106, section 3.1: ρ).

Cells of 1 to 10 documents may single out a person. The report is for who has the data, and shows them; before it goes
further they are to be merged (the CMS cell size suppression policy publishes none below 11).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.histograms import LANGUAGE
from datapipe.preprocess.split_fates import KEPT, Fates, split_fates

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from datapipe.preprocess.split_fates import SplitFates
    from datapipe.preprocess.stored_run import StoredRun

SMALL: Final = 11
"""A cell of fewer documents is small."""
MOST: Final = 100
"""Cells that are named; of more, the most frequent."""
_HELD: Final = 100_000
"""Distinct values that are counted exactly."""
_BY_COLUMN: Final = ("source", "label")


@final
@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One way to cut the documents.

    Attributes:
        name: "language", "source", "label" or "length". cells: (value, documents), most first (lengths: ascending).
        values: how many values there are; those not among `cells` have `rest` documents together.
        evenness: 0 to 1, None for one value. imbalance: at least 1. small: values of fewer than `SMALL` documents.
    """

    name: str
    cells: tuple[tuple[str, int], ...]
    values: int
    rest: int
    evenness: float | None
    imbalance: float
    small: int

    @property
    def largest(self) -> float:
        """The share of the largest cell."""
        return max((n for _, n in self.cells), default=0) / max(1, self.rest + sum(n for _, n in self.cells))


@final
@dataclass(frozen=True, kw_only=True)
class SnapshotCounts:
    """What one delivery brought: documents kept, PII found by type (occurrences), documents with any."""

    snapshot: int
    documents: int
    languages: dict[str, int]
    pii: dict[str, int]
    pii_documents: int | None


@final
@dataclass(frozen=True, kw_only=True)
class Representation:
    """See the module."""

    documents: int
    dimensions: tuple[Dimension, ...]
    pii: dict[str, int]
    pii_documents: int | None
    snapshots: tuple[SnapshotCounts, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @property
    def small(self) -> int:
        """Small cells in all dimensions."""
        return sum(each.small for each in self.dimensions)


def dimension(name: str, counts: Mapping[str, int], *, ordered: bool = False) -> Dimension:
    """A dimension from its counts; `ordered`: cells stay in the order given."""
    full = {value: n for value, n in counts.items() if n}
    cells = list(full.items()) if ordered else sorted(full.items(), key=lambda cell: (-cell[1], cell[0]))
    total = sum(full.values())
    entropy = -sum(n / total * math.log(n / total) for n in full.values()) if total else 0.0
    shown = cells if ordered else cells[:MOST]
    return Dimension(
        name=name,
        cells=tuple(shown),
        values=len(full),
        rest=total - sum(n for _, n in shown),
        evenness=entropy / math.log(len(full)) if len(full) > 1 else None,
        imbalance=max(full.values()) / min(full.values()) if full else 1.0,
        small=sum(n < SMALL for n in full.values()),
    )


def representation(run: StoredRun, splits: Iterable[int] | None = None) -> Representation:
    """Count the documents that were kept. Reads signals, split by split, and the shards' columns `source` and `label`.

    Args:
        splits: those of the newest delivery; None: all.

    Raises:
        IntegrityError: a signals file or a shard is damaged.
    """
    from datapipe.steps.pii import SIGNALS

    mine = set(run.files if splits is None else splits)
    named = (run.manifest.recipe or {}).get("input", {}).get("id_column") is not None
    count = _Count(files=not named)
    by_snapshot: dict[int, _Count] = {}
    fates = Fates()
    # A delivery is its snapshot: those before it need not be opened.
    of = _splits_by_snapshot(run) if splits is None else {run.manifest.snapshot: mine}
    for number, numbers in of.items():
        for split in sorted(mine.intersection(numbers).intersection(run.files)):
            found = split_fates(run, split, fates, ["row_id", LANGUAGE, *SIGNALS])
            count.add(found)
            by_snapshot.setdefault(number, _Count(files=False)).add(found)
    dimensions = []
    if set(count.languages) - {""}:
        dimensions.append(dimension("language", count.languages))
    columns = {} if splits is not None else _column_counts(run, _BY_COLUMN)
    sources = columns.get("source") or _folders(count.files)
    if sources:
        dimensions.append(dimension("source", sources))
    if "label" in columns:
        dimensions.append(dimension("label", columns["label"]))
    lengths = {f"below {1 << bits:,} bytes": count.lengths[bits] for bits in sorted(count.lengths)}
    if any(count.lengths):  # rows of a table have no length: all are 0
        dimensions.append(dimension("length", lengths, ordered=True))
    return Representation(
        documents=count.documents,
        dimensions=tuple(dimensions),
        pii=_found(count),
        pii_documents=count.with_pii if count.looked else None,
        snapshots=tuple(
            SnapshotCounts(
                snapshot=number,
                documents=each.documents,
                languages={name: n for name, n in each.languages.most_common(MOST) if n},
                pii=_found(each),
                pii_documents=each.with_pii if each.looked else None,
            )
            for number, each in sorted(by_snapshot.items())
        ),
    )


def _found(count: _Count) -> dict[str, int]:
    return {name: n for name, n in sorted(count.pii.items()) if n}


def _splits_by_snapshot(run: StoredRun) -> Mapping[int, Collection[int]]:
    """The splits that each delivery brought, as far as snapshots are kept; those before are of the oldest."""
    from datapipe.dataset import parse_manifest, snapshot_paths
    from datapipe.errors import DatapipeError

    found: dict[int, range] = {}
    known = 0
    for number, path in sorted(snapshot_paths(run.store).items()):
        if number >= run.manifest.snapshot:
            continue
        try:
            ends = len(parse_manifest(run.store.read(path), where=f"{run.store.url}/{path}").ledger)
        except DatapipeError:
            continue
        if known < ends <= len(run.manifest.ledger):
            found[number] = range(known, ends)
            known = ends
    splits = max((entry.split for entry in run.manifest.ledger), default=-1) + 1
    if known < splits:
        found[run.manifest.snapshot] = range(known, splits)
    return found


@final
@dataclass
class _Count:
    files: Any
    documents: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    pii: Counter[str] = field(default_factory=Counter)
    with_pii: int = 0
    looked: bool = False

    def __post_init__(self) -> None:
        self.files = Counter() if self.files else None

    def add(self, split: SplitFates) -> None:
        """Count the rows of one split."""
        import numpy as np

        kept = split.fate == KEPT
        self.documents += int(kept.sum())
        bits = np.frexp(split.bytes[kept].astype(np.float64))[1]
        self.lengths.update(dict(zip(*(each.tolist() for each in np.unique(bits, return_counts=True)), strict=True)))
        any_: Any = np.zeros(len(split.fate), bool)
        told = 0
        for stage in split.stages:
            rows = kept[stage.position]
            names = stage.table.column_names
            if LANGUAGE in names and not told:
                told = self._values(stage.table.column(LANGUAGE), rows, self.languages)
            for name in (name for name in names if name.startswith("pii.")):
                values = stage.table.column(name).fill_null(0).to_numpy()
                self.looked = True
                self.pii[name.removeprefix("pii.")] += int(values[rows].sum())
                any_[stage.position] |= values > 0
            if self.files is not None and "row_id" in names and stage is split.stages[0]:
                self._files(stage.table.column("row_id"), rows)
        self.languages[""] += int(kept.sum()) - told
        self.with_pii += int((any_ & kept).sum())

    @staticmethod
    def _values(column: Any, rows: Any, into: Counter[str]) -> int:
        import pyarrow as pa
        import pyarrow.compute as pc

        counts = pc.value_counts(pc.fill_null(column.filter(pa.array(rows)), ""))
        for pair in counts.to_pylist():
            into[pair["values"]] += pair["counts"]
        return sum(pair["counts"] for pair in counts.to_pylist())

    def _files(self, ids: Any, rows: Any) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        names = pc.replace_substring_regex(pc.fill_null(ids.filter(pa.array(rows)), ""), r":[0-9]+$", "")
        for pair in pc.value_counts(names).to_pylist():
            if len(self.files) < _HELD or pair["values"] in self.files:
                self.files[pair["values"]] += pair["counts"]
            else:
                self.files["(more)"] += pair["counts"]


def _folders(files: Mapping[str, int] | None) -> dict[str, int]:
    """Counts by file; by folder where there are many files, in more than one."""
    if not files or len(files) <= MOST:
        return dict(files or {})
    found: Counter[str] = Counter()
    for name, n in files.items():
        found[name.rpartition("/")[0] or name] += n
    return dict(found) if len(found) > 1 else dict(files)


def _column_counts(run: StoredRun, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Documents by value of columns of the shards that are there, are no lists, and can be read without a key."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from datapipe.dataset import Dataset
    from datapipe.dataset.index import index_of_manifest

    manifest = run.manifest
    locked = () if manifest.encryption is None or run.keyring is not None else manifest.encryption.columns
    found: dict[str, dict[str, int]] = {}
    for name in names:
        if name not in manifest.schema.names or name in locked or pa.types.is_nested(manifest.schema.field(name).type):
            continue
        if manifest.encryption is not None and manifest.encryption.footer == "encrypted" and run.keyring is None:
            continue
        index = index_of_manifest(manifest)
        dataset = Dataset(
            run.store, index, manifest.schema, manifest.fingerprint, manifest, [name], keyring=run.keyring
        )  # fmt: skip
        counts: Counter[str] = Counter()
        for block in range(len(index)):
            values = pc.value_counts(dataset.fetch(block).decode().column(name).cast(pa.string()))
            for pair in values.to_pylist():
                value = pair["values"] if pair["values"] is not None else ""
                counts[value if len(counts) < _HELD or value in counts else "(more)"] += pair["counts"]
        found[name] = dict(counts)
    return found


def lines_of(found: Representation) -> list[str]:
    """The same for a person at a terminal."""
    lines = [f"representation of {found.documents:,} documents"]
    for each in found.dimensions:
        even = "" if each.evenness is None else f", evenness {each.evenness:.2f}, imbalance {each.imbalance:,.0f}"
        lines.append(f"  {each.name}: {each.values:,} {'value' if each.values == 1 else 'values'}{even}")
        shown = each.cells if each.name == "length" else each.cells[:8]
        for value, n in shown:
            lines.append(f"    {value or '(not told)':<28} {n:>12,}  {n / max(1, found.documents):6.1%}")
        left = each.rest + sum(n for _, n in each.cells[len(shown) :])
        if left:
            lines.append(f"    {f'{each.values - len(shown):,} more':<28} {left:>12,}  {left / found.documents:6.1%}")
    if found.pii_documents is not None:
        lines.append(f"  pii: in {found.pii_documents:,} documents" if found.pii else "  pii: none found")
        lines += [f"    {name:<28} {n:>12,}" for name, n in found.pii.items()]
    if len(found.snapshots) > 1:
        lines.append("  by snapshot")
        for each_ in found.snapshots:
            most = ", ".join(f"{name or '(not told)'} {n:,}" for name, n in list(each_.languages.items())[:4])
            pii = "" if each_.pii_documents is None else f"; PII in {each_.pii_documents:,}"
            lines.append(f"    {each_.snapshot:<5} {each_.documents:>12,} documents: {most}{pii}")
    if found.small:
        lines.append(
            f"  privacy: {found.small:,} {'cell has' if found.small == 1 else 'cells have'} fewer than {SMALL}"
            " documents, and may single out a person: merge them before you publish this"
        )
    return lines
