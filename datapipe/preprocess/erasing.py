"""The right to erasure: rows taken out of a dataset, and out of all that remembers them.

What enters: row ids. What leaves: a new snapshot without those rows, the old ones gone from the disk. Invariant: the
ids are on the list of erased rows (`suppression`) before anything else is changed, so that no later run brings them
back; the new snapshot is published in one step; what is left to remove is removed by the same command again, whenever
it was killed. A second time it finds nothing to do.

    shards        rewritten without the rows; packed ones packed anew
    index/        hashes, bands, shingles and signals without them
    rejects/      without their samples; report.html goes (it has excerpts), run.json forgets poison among them
    snapshots/    all before this one expire at once, with their files: none can be opened or rolled back to
    _work/        forgotten altogether
    caches        of `datapipe.Cache`, those that are named: emptied

Who has an older snapshot open must open the dataset again. It does not reach copies elsewhere, models trained on the
rows, or what a vocabulary and statistics learnt from them.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError, InputError
from datapipe.preprocess.delivery import checked
from datapipe.preprocess.erasing_index import signals_bytes, without_rows, without_signals
from datapipe.preprocess.erasing_rows import ids_of_older, places_of
from datapipe.preprocess.erasing_shards import rewrite
from datapipe.preprocess.erasure import Erasure
from datapipe.preprocess.prior_runs import is_run
from datapipe.preprocess.signals_file import SIGNALS
from datapipe.preprocess.sound_windows import check_no_windows
from datapipe.preprocess.split_fates import KEPT, Fates, split_fates
from datapipe.preprocess.suppression import ERASED, REASON, nothing_to_erase, read_suppression

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.dataset import IndexEntry, LedgerEntry, Manifest, Sealing
    from datapipe.preprocess.erasing_rows import Places
    from datapipe.preprocess.erasing_shards import Rewritten
    from datapipe.preprocess.stored_run import StoredRun
    from datapipe.preprocess.suppression import Suppression
    from datapipe.preprocess.work import WorkFolder
    from datapipe.storage import Store

    Ints = npt.NDArray[np.int64]

_SHOWN: Final = 3
_LOST_TO: Final = ("equal to ", "much like ")
_ROLLED_BACK: Final = "{:,} of them had been rolled back: the snapshots that had them are gone"


def erase(
    dataset: str | os.PathLike[str],
    row_ids: Iterable[str] = (),
    *,
    keys: Any = None,
    caches: Sequence[str | os.PathLike[str]] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> Erasure:
    """Erase rows from a dataset made by `preprocess`. See the module for what forgets them.

    Args:
        row_ids: of the input's rows, kept or dropped, or rolled back; none: end an erasure that was interrupted. Of a
            sound that was cut into windows, the sound's, and all of them go.
        keys: of encrypted columns, as `open_dataset` takes them. caches: folders of `datapipe.Cache` to be emptied.

    Raises:
        ConfigError: no id, and nothing to end. InputError: no row has an id, it is a window's, or there is no such
            cache. Nothing is erased.
        DatasetError: there is no dataset that a run made.
        PreprocessError: which rows hold a document cannot be shown; nothing is erased.
        IntegrityError: a file that would be rewritten is damaged; nothing is erased.
        OutputError: a run holds the dataset. StorageError: bytes could not be read or written: run it again.
    """
    from datapipe.dataset import as_keyring, read_snapshot
    from datapipe.preprocess.output_folder import claim
    from datapipe.preprocess.stored_run import open_stored_run, stored_run
    from datapipe.preprocess.telling import finish_telling
    from datapipe.storage import open_store

    wanted = list(dict.fromkeys(row_ids))
    for each in wanted:
        if not isinstance(each, str) or not each or (not each.isascii() and not _encodable(each)):
            raise ConfigError(f"a row id {each!a}", expected="texts, as the column row_id has them")
    open_stored_run(dataset, storage_options=storage_options, keys=keys)  # before anything is claimed
    for cache in caches:
        if not Path(cache).is_dir():
            raise InputError(f"there is no cache {cache}; nothing was erased", expected="a folder of datapipe.Cache")
    store = open_store(str(dataset), storage_options=storage_options)
    with claim(store) as work:
        finish_telling(store)  # of a run that was killed: its samples are gone through as well
        manifest = read_snapshot(store)
        keyring = as_keyring(keys)
        run = replace(stored_run(store, manifest), keyring=keyring)
        suppression = read_suppression(store)
        known, older, stay = ids_of_older(run, wanted)
        places = places_of(run, [*wanted, *older], suppression)
        places = replace(places, survivors=tuple(sorted({*places.survivors, *stay} - places.ids - older)))
        if not wanted and not len(places) and not suppression.unfinished:
            raise nothing_to_erase(store)
        known |= places.known
        unknown = [each for each in wanted if each not in known and each not in suppression]
        if unknown := check_no_windows(run, unknown, suppression):
            raise _unknown(run, unknown)
        made, older = None, older - places.ids
        before = sum(each in suppression if each in older else each not in known for each in wanted)
        rolled_back = sum(each not in suppression for each in older)
        repeats = sum(each not in suppression for each in (older | places.known) - {*wanted})
        suppression.add(older)
        if len(places):
            made = _published(run, work, places, suppression, _sealing(run))
            manifest = made[0]
        elif older:
            store.put(ERASED, suppression.to_json(unfinished=True))
        removed = _forget(store, work, manifest, suppression)
        return Erasure(
            url=store.url,
            fingerprint=manifest.fingerprint,
            snapshot=manifest.snapshot,
            erased=len(places) + rolled_back,
            duplicates=places.losers + repeats,
            before=before,
            rows=made[1].rows if made is not None else 0,
            shards=len(made[1].names) if made is not None else 0,
            removed=removed,
            cached_bytes=sum(map(_emptied, caches)),
            notes=(*_notes(manifest, places), *([_ROLLED_BACK.format(rolled_back)] if rolled_back else [])),
        )


def _encodable(text: str) -> bool:
    """Whether it is Unicode: an argument that is not UTF-8 comes as half surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _unknown(run: StoredRun, ids: list[str]) -> InputError:
    from datapipe.preprocess.row_search import nearest_ids

    near = nearest_ids(run, ids[0]).ids
    return InputError(
        f"no row has the id {_first([repr(each) for each in ids])}; nothing was erased",
        expected="ids of rows of the input" + (f", like {', '.join(near)}" if near else ""),
        fix="copy them from rejects/*.jsonl, or from the column row_id of the shards",
    )


