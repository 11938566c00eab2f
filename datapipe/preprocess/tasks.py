"""What is sent to a worker and what comes back: small frozen data, paths in, a record out, never rows.

What enters: a `Task`, self-contained, so that any process that reaches the input and the output can run it. What
leaves: a `TaskRecord`, JSON-able. Invariant: a task's key names everything that its output depends on (the bytes it
reads by digest, what it does to them, the code that does it), so equal keys mean equal output files; credentials are in
no repr.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from datapipe.preprocess.recipe import digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.corpus import Split
    from datapipe.preprocess.recipe import InputSettings, OutputSettings
    from datapipe.storage import Store

CODE: Final = 1
"""Raised whenever this package's tasks may write other bytes for the same input."""
_LIBRARIES: Final = ("numpy", "polars", "pyarrow", "resiliparse", "tokenizers")


@cache
def code_version() -> str:
    """This code and the libraries that shape output bytes: after an upgrade, tasks run anew."""
    found = []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} none")
    return f"{CODE}; {'; '.join(found)}"


def task_key(definition: str, inputs: Any) -> str:
    """32 hex digits from (what is done, what it is done to, by which code)."""
    return digest_of([definition, inputs, code_version()])


@dataclass(frozen=True, kw_only=True)
class Place:
    """The output's store, as a worker opens it."""

    url: str = field(repr=False)
    options: Mapping[str, Any] | None = field(default=None, repr=False)

    def open(self) -> Store:
        """The store."""
        from datapipe.storage import open_store

        return open_store(self.url, storage_options=self.options)


@dataclass(frozen=True, kw_only=True)
class DropList:
    """Where one split's part of a drop list is: a record batch of a file; `ids`: it is about duplicate row ids."""

    path: str
    batch: int
    ids: bool


@dataclass(frozen=True, kw_only=True)
class MapTask:
    """Rows of one split, through a sequence of steps.

    Attributes:
        key, stage, name, split: which task it is; name is the stage's.
        steps: name and plain options of each.
        writes: see `plan.Stage`.
        pieces: what to read of the corpus; None: read `rows`.
        rows: a rows file in the output store.
        tokenizer: a tokenizer file in the output store, for the step tokenize.
        rate: share of the rows in the vocabulary's sample.
        stem: the shard's path without checksum and ending.
    """

    key: str
    stage: int
    name: str
    split: int
    bytes: int
    output: Place
    seed: int
    steps: tuple[tuple[str, dict[str, Any]], ...]
    writes: tuple[str, ...]
    pieces: Split | None = field(default=None, repr=False)
    input: InputSettings | None = None
    input_options: Mapping[str, Any] | None = field(default=None, repr=False)
    rows: str | None = None
    drops: tuple[DropList, ...] = ()
    tokenizer: str | None = None
    rate: float = 1.0
    shard: OutputSettings | None = None
    stem: str = ""


@dataclass(frozen=True, kw_only=True)
class DuplicatesTask:
    """One bucket of hashes over all splits.

    Attributes:
        low, high: the bucket: first bytes [low, high).
        hashes: (split, path of its hash file), by split.
        ignore: drop lists of rows that are no longer there, by split.
    """

    key: str
    stage: int
    name: str
    split: int
    output: Place
    low: int
    high: int
    hashes: tuple[tuple[int, str], ...] = field(repr=False)
    ignore: Mapping[int, tuple[DropList, ...]] = field(default_factory=dict, repr=False)
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class VocabularyTask:
    """Train a vocabulary on the samples."""

    key: str
    stage: int
    name: str
    split: int
    output: Place
    options: dict[str, Any]
    samples: tuple[str, ...] = field(repr=False)
    bytes: int = 0


PASSING: Final = ("changed_file", "unreadable_file")
"""Why a reader quarantines a file that it may be able to read the next time: such a task is not done for good."""

Task = MapTask | DuplicatesTask | VocabularyTask


@dataclass(frozen=True, kw_only=True)
class OutputFile:
    """A file that a task wrote, relative to the output, and how to know it again."""

    path: str
    bytes: int
    checksum: str


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What a step cost in one task; summed over tasks in the summary."""

    name: str
    rows_in: int
    rows_out: int
    bytes_in: int
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A row that did not come through, for people to look at; `rank` orders the seeded sample."""

    rank: int
    row_id: str
    reason: str
    step: str
    excerpt: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """What a task did. Its output is done when, and only when, this is in the store.

    Attributes:
        files: what was written, by kind ("rows", "hashes", …); a kind without rows is absent.
        rows_in, rows_out, dropped, duplicates, quarantined: documents, counted where they are read and written.
        text_bytes: UTF-8 bytes of the text of the rows out.
        shard: the dataset's entry for the shard, as plain data; schema: its Arrow schema, encoded.
        lists: of a duplicates task, by split: [record batch, rows, digest].
        size: of a vocabulary: tokens in it.
    """

    key: str
    stage: str
    split: int
    seconds: float
    files: dict[str, OutputFile] = field(default_factory=dict)
    rows_in: int = 0
    rows_out: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    text_bytes: int = 0
    steps: tuple[StepCost, ...] = ()
    rejects: tuple[Reject, ...] = ()
    first_bad: Reject | None = None
    shard: dict[str, Any] | None = None
    schema: str | None = None
    lists: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    size: int = 0

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)


def record_from(plain: Mapping[str, Any]) -> TaskRecord:
    """The inverse of `TaskRecord.as_dict`; TypeError or KeyError where the mapping is not one."""
    values = dict(plain)
    values["files"] = {kind: OutputFile(**file) for kind, file in values["files"].items()}
    values["steps"] = tuple(StepCost(**cost) for cost in values["steps"])
    values["rejects"] = tuple(Reject(**reject) for reject in values["rejects"])
    values["first_bad"] = None if values["first_bad"] is None else Reject(**values["first_bad"])
    values["lists"] = {split: tuple(entry) for split, entry in values["lists"].items()}
    return TaskRecord(**values)
