"""`datapipe describe`, `verify` and `plan`: what a dataset is, whether it is whole, what reading it will cost.

What enters: where a dataset lies. What leaves: facts about it, for a person or as one JSON object. Invariant: nothing
of the dataset is changed; exit 1 is a dataset that is not whole, exit 2 a place where none is.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.dataset import Dataset, LedgerEntry
    from datapipe.loader import Bucket

Where = Annotated[str, typer.Argument(help="A dataset: a folder or URL with a manifest, or of Parquet or Arrow files.")]

KeysOption = Annotated[
    str | None,
    typer.Option(help="Where the keys of encrypted columns come from: module:callable or file.py:callable."),
]


@contextlib.contextmanager
def named(dataset: str) -> Iterator[None]:
    """What fails in the block because there is nothing at all by that name is wrong usage, and no damaged dataset.

    Raises:
        InputError: neither a file nor a folder is there; of a remote place, nothing begins with its name.
    """
    from datapipe.errors import DatasetError, InputError, NotFoundError
    from datapipe.storage import mask

    try:
        yield
    except (DatasetError, NotFoundError) as error:
        if not _nothing_at(dataset):
            raise
        raise InputError(
            f"{mask(dataset)}: there is nothing by that name",
            expected="a dataset: a folder or URL",
            fix="check the path, or make a dataset with `datapipe preprocess INPUT OUTPUT`",
        ) from error


def _nothing_at(dataset: str) -> bool:
    from datapipe.errors import StorageError
    from datapipe.storage import open_store, split_url

    try:
        store = open_store(dataset)
        if not store.is_remote:
            local = store.local_path("x")
            return local is not None and not Path(local).parent.exists()
        root, name = split_url(dataset)
        return next(iter(store.list()), None) is None and not open_store(root).exists(name)
    except StorageError:
        return False


def describe(
    dataset: Where,
    representation: Annotated[
        bool, typer.Option("--representation", help="Count documents by language, source, label, length; PII by type.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with sample rows, histograms, thumbnails, waveforms.")
    ] = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a dataset holds: schema, rows, shards, tokens, drops by reason, recipe, fingerprint.

    Example: datapipe describe datapipe-demo/dataset --html dataset.html
    """
    from datapipe.dataset import open_dataset

    with named(dataset):
        opened = open_dataset(dataset, keys=keys)
    facts = description(opened)
    lines = description_lines(facts)
    if representation:
        facts["representation"], more = _represented(opened)
        lines += more
    if html is not None:
        _write_page(html, opened, facts)
        facts["html"] = str(html)
        lines.append(f"  {html}: the same, with sample rows")
    if json:
        console.emit(facts)
        return
    for line in lines:
        console.show(line)


def _represented(opened: Dataset) -> tuple[dict[str, Any], list[str]]:
    from datapipe.errors import DatasetError
    from datapipe.preprocess.dataset_page import representation_of
    from datapipe.preprocess.representation import lines_of

    found = representation_of(opened)
    if found is None:
        raise DatasetError(
            f"{opened.url} has no signals to count documents by",
            expected="a dataset that preprocess made",
            fix="make it by `datapipe preprocess INPUT... OUTPUT`",
        )
    return found.as_dict(), lines_of(found)


def _write_page(html: Path, opened: Dataset, facts: dict[str, Any]) -> None:
    from datapipe.errors import InputError
    from datapipe.preprocess.dataset_page import dataset_html

    page = dataset_html(opened, facts)
    try:
        html.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{html} cannot be written ({error.strerror})", expected="a file in a folder") from None


def description(dataset: Dataset) -> dict[str, Any]:
    """The facts about a dataset, as JSON values; sizes in bytes."""
    manifest = dataset.manifest
    facts: dict[str, Any] = {
        "ok": True,
        "url": dataset.url,
        "fingerprint": dataset.fingerprint,
        "rows": dataset.num_rows,
        "shards": len(dataset.index.paths),
        "row_groups": len(dataset.index),
        "uncompressed_bytes": int(dataset.index.bytes.sum()),
        "schema": [{"name": f.name, "type": str(f.type), "nullable": f.nullable} for f in dataset.schema],
    }
    if manifest is not None and manifest.encryption is not None:
        facts["encrypted"] = list(manifest.encryption.columns)
    if manifest is not None:
        facts |= {
            "bytes": sum(shard.bytes for shard in manifest.shards),
            "tokens": manifest.tokens,
            "vocabulary": None if manifest.vocabulary is None else manifest.vocabulary.size,
            "recipe": manifest.recipe,
            "recipe_fingerprint": manifest.recipe_fingerprint,
            "parent": manifest.parent,
            "snapshot": manifest.snapshot,
        }
        if manifest.ledger:
            total = manifest.total()
            facts["ledger"] = total.model_dump(exclude={"split", "shard"}) | {"unaccounted": total.unaccounted}
    return facts


