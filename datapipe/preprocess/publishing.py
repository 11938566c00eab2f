"""The last act: from finished shards to a published dataset, and away with what no longer belongs to it.

What enters: the records of the last stage, the ledger, the tokenizer. What leaves: a manifest, put in place in one step
after everything it names. Invariant: until then the dataset that was there before is whole; the manifest holds no time,
path or name of this machine, so the same input and recipe give the same file.
"""

from __future__ import annotations

import re
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import PreprocessError, SchemaError
from datapipe.preprocess.work import INDEX, plain_json

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from datapipe.dataset import EncryptionEntry, FileEntry, IndexEntry, Manifest, PieceEntry, ShardEntry
    from datapipe.preprocess.delivery import Before
    from datapipe.preprocess.plan import Plan
    from datapipe.preprocess.row_ledger import RowLedger
    from datapipe.preprocess.tasks import TaskRecord
    from datapipe.storage import Entry, Store

REJECTS: Final = "rejects"
RUN: Final = "run.json"
NONE: Final[Mapping[str, Any]] = MappingProxyType({})
_TOKENIZER: Final = re.compile(r"tokenizer-[0-9a-f]{8}\.json")
_INDEXED: Final = re.compile(rf"{INDEX}/[a-z_]+/[0-9a-f]{{32}}\.[a-z_]+")
_SAMPLE: Final = re.compile(rf"{REJECTS}/[a-z0-9_]+\.jsonl")


def store_tokenizer(store: Store, data: bytes, size: int) -> FileEntry:
    """Put the tokenizer beside the shards, under a name that carries its checksum: an older one stays as it is."""
    from datapipe.dataset import put_file_entry
    from datapipe.storage import checksum_bytes

    return put_file_entry(store, f"tokenizer-{checksum_bytes(data)[:8]}.json", data, size=size)


def publish_run(
    store: Store,
    plan: Plan,
    written: Mapping[int, TaskRecord],
    ledger: RowLedger,
    vocabulary: FileEntry | None,
    *,
    tell: Callable[[Manifest], None],
    before: Before | None = None,
    sources: FileEntry | None = None,
    index: Sequence[IndexEntry] = (),
    statistics: Mapping[str, Any] = NONE,
    encryption: EncryptionEntry | None = None,
) -> Manifest:
    """Publish, then remove the shards and tokenizers that the new manifest has no place for.

    Args:
        tell: called with the manifest right before it is put in place.
        before: what this snapshot is added to: its shards, ledger and index stay.
        sources: the list of the run's input files. index: what later deliveries are compared with, of this run.
        statistics: by step, what columns are normalised and numbered by.
        encryption: which columns the shards have encrypted.

    Raises:
        PreprocessError: no row is left. SchemaError: two shards differ in their columns.
        OutputError: another run has published a snapshot since this one began.
    """
    from datapipe.dataset import ShardEntry, build_manifest, keep_snapshot, spared, sweep
    from datapipe.dataset.manifest import decode_schema

    base = None if before is None else before.manifest
    shards: list[ShardEntry] = list(base.shards) if base is not None else []
    schemas: dict[str, str] = {}  # schema → the first shard that has it
    if base is not None:
        schemas[base.arrow_schema] = shards[0].path if shards else "the dataset"
    for split in sorted(written):
        record = written[split]
        if record.shard is None or record.schema is None:
            continue
        # JSON turned tuples into lists, and the model is strict: it reads JSON.
        shards.append(ShardEntry.model_validate_json(plain_json(record.shard)))
        schemas.setdefault(record.schema, record.shard["path"])
    if not shards and base is None:  # of a dataset that is added to every row may have been erased
        raise nothing_left(ledger)
    found = {path: decode_schema(text) for text, path in schemas.items()}
    schema = next(iter(found.values()))
    for path, other in found.items():
        if not other.equals(schema):
            odd = sorted(set(map(str, other)) ^ set(map(str, schema)))
            raise SchemaError(
                f"{path} has other columns than {next(iter(found))}: {', '.join(odd)}",
                expected="the same columns and types in every input",
                fix="convert the column in the input, or leave it out of input.columns",
            )
    manifest = build_manifest(
        schema,
        tuple(shards),
        vocabulary=vocabulary,
        statistics=dict(statistics),
        encryption=encryption,
        recipe=plan.recipe.as_dict(),
        recipe_fingerprint=plan.recipe.fingerprint,
        ledger=(*(base.ledger if base is not None else ()), *ledger.entries()),
        parent=base.fingerprint if base is not None else None,
        snapshot=base.snapshot + 1 if base is not None else 0,
        sources=(*(base.sources if base is not None else ()), *([sources] if sources is not None else ())),
        index=(*(base.index if base is not None else ()), *index),
        pieces=_pieces(base, shards),
    )
    data = manifest.to_json()
    now = _newest(store, manifest, None if before is None else before.data)
    if before is not None:
        keep_snapshot(store, before.manifest, before.data)
    tell(manifest)
    _put_manifest(store, data, now)
    spare = spared(store, time.time())
    sweep(store, manifest, spare=spare)
    _sweep_index(store, manifest, spare)
    # What is appended keeps its vocabulary: there is no other to remove.
    for entry in list(store.list()) if before is None else ():
        if _TOKENIZER.fullmatch(entry.path) and (vocabulary is None or entry.path != vocabulary.path):
            store.delete(entry.path)
    return manifest


