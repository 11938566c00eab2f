"""What is sent to a worker and what comes back: small frozen data, paths in, a record out, never rows.

What enters: a `Task`, self-contained, so that any process that reaches the input and the output can run it. What
leaves: a `TaskRecord`, JSON-able. Invariant: a task's key names everything that its output depends on (the bytes it
reads by digest, what it does to them, the code that does it), so equal keys mean equal output files; credentials are in
no repr.
"""

from __future__ import annotations

import abc
import dataclasses
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

from datapipe.preprocess.recipe import digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.corpus import Split
    from datapipe.preprocess.encrypting import SealingPlace
    from datapipe.preprocess.poison import Poison
    from datapipe.preprocess.recipe import InputSettings, OutputSettings
    from datapipe.preprocess.stage import Removal
    from datapipe.storage import Store

CODE: Final = 2
"""Raised whenever this package's tasks may write other bytes for the same input."""
_LIBRARIES: Final = (
    "datasketches",
    "ftfy",
    "gigatoken",
    "numpy",
    "pillow",
    "polars",
    "py3langid",
    "pyarrow",
    "resiliparse",
    "simplejpeg",
    "tokenizers",
)


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
    """The output's store, as a worker opens it; `sealing`: what it encrypts by."""

    url: str = field(repr=False)
    options: Mapping[str, Any] | None = field(default=None, repr=False)
    sealing: SealingPlace | None = None

    def secret(self) -> bytes | None:
        """What rows between stages are encrypted under; None where they are not."""
        return None if self.sealing is None else self.sealing.secret()

    def open(self) -> Store:
        """The store."""
        from datapipe.storage import open_store

        return open_store(self.url, storage_options=self.options)


@dataclass(frozen=True, kw_only=True)
class DropList:
    """Where one split's part of a drop list is: a record batch of a file; and what becomes of the rows on it."""

    path: str
    batch: int
    removal: Removal


@dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """One unit of work, self-contained and small.

    Attributes:
        key: names everything its output depends on.
        stage, name: the stage it belongs to. split: its number in there.
        output: where its files go.
        bytes: of what it reads, about: for progress.
        counts: what its record's `rows_in` are, in the singular: for progress.
    """

    counts: ClassVar[str] = "document"
    key: str
    stage: int
    name: str
    split: int
    output: Place
    bytes: int = 0

    @abc.abstractmethod
    def run(self) -> TaskRecord:
        """Do it: its files are stored, its record is returned (and not yet stored)."""

    def place(self) -> str:
        """Which task it is, for messages."""
        return f"stage {self.stage}, {self.name}, part {self.split}"


@final
@dataclass(frozen=True, kw_only=True)
class MapTask(Task):
    """Rows of one split, through a sequence of steps.

    Attributes:
        seed: of the recipe.
        steps: name and plain options of each.
        files: (place in `steps`, option, paths in the output store): what the option's local files are here.
        settings: what passes set for their collectors.
        signals: see `OutputSettings`.
        writes: see `plan.Stage`.
        pieces: what to read of the corpus; None: read `rows`.
        rows: a rows file in the output store.
        stem: the shard's path without checksum and ending.
        moved: whether its rows have come from other splits: what becomes of them has no place to be told by, and the
            steps that are left mark none.
        skip: rows and pieces that do harm (`poison`), left out and quarantined.
        only: positions [low, high) of the rows to run, of a trial (`poison_search`); None: all.
        erased: whether rows of the dataset have been erased (`suppression`): what is read is compared with them.
    """

    seed: int
    steps: tuple[tuple[str, dict[str, Any]], ...]
    writes: tuple[str, ...]
    files: tuple[tuple[int, str, tuple[str, ...]], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    signals: str = "all"
    pieces: Split | None = field(default=None, repr=False)
    input: InputSettings | None = None
    input_options: Mapping[str, Any] | None = field(default=None, repr=False)
    rows: str | None = None
    drops: tuple[DropList, ...] = ()
    shard: OutputSettings | None = None
    stem: str = ""
    moved: bool = False
    skip: tuple[Poison, ...] = ()
    only: tuple[int, int] | None = None
    erased: bool = False

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        from datapipe.preprocess.map_task import run_map

        return run_map(self)

    def place(self) -> str:
        """See `Task.place`."""
        files = [piece.file.name for piece in self.pieces.pieces] if self.pieces is not None else []
        of = f" ({files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''})" if files else ""
        return f"stage {self.stage}, {self.name}, split {self.split}{of}"


PASSING: Final = ("changed_file", "unreadable_file")
"""Why a reader quarantines a file that it may be able to read the next time: such a task is not done for good."""


@dataclass(frozen=True, kw_only=True)
class OutputFile:
    """A file that a task wrote, relative to the output, and how to know it again."""

    path: str
    bytes: int
    checksum: str


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What a step cost in one task; summed over tasks in the summary.

    `rows_measured`: rows that it worked on, those included that steps measured side by side with it had marked; 0 where
    that is `rows_in`.
    """

    name: str
    rows_in: int
    rows_out: int
    bytes_in: int
    cpu_seconds: float
    rows_measured: int = 0

    def plus(self, other: StepCost) -> StepCost:
        """Of two tasks, the sum."""
        return StepCost(
            name=self.name,
            rows_in=self.rows_in + other.rows_in,
            rows_out=self.rows_out + other.rows_out,
            bytes_in=self.bytes_in + other.bytes_in,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            rows_measured=(self.rows_measured or self.rows_in) + (other.rows_measured or other.rows_in),
        )


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
        counters: what steps counted over the rows, summed.
        found: small plain values that a pass hands to its later stages.
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
    counters: dict[str, int] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

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