def _sealing(run: StoredRun) -> Sealing | None:
    from datapipe.dataset import EncryptionSettings, Sealing
    from datapipe.errors import EncryptionError

    entry = run.manifest.encryption
    if entry is None:
        return None
    if run.keyring is None:
        raise EncryptionError(
            "the dataset has encrypted columns: its shards cannot be rewritten without the keys",
            fix="--keys module:callable",
        )
    settings = EncryptionSettings(
        columns=entry.columns,
        keys="erase:keys",
        footer=entry.footer,
        column_key=entry.column_key,
        footer_key=entry.footer_key,
    )
    secret, _ = run.keyring.secret(entry.footer_key, entry.secret)
    return Sealing(settings=settings, keyring=run.keyring, secret=secret)


def _published(
    run: StoredRun, work: WorkFolder, places: Places, suppression: Suppression, sealing: Sealing | None
) -> tuple[Manifest, Rewritten]:
    """The new snapshot, in place: shards and index files first, the list of what is erased before it."""
    from datapipe.dataset import build_manifest, publish
    from datapipe.dataset.snapshot_facts import SnapshotFacts, note_facts

    old = run.manifest
    kept, ledger = _accounts(run, places)
    rewritten = rewrite(run, kept, places.ids, sealing, work.scratch())
    entries = _ledger_of(run, ledger, rewritten)
    index = tuple(_index(run, work, places))
    suppression.add(places.ids)
    run.store.put(ERASED, suppression.to_json(unfinished=True))
    manifest = build_manifest(
        old.schema,
        rewritten.shards,
        pieces=rewritten.pieces,
        vocabulary=old.vocabulary,
        statistics=old.statistics,
        recipe=old.recipe,
        recipe_fingerprint=old.recipe_fingerprint,
        ledger=entries,
        parent=None,
        snapshot=old.snapshot + 1,
        sources=old.sources,
        index=index,
        encryption=old.encryption,
    )
    facts = SnapshotFacts(fingerprint=manifest.fingerprint, kind="changed", added=manifest.rows - old.rows)
    note_facts(run.store, manifest.snapshot, facts)
    publish(run.store, manifest, over=old)
    return manifest, rewritten


