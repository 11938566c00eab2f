"""`datapipe erase`: rows taken out of a dataset for good, and out of what remembers them.

What enters: a dataset, ids of rows. What leaves: what was erased and what was rewritten for it. Invariant: an erasure
that was killed is ended by the same command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption
from datapipe.cli.dataset import KeysOption, named


def erase(
    dataset: Annotated[str, typer.Argument(help="A dataset made by preprocess: a folder or URL.", metavar="DATASET")],
    row_id: Annotated[
        list[str] | None,
        typer.Argument(help="Ids of rows, as the shards have them; none: end an erasure that was interrupted."),
    ] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="A file of further ids, one a line.")] = None,
    cache: Annotated[
        list[str] | None, typer.Option(help="A folder of datapipe.Cache to be emptied; may be given again.")
    ] = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Erase rows for good: no rerun, append or rollback brings them back. Killed, it is run again.

    Shards are rewritten, older snapshots expire at once, indexes, samples and the caches named forget.

    A sound that was cut into windows goes with all of them, by its own id: a window's erases nothing.

    Example: datapipe erase corpus mail/2024.jsonl:18042 --cache /data/cache
    """
    from datapipe.errors import InputError
    from datapipe.preprocess import erase as erased

    ids = list(row_id or ())
    if from_ is not None:
        try:
            # Not `splitlines`, which ends a line at U+2028 and at form feeds as well: an id may have them.
            ids += [line for line in from_.read_text("utf-8-sig").split("\n") if line]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{from_}: cannot be read ({type(error).__name__})", expected="UTF-8, an id a line"
            ) from None
    with named(dataset):
        done = erased(dataset, ids, keys=keys, caches=cache or ())
    if json:
        console.emit({"ok": True, **done.as_dict()})
        return
    also = f", {console.count(done.duplicates, 'duplicate')} of them among it" if done.duplicates else ""
    console.show(f"erased {console.count(done.erased, 'document')}{also}: {console.count(done.rows, 'row')} in shards")
    if done.before:
        console.show(f"  {console.count(done.before, 'id')} had been erased before")
    rewritten = f"{console.count(done.shards, 'shard')} rewritten, {console.count(done.removed, 'file')} removed"
    console.show(f"  {rewritten}" + (f", {console.size(done.cached_bytes)} of cache" if done.cached_bytes else ""))
    for note in done.notes:
        console.show(f"  note: {note}")
    console.show(f"{done.url}: snapshot {done.snapshot}, {done.fingerprint}")