def description_lines(facts: dict[str, Any]) -> list[str]:
    """The same for a person."""
    lines = [
        facts["url"],
        f"  fingerprint  {facts['fingerprint']}",
        f"  rows         {facts['rows']:,} in {console.count(facts['row_groups'], 'row group')}, "
        + console.count(facts["shards"], "shard"),
        f"  size         {console.size(facts['uncompressed_bytes'])} uncompressed"
        + (f", {console.size(facts['bytes'])} stored" if "bytes" in facts else ""),
    ]
    if facts.get("tokens") is not None:
        vocabulary = f", vocabulary of {facts['vocabulary']:,}" if facts.get("vocabulary") else ""
        lines.append(f"  tokens       {facts['tokens']:,}{vocabulary}")
    lines.append("  columns")
    locked = facts.get("encrypted", ())
    lines.append(
        console.table(
            [
                (
                    "  " + f["name"],
                    f["type"] + ("" if f["nullable"] else " not null") + (", encrypted" if f["name"] in locked else ""),
                )
                for f in facts["schema"]
            ]
        )
    )
    if facts.get("recipe"):
        steps = [step["step"] for step in facts["recipe"].get("steps", [])]
        lines.append(f"  recipe       {facts['recipe'].get('name', '?')} ({facts['recipe_fingerprint']})")
        lines.append(f"               {' → '.join(str(step) for step in steps)}")
    if "ledger" in facts:
        lines += ["  documents"] + ["  " + line for line in _ledger(facts["ledger"])]
    elif "bytes" not in facts:
        lines.append("  no manifest  checksums, recipe and ledger are unknown; the index was read from the footers")
    return lines


def _ledger(ledger: dict[str, Any]) -> list[str]:
    rows = [("in", f"{ledger['documents_in']:,}"), ("out", f"{ledger['out']:,}")]
    rows += [(f"dropped: {reason}", f"{n:,}") for reason, n in ledger["dropped"].items()]
    rows.append(("duplicates", f"{ledger['duplicates']:,}"))
    rows += [(f"quarantined: {reason}", f"{n:,}") for reason, n in ledger["quarantined"].items()]
    rows.append(("unaccounted", f"{ledger['unaccounted']:,}"))
    return console.table(rows, right=(1,)).split("\n")


def ledger_lines(total: LedgerEntry) -> list[str]:
    """A row ledger as aligned lines: in, out, each reason, and what is unaccounted for (0)."""
    return _ledger(total.model_dump() | {"unaccounted": total.unaccounted})


def verify(dataset: Where, keys: KeysOption = None, json: JsonOption = False) -> None:
    """Check every checksum, count and ledger of a dataset; exit 1 on any mismatch.

    Example: datapipe verify datapipe-demo/dataset
    """
    from datapipe.dataset import verify_dataset

    with named(dataset):
        report = verify_dataset(dataset, keys=keys)
    if json:
        faults = [{"path": path, "fault": fault} for path, fault in report.faults]
        console.emit(
            {"ok": report.ok, "url": report.url, "fingerprint": report.fingerprint, "shards": report.shards}
            | {"rows": report.rows, "bytes": report.bytes, "faults": faults, "notes": list(report.notes)}
        )
    else:
        for path, fault in report.faults:
            console.show(f"FAULT  {path}: {fault}")
        for note in report.notes:
            console.show(f"note   {note}")
        checked = f"{console.count(report.shards, 'shard')}, {console.count(report.rows, 'row')}"
        verdict = "whole" if report.ok else console.count(len(report.faults), "fault")
        console.show(f"{verdict}: {checked}, {console.size(report.bytes)}  {report.fingerprint or ''}".rstrip())
    if not report.ok:
        raise typer.Exit(1)


def plan(
    dataset: Where,
    batch_size: Annotated[int, typer.Option(help="Rows per rank and step.", min=1)] = 32,
    world_size: Annotated[int, typer.Option(help="Ranks.", min=1)] = 1,
    columns: Annotated[str | None, typer.Option(help="Columns to read, comma-separated; all by default.")] = None,
    tail: Annotated[str, typer.Option(help="drop, pad or partial.")] = "drop",
    shuffle: Annotated[bool, typer.Option(help="Shuffle, or read in order.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the order.")] = 0,
    pack: Annotated[int | None, typer.Option(help="Pack documents into rows of so many tokens.", min=1)] = None,
    bucket: Annotated[str | None, typer.Option(help="Batches of near lengths: boundaries, comma-separated.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="… or of so many tokens, padding included.", min=1)] = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Say what an epoch will cost before it is read: steps, bytes, memory, shuffle quality. Reads lengths at most.

    Example: datapipe plan datapipe-demo/dataset --batch-size 16 --world-size 8
    """
    from datapipe.dataset import open_dataset
    from datapipe.loader import Pack, plan_epoch

    with named(dataset):
        opened = open_dataset(dataset, columns=columns.split(",") if columns else None, keys=keys)
    facts = plan_epoch(
        opened, batch_size=batch_size, world_size=world_size, tail=tail, shuffle=shuffle, seed=seed,
        pack=None if pack is None else Pack(pack), bucket=_bucket(bucket, max_tokens),
    )  # fmt: skip
    if json:
        console.emit({"ok": True, "url": opened.url, **facts.as_dict()})
    else:
        console.show(str(facts))


def _bucket(boundaries: str | None, max_tokens: int | None) -> Bucket | None:
    from datapipe.errors import ConfigError
    from datapipe.loader import Bucket

    if boundaries is None:
        return None if max_tokens is None else Bucket(max_tokens=max_tokens)
    try:
        lengths = [int(each) for each in boundaries.split(",")]
    except ValueError:
        raise ConfigError(f"--bucket {boundaries}", expected="whole numbers, such as 128,512") from None
    return Bucket(lengths, max_tokens)
