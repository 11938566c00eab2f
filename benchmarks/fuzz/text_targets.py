"""Targets: what reads lines, records, documents and compressed streams.

The promise of every corpus reader, whatever the bytes: a piece ends in batches, each of them a valid Arrow table, every
row once, what cannot be read quarantined for a reason of the list. Lines give the same rows however their file is cut.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import zstandard
from mutations import json_mutation, lines_mutation, plain_mutation, within
from place import written
from target import Target

from datapipe.corpus import (
    FILE_REASONS,
    ROW_REASONS,
    Piece,
    ReadOptions,
    SourceFile,
    format_of,
    plan_splits,
    read_piece,
)
from datapipe.corpus.discovery import discover

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

DOCUMENTS = ReadOptions(columns=("n",))
RECORDS = ReadOptions(text_column=None, columns=("*",))
BY_ID = ReadOptions(id_column="id", max_batch_bytes=512, max_row_bytes=4096)
_REASONS = {*FILE_REASONS, *ROW_REASONS}


def read_file(path: Path, options: ReadOptions, *, target_bytes: int | None = None) -> list[tuple[str, str]]:
    """(row id, reason or "") of every row that a file gives; the checks are of all readers."""
    if target_bytes is None:
        stat = path.stat()
        etag = f"{stat.st_size:x}-{stat.st_mtime_ns:x}-{stat.st_ino:x}"
        file = SourceFile(
            root=str(path.parent), path=path.name, name=path.name, format=str(format_of(path.name)),
            size=stat.st_size, etag=etag,
        )  # fmt: skip
        pieces = [Piece(file=file)]
    else:
        found = discover([str(path)])
        pieces = [piece for split in plan_splits(found.files, target_bytes=target_bytes) for piece in split.pieces]
    rows: list[tuple[str, str]] = []
    for piece in pieces:
        for batch in read_piece(piece, options=options):
            batch.table.validate(full=True)
            ids = batch.table["row_id"].to_pylist()
            assert None not in ids, "a row has no id"
            assert len(ids) + len(batch.quarantined) > 0, "a batch is empty"
            rows += [(str(row), "") for row in ids]
            for bad in batch.quarantined:
                assert bad.reason in _REASONS, f"{bad.reason} is no reason of a reader"
                assert len(bad.excerpt.encode()) <= 800, "an excerpt is a document"
                rows.append((bad.row_id, bad.reason))
    return rows


def reader(name: str, *options: ReadOptions, cut: bool = False, unique: bool = True) -> Callable[[bytes], object]:
    """A check of files of one name's format."""

    def check(data: bytes) -> None:
        path = written(name, data)
        for each in options:
            rows = read_file(path, each)
            if unique and each.id_column is None:
                # What a file's fault ends stands under the place that reading had come to, which may be a row's.
                ids = [row for row, reason in rows if reason not in FILE_REASONS]
                assert len(set(ids)) == len(ids), "two rows have one id"
        if cut and len(data) > 1:
            whole = sorted(read_file(path, options[0]))
            parts = sorted(read_file(path, options[0], target_bytes=max(1, len(data) // 3)))
            assert whole == parts, "the rows depend on how the file was cut"

    return check


def _rows() -> list[dict[str, Any]]:
    texts = ["one line", "zwei Zeilen\nüber ß", "", "三 行 𝄞", 'a "quoted", text', "x" * 700]
    return [{"id": f"r{i}", "text": text, "n": [i, None, {"a": 1.5}]} for i, text in enumerate(texts)]


def _jsonl() -> list[bytes]:
    lines = [json.dumps(row, ensure_ascii=i % 2 == 0).encode() for i, row in enumerate(_rows())]
    return [b"\n".join(lines) + b"\n", b"\r\n".join(lines), b"\xef\xbb\xbf" + lines[0], b""]


def _json() -> list[bytes]:
    return [json.dumps(_rows()).encode(), json.dumps({"data": _rows()}, indent=1).encode(), *_jsonl()[:1], b"[]"]


def _csv() -> list[bytes]:
    return [
        b'id,text,n\r\n1,"a, ""b""\r\nc",2\r\n2,plain,3\r\n3,,\r\n', b"text\tn\nx\ty\n", b"text,n,text\n1,2,3\n",
        "id,text,n\n".encode("utf-16"), b"",
    ]  # fmt: skip


def _lines_of_json(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    if chance.random() < 0.5:
        lines[at] = json_mutation(lines[at], chance)
        return b"\n".join(lines)
    return lines_mutation(data, chance)


JSONL = Target(seeds=_jsonl, check=reader("a.jsonl", DOCUMENTS, RECORDS, BY_ID, cut=True), mutate=_lines_of_json)
JSON = Target(seeds=_json, check=reader("a.json", DOCUMENTS, RECORDS, BY_ID), mutate=json_mutation)


def _read_csv(data: bytes) -> None:
    reader("a.csv", DOCUMENTS, RECORDS, BY_ID)(data)
    reader("a.tsv", RECORDS)(data)


CSV = Target(seeds=_csv, check=_read_csv, mutate=lines_mutation)


def _gz_seeds() -> list[bytes]:
    plain = _jsonl()[0]
    bomb = gzip.compress(bytes(4 << 20), 9)
    return [gzip.compress(plain), gzip.compress(plain[:50]) + gzip.compress(plain[50:]) + bytes(100), bomb]


def _pack_gz(data: bytes) -> bytes:
    return gzip.compress(data, 6)


GZIP = Target(
    seeds=_gz_seeds,
    check=reader("a.jsonl.gz", DOCUMENTS, RECORDS),
    mutate=within(lambda data: zlib.decompressobj(31).decompress(data, 1 << 18), _pack_gz, _lines_of_json, share=0.4),
)


def _zst_seeds() -> list[bytes]:
    plain = _jsonl()[0]
    wide = zstandard.ZstdCompressor(level=3, compression_params=None).compress(plain)
    stream = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress(plain)
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(4 << 20))
    return [wide, stream, wide + stream, bomb]


ZSTD = Target(
    seeds=_zst_seeds,
    check=reader("a.jsonl.zst", DOCUMENTS, RECORDS),
    mutate=within(
        lambda data: zstandard.ZstdDecompressor().stream_reader(data).read(1 << 18), zstandard.compress, _lines_of_json,
        share=0.4,
    ),
)  # fmt: skip


def _document_seeds() -> list[bytes]:
    return [
        "plain text, näturlich\n".encode(), "näturlich".encode("latin-1"), "text".encode("utf-16"), b"\xff\xfe\0\0a\0",
        b'<?xml version="1.0" encoding="shift_jis"?><a>\x83e</a>', b'<meta charset="windows-1251"><p>\xcf\xf0\xe8',
        b'<meta http-equiv="Content-Type" content="text/html; charset=gb18030">\x810\x810',
    ]  # fmt: skip


def _read_document(data: bytes) -> None:
    """A file that is one document, then its bytes decoded by the step, as each kind of text."""
    for name in ("a.txt", "a.html"):
        rows = read_file(written(name, data), ReadOptions())
        assert len(rows) == 1, "one file is one document"


def _decode(data: bytes) -> None:
    """The step decodes any bytes, with any charset that they or their media type declare, to text that UTF-8 holds."""
    import pyarrow as pa

    from datapipe.steps.decode import DecodeOptions, decode, decode_bytes

    head, _, rest = data.partition(b"\n")
    for media_type in ("text/html", "text/plain", head.decode("latin-1")):
        text, bad = decode_bytes(rest, media_type)
        text.encode()
        assert 0 <= bad <= len(rest) + 1
    table = pa.table({
        "row_id": ["a", "b"], "media_type": ["text/html", "text/plain"],
        "raw": pa.array([rest, data], pa.large_binary()),
    })  # fmt: skip
    decode(table, _no_keys(), options=DecodeOptions()).validate(full=True)


def _no_keys() -> Any:
    return None


def _charset_seeds() -> list[bytes]:
    heads = [b"text/html; charset=utf-7", b"text/plain; charset=idna", b"text/html", b"a/b;charset=unicode_escape"]
    return [head + b"\n" + data for head in heads for data in _document_seeds()]


DOCUMENT = Target(seeds=_document_seeds, check=_read_document)
CHARSET = Target(seeds=_charset_seeds, check=_decode)

_PAGE = """<!DOCTYPE html><html lang=en><head><meta charset=utf-8></head><body><nav><a href=/>home</a>
</nav><main><h1>Head</h1><p>Some &amp; text &#x41; <b>bold</b> <a href="http://x/y?a=b">link</a></p><ul><li>one<li>two</ul>
<table><tr><td>1<td>2</table><pre>  code\n  more</pre><img alt="a picture" src=x><script>no</script><svg><p>x
</svg><template><p>t</template><form><input><select><option>o</select></form></main><footer>end</footer></body></html>"""


def _extract(data: bytes) -> None:
    """Any page gives text that UTF-8 holds, or its reason; the process that reads it is another's business."""
    from datapipe.steps.html_sandbox import sandbox

    text = data.decode("utf-8", "replace").encode()
    for wanted in (0, 15):
        for answer in sandbox(5.0, 512 << 20).extract([memoryview(text)], wanted):
            if isinstance(answer, bytes):
                answer.decode()
            else:
                assert answer in {"html_timeout", "html_out_of_memory", "html_crashed", "html_failed"}, answer


HTML = Target(seeds=lambda: [_PAGE.encode(), b"<p>x", b"<div>" * 30 + b"deep"], check=_extract, mutate=plain_mutation)
