"""`datapipe describe --html`: a dataset on one page that needs nothing else: columns, sample rows, representation.

What enters: a dataset. What leaves: HTML with its style inside, under a content security policy that allows that style
by its hash, pictures that stand in the page, and no script. Invariant: every text that comes from data is escaped, with
control and direction characters written out; columns that are encrypted are shown to who gave the keys, and then the
page holds their values in the open, and says so.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import DatapipeError
from datapipe.preprocess.column_views import (
    GROUPS,
    ColumnView,
    Picture,
    Wave,
    is_media,
    joined,
    legible,
    media_bytes,
    spaced,
    thumbnail,
    view_of,
    waveform,
)
from datapipe.preprocess.run_report import in_bytes, run_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from datapipe.dataset import Dataset
    from datapipe.preprocess.representation import Representation

_TEMPLATES: Final = Path(__file__).parent / "templates"
ROWS: Final = 8
"""Sample rows."""
MEDIA: Final = 24
"""Thumbnails or waveforms of a column."""
_EXCERPT: Final = 400
_ELEMENTS: Final = 24
_MOST_COLUMNS: Final = 200


@final
@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures or sounds of one column: (label, what is shown) of each."""

    column: str
    pictures: tuple[tuple[str, Picture], ...] = ()
    waves: tuple[tuple[str, Wave], ...] = ()


def dataset_html(dataset: Dataset, facts: dict[str, Any]) -> str:
    """The page.

    Args:
        facts: what `datapipe describe --json` says.

    Raises:
        StorageError: rows cannot be read. EncryptionError: their footers are encrypted, and no keys were given.
    """
    from markupsafe import Markup

    style = (_TEMPLATES / "run_report.css").read_text("utf-8")
    locked = dataset.manifest.encryption.columns if dataset.manifest and dataset.manifest.encryption else ()
    names = [n for n in dataset.columns[:_MOST_COLUMNS] if n not in locked or dataset.keyring is not None]
    views, galleries, rows = _looked_at(dataset, names, locked)
    return run_page("dataset_page.html.j2").render(
        f={"recipe": None, **facts},
        css=Markup(style),  # noqa: S704  (our own file)
        style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        figures=_figures(facts),
        views=views,
        galleries=galleries,
        rows=rows,
        shown=[view.name for view in views],
        locked=[name for name in locked if name in dataset.columns],
        opened=bool(locked) and dataset.keyring is not None,
        groups=min(GROUPS, len(dataset.index)),
        r=representation_of(dataset),
    )


def _figures(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = [
        ("Rows", f"{facts['rows']:,}", f"in {_counted(facts['row_groups'], 'row group')}"),
        ("Shards", f"{facts['shards']:,}", in_bytes(facts["bytes"]) + " stored" if "bytes" in facts else "no manifest"),
        ("Size", in_bytes(facts["uncompressed_bytes"]), "uncompressed"),
    ]
    if facts.get("tokens") is not None:
        found.append(("Tokens", f"{facts['tokens']:,}", f"vocabulary of {facts.get('vocabulary') or 0:,}"))
    else:
        found.append(("Columns", f"{len(facts['schema']):,}", _snapshot(facts)))
    return found


def _snapshot(facts: dict[str, Any]) -> str:
    return f"snapshot {facts['snapshot']}" if "snapshot" in facts else "files without a manifest"


def _counted(n: int, name: str) -> str:
    return f"{n:,} {name}" if n == 1 else f"{n:,} {name}s"


def _looked_at(
    dataset: Dataset, names: Sequence[str], locked: Sequence[str]
) -> tuple[list[ColumnView], list[Gallery], list[tuple[str, list[tuple[str, str]]]]]:
    """Columns, pictures and sounds, and rows, from a few row groups, one at a time."""
    if not names or not dataset.num_rows:
        return [], [], []
    schema = dataset.schema
    media = [name for name in names if is_media(schema.field(name).type)]
    others = [name for name in names if name not in media]
    views: list[ColumnView] = []
    if others:
        sampled = dataset.select(others)
        table = legible(joined([sampled.fetch(block).decode() for block in spaced(len(sampled.index), GROUPS)]))
        views = [view_of(name, table.column(name), encrypted=name in locked) for name in others]
    numbers = spaced(dataset.num_rows, MEDIA if media else ROWS)
    taken = legible(dataset.select(list(names)).take(numbers))
    galleries = [gallery for name in media if (gallery := _gallery(taken, name)) is not None]
    chosen = taken.take(spaced(taken.num_rows, ROWS))
    rows = [
        (f"row {numbers[at]:,}", [(name, _said(chosen.column(name)[i].as_py())) for name in others])
        for i, at in enumerate(spaced(taken.num_rows, ROWS))
    ]
    shown = {gallery.column for gallery in galleries}
    rest = [name for name in media if name not in shown]
    views += [ColumnView(name=n, type=str(schema.field(n).type), encrypted=n in locked) for n in rest]
    order = {name: place for place, name in enumerate(names)}
    return sorted(views, key=lambda view: order[view.name]), galleries, rows if others else []


def _gallery(taken: pa.Table, name: str) -> Gallery | None:
    """Pictures or sounds, whichever the first value is; None where it is neither."""
    from datapipe.steps.audio_formats import container_of

    values = [media_bytes(value) for value in taken.column(name).to_pylist()]
    labels = [_label(taken, i) for i in range(taken.num_rows)]
    there = [(label, data) for label, data in zip(labels, values, strict=True) if data]
    if not there:
        return None
    if container_of(there[0][1]) is not None:
        return Gallery(column=name, waves=tuple((label, _wave(data)) for label, data in there))
    return Gallery(column=name, pictures=tuple((label, thumbnail(data)) for label, data in there))


def _wave(data: bytes) -> Wave:
    try:
        return waveform(data)
    except DatapipeError as error:
        return Wave(remark=error.got)


def _label(taken: pa.Table, row: int) -> str:
    """What a picture is called: its label, its text, or its path."""
    for name in ("label", "text", "path", "row_id"):
        if name in taken.column_names and (value := taken.column(name)[row].as_py()) is not None:
            return str(value)[:80]
    return ""


def _said(value: Any) -> str:
    """A value as text, cut."""
    if value is None:
        return "null"
    if isinstance(value, list):
        more = f", … ({len(value):,})" if len(value) > _ELEMENTS else ""
        return "[" + ", ".join(_said(each)[:80] for each in value[:_ELEMENTS]) + more + "]"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = str(value)
    return text[:_EXCERPT] + ("…" if len(text) > _EXCERPT else "")


def representation_of(dataset: Dataset) -> Representation | None:
    """Of a dataset that a run made, with its signals; None of others."""
    from dataclasses import replace

    from datapipe.preprocess.representation import representation
    from datapipe.preprocess.stored_run import stored_run

    manifest = dataset.manifest
    if manifest is None or manifest.recipe is None:
        return None
    run = replace(stored_run(dataset.store, manifest), keyring=dataset.keyring)
    return representation(run) if run.files else None
