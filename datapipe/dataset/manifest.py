"""The manifest: the one file that makes a folder of shards a dataset.

What enters: JSON bytes from a disk or bucket that nobody vouches for. What leaves: frozen, validated models.
Invariant: a manifest that loads names only paths inside its own folder, its counts are non-negative and agree with each
other, and its fingerprint is that of the content it lists. Nothing is ever unpickled.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from datapipe.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

MANIFEST_NAME: Final = "manifest.json"
FORMAT_VERSION: Final = 1
MAX_MANIFEST_BYTES: Final = 1 << 30
"""10^6 row groups need about 60 MB; a "manifest" beyond this is refused before it is read."""


def safe_path(path: str) -> str:
    """The path itself if it stays inside the folder it is relative to; else ValueError."""
    parts = path.split("/")
    if not path or path.startswith("/") or ".." in parts or "" in parts or "." in parts:
        raise ValueError(f"path {path!r} is not a plain relative path inside the dataset")
    if "\\" in path or "\0" in path or ":" in parts[0]:
        raise ValueError(f"path {path!r} holds a backslash, a NUL or a drive or scheme")
    return path


Path = Annotated[str, AfterValidator(safe_path)]
Count = Annotated[int, Field(ge=0, lt=1 << 62)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Checksum(_Model):
    """A digest and the algorithm it was made with."""

    algorithm: Literal["xxh3_128"] = "xxh3_128"
    value: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class RowGroups(_Model):
    """A shard's row groups, column by column, so that 10^5 of them load fast.

    `offset` is where a row group's bytes begin in the file, `bytes` how many are stored, `uncompressed` how many
    they are before compression, `tokens` the sum of the shard's `n_tokens` column (None where it has none).
    """

    rows: tuple[Count, ...]
    offset: tuple[Count, ...]
    bytes: tuple[Count, ...]
    uncompressed: tuple[Count, ...]
    tokens: tuple[Count, ...] | None = None

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        lengths = {len(self.rows), len(self.offset), len(self.bytes), len(self.uncompressed)}
        if self.tokens is not None:
            lengths.add(len(self.tokens))
        if len(lengths) != 1:
            raise ValueError("the row group lists differ in length")
        return self

    def __len__(self) -> int:
        return len(self.rows)


class LedgerEntry(_Model):
    """Contract 7 for one split of the input: rows (documents) in = out + dropped + duplicates + quarantined.

    Where a step moved rows between splits: in + moved_in = out + moved_out + dropped + duplicates + quarantined.
    `out` counts documents, also where they were packed into fewer rows; `shard` is where they went (None: none were
    left).
    """

    split: Count
    documents_in: Count
    out: Count
    dropped: dict[str, Count] = Field(default_factory=dict)
    duplicates: Count = 0
    quarantined: dict[str, Count] = Field(default_factory=dict)
    moved_in: Count = 0
    moved_out: Count = 0
    shard: Path | None = None

    @property
    def unaccounted(self) -> int:
        """Rows in minus every row accounted for: 0, or the ledger does not add up."""
        gone = sum(self.dropped.values()) + self.duplicates + sum(self.quarantined.values())
        return self.documents_in + self.moved_in - self.out - self.moved_out - gone


class ShardEntry(_Model):
    """One file of the dataset: `documents` is how many input documents its rows hold (rows, unless packed)."""

    path: Path
    format: Literal["parquet", "arrow"]
    rows: Count
    bytes: Count
    checksum: Checksum
    row_groups: RowGroups
    documents: Count | None = None
    content: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    """Of a shard with encrypted columns, the keyed digest of its rows (`encryption.ContentDigest`)."""

    @model_validator(mode="after")
    def _rows_add_up(self) -> Self:
        if sum(self.row_groups.rows) != self.rows:
            raise ValueError(
                f"{self.path}: the row groups hold {sum(self.row_groups.rows)} rows, the shard {self.rows}"
            )
        return self


class FileEntry(_Model):
    """Another file that belongs to the dataset (a tokenizer)."""

    path: Path
    bytes: Count
    checksum: Checksum
    size: Count = 0
    """For a vocabulary: how many tokens it has."""


class PieceEntry(_Model):
    """A shard as it was first written, of a dataset whose small shards were merged since: see `Manifest.pieces`."""

    path: Path
    rows: Count
    checksum: Checksum
    documents: Count | None = None
    content: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


class EncryptionEntry(_Model):
    """Which columns of the shards are encrypted, and by keys of which names; no key, and not where keys come from."""

    columns: tuple[str, ...]
    footer: Literal["plain", "encrypted"]
    column_key: str
    footer_key: str
    secret: str | None = None
    """What digests of rows are keyed by, wrapped by the footer's key; None where that key gives it."""