def _put_manifest(store: Store, data: bytes, now: Entry | None) -> None:
    """Put the manifest in place, if `now` is still there: of two who append one publishes."""
    from datapipe.dataset import MANIFEST_NAME
    from datapipe.dataset.writer import published_meanwhile

    if now is not None and store.read(MANIFEST_NAME) == data:
        return
    if not store.put_if(MANIFEST_NAME, data, now) and store.read(MANIFEST_NAME) != data:
        raise published_meanwhile(store)


def _newest(store: Store, manifest: Manifest, before: bytes | None) -> Entry | None:
    """The manifest that is there, which is what this one is added to (its bytes: `before`), or this one itself.

    Raises:
        OutputError: it is neither.
    """
    from datapipe.dataset import MANIFEST_NAME, parse_manifest
    from datapipe.dataset.writer import published_meanwhile

    if not store.exists(MANIFEST_NAME):
        return None
    now, data = store.info(MANIFEST_NAME), store.read(MANIFEST_NAME)
    if manifest.parent is not None and data != before:
        found = parse_manifest(data, where=f"{store.url}/{MANIFEST_NAME}")
        known = ((manifest.parent, manifest.snapshot - 1), (manifest.fingerprint, manifest.snapshot))
        if (found.fingerprint, found.snapshot) not in known:
            raise published_meanwhile(store)
    return now


def _pieces(before: Manifest | None, shards: Sequence[ShardEntry]) -> tuple[PieceEntry, ...]:
    """Where shards of earlier snapshots were merged: what they were merged from, and the new shards."""
    from datapipe.dataset import PieceEntry

    if before is None or not before.pieces:
        return ()
    new = shards[len(before.shards) :]
    return (
        *before.pieces,
        *(
            PieceEntry(path=s.path, rows=s.rows, checksum=s.checksum, documents=s.documents, content=s.content)
            for s in new
        ),
    )


def _sweep_index(store: Store, manifest: Manifest, spare: set[str]) -> None:
    """Remove what no snapshot that can still be opened compares with."""
    from datapipe.dataset import lineage, named_by

    keep = named_by(manifest) | spare
    loose = [entry.path for entry in store.list(INDEX) if entry.path not in keep and _INDEXED.fullmatch(entry.path)]
    if loose:  # a snapshot's index holds those before it, but for what was rolled back
        keep = keep.union(*map(named_by, lineage(store, manifest)))
    for path in loose:
        if path not in keep:
            store.delete(path)


def sweep_rejects(store: Store, files: Container[str]) -> None:
    """Remove the samples of rejects that are not among `files`."""
    for entry in list(store.list(REJECTS)):
        # A sample of an earlier run; what somebody else put there has another name.
        if entry.path not in files and _SAMPLE.fullmatch(entry.path):
            store.delete(entry.path)


def nothing_left(ledger: RowLedger) -> PreprocessError:
    """The error of a run that has dropped every document: what went where."""
    return PreprocessError(
        "no row is left to publish: " + _why(ledger.total()),
        expected="at least one document to come through",
        fix="loosen the steps that drop most, or check input.text_column",
    )


def _why(total: Mapping[str, Any]) -> str:
    gone = [f"{n:,} dropped by {reason}" for reason, n in total["dropped"].items()]
    gone += [f"{n:,} quarantined as {reason}" for reason, n in total["quarantined"].items()]
    return f"of {total['documents_in']:,} documents, " + (", ".join(gone) if gone else "none had any token")