def _accounts(run: StoredRun, places: Places) -> tuple[dict[int, Ints], dict[int, Counter[tuple[str, str]]]]:
    """By split, the positions of documents that the shards hold, and what the others were counted by."""
    import pyarrow.compute as pc

    kept: dict[int, Ints] = {}
    counts: dict[int, Counter[tuple[str, str]]] = {}
    fates = Fates()
    for split in sorted({*places.read, *places.unread}):
        mine: Counter[tuple[str, str]] = Counter()
        if split in places.read:
            fate = split_fates(run, split, fates).fate[places.read[split]]
            here = fate == KEPT
            kept[split] = places.read[split][here]
            mine["kept", ""] = int(here.sum())
            mine.update((fates.known[each].kind, fates.known[each].reason) for each in fate[~here].tolist())
        if split in places.unread:
            reasons = run.table(run.files[split][0], ["reason"]).column("reason")
            mine.update(("quarantine", each) for each in pc.take(reasons, places.unread[split]).to_pylist())
        counts[split] = mine
    return {split: each for split, each in kept.items() if len(each)}, counts


def _ledger_of(
    run: StoredRun, counts: Mapping[int, Counter[tuple[str, str]]], rewritten: Rewritten
) -> tuple[LedgerEntry, ...]:
    """The ledger, with every erased row counted as dropped by "erased"."""
    found = []
    for entry in run.manifest.ledger:
        dropped, quarantined = Counter(entry.dropped), Counter(entry.quarantined)
        values: dict[str, Any] = {"out": entry.out, "duplicates": entry.duplicates}
        values |= {"moved_in": entry.moved_in, "moved_out": entry.moved_out}
        for (kind, reason), n in counts.get(entry.split, Counter()).items():
            dropped[REASON] += n
            if kind == "kept":
                values["moved_out" if run.moved else "out"] -= n
            elif kind == "duplicate":
                values["duplicates"] -= n
            else:
                (quarantined if kind == "quarantine" else dropped)[reason] -= n
        if run.moved and entry.shard is not None:
            went = rewritten.documents.get(entry.shard, 0)
            values |= {"moved_in": values["moved_in"] - went, "out": values["out"] - went}
        shard = rewritten.names.get(entry.shard, entry.shard) if entry.shard is not None else None
        found.append(
            entry.model_copy(
                update={
                    **values,
                    "dropped": dict(sorted((+dropped).items())),
                    "quarantined": dict(sorted((+quarantined).items())),
                    "shard": shard,
                }
            )
        )
    return tuple(found)