class IndexEntry(_Model):
    """What later deliveries are compared with, of one split: `name` says which step collected it, and what."""

    name: str
    split: Count
    file: FileEntry


class FieldEntry(_Model):
    """A column, for people: the Arrow schema itself is in `schema`."""

    name: str
    type: str
    nullable: bool


class Manifest(_Model):
    """What a dataset is. See the module for the invariant, `README` for the layout."""

    format: Literal["datapipe"] = "datapipe"
    version: int = FORMAT_VERSION
    fingerprint: Annotated[str, Field(pattern=r"^dp1-[0-9a-f]{32}$")]
    arrow_schema: str
    """The Arrow schema, IPC-encoded, base64."""
    fields: tuple[FieldEntry, ...]
    shards: tuple[ShardEntry, ...]
    vocabulary: FileEntry | None = None
    statistics: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] | None = None
    recipe_fingerprint: str | None = None
    ledger: tuple[LedgerEntry, ...] = ()
    parent: str | None = None
    """The fingerprint of the snapshot before; None for the first."""
    snapshot: Count = 0
    """0, and one more for each delivery that was appended."""
    sources: tuple[FileEntry, ...] = ()
    """The input files of each snapshot: JSON, [name, bytes, probe] of each."""
    index: tuple[IndexEntry, ...] = ()
    encryption: EncryptionEntry | None = None
    pieces: tuple[PieceEntry, ...] = ()
    """Where shards were merged: what they were merged from, in order, all of them. The fingerprint is of these."""

    @property
    def parts(self) -> tuple[PieceEntry, ...] | tuple[ShardEntry, ...]:
        """The shards as they were first written: what the fingerprint is made of, and what the ledger names."""
        return self.pieces or self.shards

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of every shard."""
        return decode_schema(self.arrow_schema)

    @property
    def rows(self) -> int:
        """Rows in all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def tokens(self) -> int | None:
        """Tokens in all shards, or None where they have no `n_tokens` column."""
        counts = [shard.row_groups.tokens for shard in self.shards]
        return None if not counts or None in counts else sum(sum(c) for c in counts if c is not None)

    def total(self) -> LedgerEntry:
        """The whole run's ledger: the sum over splits, reasons sorted by name."""
        dropped: dict[str, int] = {}
        quarantined: dict[str, int] = {}
        for entry in self.ledger:
            for into, counts in ((dropped, entry.dropped), (quarantined, entry.quarantined)):
                for reason, n in counts.items():
                    into[reason] = into.get(reason, 0) + n
        return LedgerEntry(
            split=len(self.ledger),
            documents_in=sum(e.documents_in for e in self.ledger),
            out=sum(e.out for e in self.ledger),
            dropped=dict(sorted(dropped.items())),
            duplicates=sum(e.duplicates for e in self.ledger),
            quarantined=dict(sorted(quarantined.items())),
            moved_in=sum(e.moved_in for e in self.ledger),
            moved_out=sum(e.moved_out for e in self.ledger),
        )

    def to_json(self) -> bytes:
        """Canonical bytes: the same manifest always gives the same file. An entry of a list takes one line."""
        plain = self.model_dump(mode="json")
        # What only encrypted datasets have is left out of the others: older releases read those.
        for entry in (plain, *plain["shards"], *plain["pieces"]):
            for name in ("encryption", "content"):
                if name in entry and entry[name] is None:
                    del entry[name]
        # Not `json.dumps(indent=…)`, whose encoder is in Python: nine tenths of what larger corpora cost an append.
        lines = []
        for name, value in sorted(plain.items()):
            text = _dumps(value)
            if isinstance(value, list) and value and isinstance(value[0], dict):
                text = "[\n  " + ",\n  ".join(map(_dumps, value)) + "\n ]"
            lines.append(f" {_dumps(name)}: {text}")
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


_dumps: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode
"""One encoder, where `json.dumps` makes one for each call: half of what 10^5 entries take."""


