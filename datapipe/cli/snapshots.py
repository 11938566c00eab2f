"""`datapipe snapshots`, `rollback`, `compact` and `expire`: the states of a dataset that deliveries are appended to.

What enters: where a dataset lies. What leaves: its snapshots, or the new one. Invariant: readers of a snapshot that is
kept are undisturbed; what expires is removed only once nobody can be reading it.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict
from typing import Annotated

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption
from datapipe.cli.dataset import named
from datapipe.errors import ConfigError

Where = Annotated[str, typer.Argument(help="A dataset with a manifest: a folder or URL.")]


def snapshots(dataset: Where, json: JsonOption = False) -> None:
    """List the snapshots of a dataset: what each added, and which can still be opened.

    Example: datapipe snapshots corpus
    """
    from datapipe.dataset import MANIFEST_NAME, snapshots_of
    from datapipe.errors import DatasetError
    from datapipe.storage import open_store

    with named(dataset):
        store = open_store(dataset)
        if not store.exists(MANIFEST_NAME):
            raise DatasetError(f"{store.url} has no snapshots", expected="a dataset with a manifest")
        found = snapshots_of(store)
    if json:
        console.emit({"ok": True, "url": store.url, "snapshots": [asdict(each) for each in found]})
        return
    rows = [
        (
            f"{each.number}{' (newest)' if each.newest else ''}",
            each.kind,
            f"{each.rows:,}",
            "" if each.added is None else f"{each.added:+,}",
            "" if each.tokens is None else f"{each.tokens:,}",
            f"{each.shards:,}",
            each.fingerprint,
        )
        for each in found
    ]
    header = ("snapshot", "what", "rows", "added", "tokens", "shards", "fingerprint")
    console.show(console.table(rows, header=header, right=(2, 3, 4, 5)))


def rollback(
    dataset: Where,
    snapshot: Annotated[int, typer.Argument(help="The number of the snapshot, as `datapipe snapshots` lists it.")],
    json: JsonOption = False,
) -> None:
    """Make an earlier snapshot the newest again. Nothing is lost: it is a snapshot of its own, and can be taken back.

    Example: datapipe rollback corpus 0
    """
    from datapipe.preprocess.upkeep import rollback as roll_back

    with named(dataset):
        made = roll_back(dataset, snapshot)
    facts = {"snapshot": made.snapshot, "content_of": snapshot, "rows": made.rows, "fingerprint": made.fingerprint}
    if json:
        console.emit({"ok": True, **facts})
    else:
        console.show(f"snapshot {made.snapshot}: {console.count(made.rows, 'row')}, the content of snapshot {snapshot}")


def compact(
    dataset: Where,
    target_mb: Annotated[
        float, typer.Option("--target-mb", help="MB of a merged shard, at most; smaller than half of it are merged.")
    ] = 128,
    json: JsonOption = False,
) -> None:
    """Merge small shards. Rows, their order, the fingerprint and saved loader states stay as they are.

    The small shards stay until the snapshots that name them expire: see `datapipe expire`.

    Example: datapipe compact corpus --target-mb 64
    """
    from datapipe.preprocess.upkeep import compact as merge

    if not 0 < target_mb < math.inf:
        raise ConfigError(f"--target-mb {target_mb:g}", expected="more than 0")
    with named(dataset):
        done = merge(dataset, target=int(target_mb * 1e6))
    if json:
        console.emit({"ok": True, "changed": done.changed, **asdict(done)})
    elif not done.changed:
        console.show(f"nothing to merge: {console.count(done.shards, 'shard')}, of snapshot {done.snapshot}")
    else:
        console.show(
            f"snapshot {done.snapshot}: {console.count(done.shards_before, 'shard')} → {done.shards:,},"
            f" {console.count(done.index_before, 'index file')} → {done.index:,}; the same content, {done.fingerprint}"
        )


def expire(
    dataset: Where,
    keep: Annotated[int | None, typer.Option(help="How many of the newest snapshots stay.", min=1)] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Let those go that were replaced longer ago: 30d, 12h, 90m.", metavar="AGE")
    ] = None,
    grace: Annotated[
        str, typer.Option(help="How long the files of an expired snapshot stay, for who reads them.", metavar="AGE")
    ] = "1d",
    json: JsonOption = False,
) -> None:
    """Let old snapshots go, and remove files that no snapshot names once nobody can be reading them.

    The newest stays. The files of an expired snapshot are removed by the first `expire` or `preprocess --append` after
    the grace period. Without --keep and --older-than only what has become due is removed.

    Example: datapipe expire corpus --keep 3 --grace 2d
    """
    from datapipe.preprocess.upkeep import expire as let_go

    with named(dataset):
        done = let_go(
            dataset, keep=keep, older_than=None if older_than is None else seconds(older_than), grace=seconds(grace)
        )
    if json:
        console.emit({"ok": True, **asdict(done)})
        return
    gone = ", ".join(map(str, done.snapshots)) or "none"
    console.show(f"expired: {gone}; kept: {', '.join(map(str, done.kept))}")
    waiting = f", {console.count(len(done.waiting), 'file')} to go later" if done.waiting else ""
    console.show(f"removed: {console.count(len(done.removed), 'file')}, {console.size(done.removed_bytes)}{waiting}")


def seconds(text: str) -> float:
    """`90s`, `15m`, `12h`, `30d`, `2w` or a bare number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text.strip())
    if match is None:
        raise ConfigError(f"an age of {text!r}", expected="a number and s, m, h, d or w: 12h, 30d")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[match[2]]