def _index(run: StoredRun, work: WorkFolder, places: Places) -> Iterator[IndexEntry]:
    """The index without the rows; its new files are stored."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from datapipe.dataset import Checksum, FileEntry

    firsts = {split: files[0].path for split, files in run.files.items()}
    none = np.zeros(0, np.int64)
    for entry in run.manifest.index:
        if is_run(entry.name):
            continue  # it is made of files that are rewritten here, and they say the same: `compact` makes it anew
        positions, unread = places.read.get(entry.split, none), places.unread.get(entry.split, none)
        prefix, _, kind = entry.name.rpartition(":")
        if prefix == SIGNALS or entry.name.startswith(f"{SIGNALS}:"):
            if not len(positions) and not len(unread):
                yield entry
                continue
            checked(run.store, entry.file)  # it gets a new checksum, which must not vouch for what is damaged
            table = run.read(entry.file.path)
            rows = pc.fill_null(pc.is_in(table.column("position"), value_set=pa.array(positions, pa.uint32())), False)
            mask = rows.to_numpy().copy()
            corpus = entry.file.path == firsts.get(entry.split)
            if corpus:
                mask[unread] = True
            data: bytes | None = signals_bytes(without_signals(table, pa.array(mask), corpus=corpus))
            kind = SIGNALS
        elif len(positions):
            checked(run.store, entry.file)
            data = without_rows(run.store, entry.file.path, kind, positions)
        else:
            yield entry
            continue
        if data is None:
            continue
        kind = entry.file.path.split("/")[1]
        file = work.keep_bytes(kind, data)
        named = FileEntry(path=file.path, bytes=file.bytes, checksum=Checksum(value=file.checksum))
        yield entry.model_copy(update={"file": named})


def _forget(store: Store, work: WorkFolder, manifest: Manifest, suppression: Suppression) -> int:
    """Remove what is left of rows that have been erased; how many files. Can be done again and again."""
    from datapipe.dataset import expire
    from datapipe.preprocess.output_folder import sweep
    from datapipe.preprocess.publishing import REJECTS, RUN
    from datapipe.preprocess.run_report import REPORT
    from datapipe.preprocess.work import plain_json

    if not len(suppression):
        return 0
    gone = expire(store, keep=1, grace=0.0, now=time.time())
    removed = len(gone.removed) + len(gone.snapshots)
    for entry in list(store.list(REJECTS)):
        if entry.path.endswith(".jsonl"):
            lines = store.read(entry.path).split(b"\n")
            left = [line for line in lines if line and not _tells(line, suppression)]
            if len(left) == sum(map(bool, lines)):
                continue
            store.put(entry.path, b"\n".join(left) + b"\n") if left else store.delete(entry.path)
    if store.exists(REPORT) and not _told_since(store, manifest):
        store.delete(REPORT)
        removed += 1
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        if store.exists(RUN):
            run = json.loads(store.read(RUN))
            run["poison"] = [row for row in run.get("poison", ()) if row.get("row_id") not in suppression]
            shown = {"fingerprint": manifest.fingerprint, "snapshot": manifest.snapshot, "rows": manifest.rows}
            run |= shown | {"shards": len(manifest.shards), "tokens": manifest.tokens}
            store.put(RUN, plain_json(run))
    work.discard()
    sweep(work)
    store.put(ERASED, suppression.to_json())
    return removed


def _told_since(store: Store, manifest: Manifest) -> bool:
    """Whether the report is of a run since the last erasure: then there is nothing in it of what is erased."""
    from datapipe.preprocess.run_files import tells_of

    return tells_of(store, manifest)


def _tells(line: bytes, suppression: Suppression) -> bool:
    """Whether a line of a sample is of an erased row, or names one."""
    try:
        row = json.loads(line)
        detail = str(row.get("detail", ""))
        named = [detail.removeprefix(word) for word in _LOST_TO if detail.startswith(word)]
        return row.get("row_id") in suppression or any(each in suppression for each in named)
    except (ValueError, AttributeError):
        return True  # nobody can tell what it is of


def _emptied(folder: str | os.PathLike[str]) -> int:
    from datapipe.storage.cache import Cache

    return Cache(folder).clear()


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


def _notes(manifest: Manifest, places: Places) -> Iterator[str]:
    if places.survivors:
        shown = _first(places.survivors)
        yield f"a row that was erased is a duplicate of {shown}, and stays there: erase that, too, if it is to go"
    if places.files and (manifest.recipe or {}).get("input", {}).get("id_column") is None:
        yield f"index/sources keeps the names of input files, so that none comes twice: {_first(places.files)}"
    if len(places) and manifest.vocabulary is not None and "vocabulary" in str(manifest.recipe):
        yield "the vocabulary was trained with the rows, and stays: make the dataset anew to have one without them"
    if len(places) and manifest.statistics:
        yield "the statistics were measured with the rows, and stay: make the dataset anew to have some without them"