def encode_schema(schema: pa.Schema) -> str:
    """The schema as base64 of its IPC message."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def decode_schema(text: str) -> pa.Schema:
    """The inverse of `encode_schema`; ManifestError where it is not one."""
    import pyarrow as pa

    try:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))
    except (ValueError, pa.ArrowException, OSError) as error:
        raise ManifestError(
            f"the manifest's Arrow schema cannot be read ({error})",
            fix="restore manifest.json from where it was copied, or run the preprocessing again",
        ) from None


def content_fingerprint(schema: pa.Schema, shards: tuple[ShardEntry, ...] | tuple[PieceEntry, ...]) -> str:
    """The name of the content: schema, then rows and checksum of each shard in order. Names and places do not enter.

    Of a shard with encrypted columns the keyed digest of its rows stands for the checksum: the same rows are never
    stored as the same bytes twice.
    """
    import xxhash

    digest = xxhash.xxh3_128(schema.remove_metadata().serialize().to_pybytes())
    for shard in shards:
        digest.update(f"{shard.rows}:{shard.content or shard.checksum.value};".encode())
    return f"dp1-{digest.hexdigest()}"


def fields_of(schema: pa.Schema) -> tuple[FieldEntry, ...]:
    """The schema's columns, for people."""
    return tuple(FieldEntry(name=f.name, type=str(f.type), nullable=f.nullable) for f in schema)


def build_manifest(schema: pa.Schema, shards: tuple[ShardEntry, ...], **rest: Any) -> Manifest:
    """A manifest for these shards; `rest` gives the further fields (vocabulary, recipe, ledger, …)."""
    return Manifest(
        fingerprint=content_fingerprint(schema, rest.get("pieces") or shards),
        arrow_schema=encode_schema(schema),
        fields=fields_of(schema),
        shards=shards,
        **rest,
    )


_FIX: Final = "restore manifest.json from where it was copied, or run the preprocessing again"


def _check_kind(data: bytes, where: str) -> None:
    """Refuse what is not JSON, or another format's or version's."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not JSON ({error})", expected="a datapipe manifest", fix=_FIX) from None
    if not isinstance(raw, dict) or raw.get("format") != "datapipe":
        raise ManifestError(f"{where}: not a datapipe manifest", expected='"format": "datapipe"', fix=_FIX)
    if (version := raw.get("version")) != FORMAT_VERSION:
        raise ManifestError(
            f"{where}: format version {version!r}",
            expected=f"version {FORMAT_VERSION}",
            fix="read it with the datapipe release that wrote it",
        )


def parse_manifest(data: bytes, *, where: str) -> Manifest:
    """Validate manifest bytes.

    Raises:
        ManifestError: not JSON, of another format or version, a field missing or wrong, a path that leaves the
        dataset, counts
            that do not add up, or a fingerprint that is not the content's.
    """
    fix = _FIX
    try:
        manifest = Manifest.model_validate_json(data)
        if manifest.version != FORMAT_VERSION or not {"format", "version"} <= manifest.model_fields_set:
            _check_kind(data, where)
    except ValidationError as error:
        # Only now, since it takes as long again as the models: what is no manifest at all is told so.
        _check_kind(data, where)
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ManifestError(
            f"{where}: {place}: {first['msg']} ({error.error_count()} faults)",
            expected="a valid manifest",
            fix=fix,
        ) from None
    if len({shard.path for shard in manifest.shards}) != len(manifest.shards):
        raise ManifestError(f"{where}: a shard is listed twice", expected="each path once", fix=fix)
    if manifest.pieces and not _merged(manifest):
        raise ManifestError(
            f"{where}: its pieces are not what its shards were merged from",
            expected="whole pieces in each shard, of the same rows",
            fix=fix,
        )
    found = content_fingerprint(manifest.schema, manifest.parts)
    if found != manifest.fingerprint:
        raise ManifestError(
            f"{where}: fingerprint {manifest.fingerprint}", expected=f"{found}, from its shards", fix=fix
        )
    return manifest


def pieces_by_shard(manifest: Manifest) -> list[list[PieceEntry | ShardEntry]] | None:
    """Of each shard the pieces that it holds, in order; None where they do not add up to it."""
    found: list[list[PieceEntry | ShardEntry]] = []
    parts: Iterator[PieceEntry | ShardEntry] = iter(manifest.parts)
    for shard in manifest.shards:
        mine: list[PieceEntry | ShardEntry] = []
        rows = 0
        while rows < shard.rows and (part := next(parts, None)) is not None:
            mine.append(part)
            rows += part.rows
        if rows != shard.rows:
            return None
        found.append(mine)
    return found if next(parts, None) is None else None


def _merged(manifest: Manifest) -> bool:
    """Whether the pieces add up to the shards: rows, and documents where they are counted."""
    by_shard = pieces_by_shard(manifest)
    if by_shard is None or len({piece.path for piece in manifest.pieces}) != len(manifest.pieces):
        return False
    return all(
        (shard.documents is None) == any(piece.documents is None for piece in mine)
        and (shard.documents is None or shard.documents == sum(piece.documents or 0 for piece in mine))
        for shard, mine in zip(manifest.shards, by_shard, strict=True)
    )
