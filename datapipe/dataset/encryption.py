"""Which columns of a dataset are encrypted, and the digest that names rows whose stored bytes are never the same twice.

What enters: settings of a recipe; tables. What leaves: the leaves that Parquet encrypts, a keyed digest. Invariant: the
same rows under the same secret have the same digest, wherever and however often they are written; without the secret
it says nothing of them, and so it may stand in a manifest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from datapipe.dataset.keyring import Keyring

_DIGEST: Final = 16
"""Bytes: as long as the checksums beside it."""


@final
@dataclass(frozen=True, kw_only=True)
class EncryptionSettings:
    """What is encrypted, and by which keys.

    Attributes:
        columns: those whose values only who has the keys may read.
        keys: where keys come from, "module:callable" or "file.py:callable": a callable of a key's name, or a pyarrow
            KmsClient class. It is asked wherever rows are written or read: every worker must be able to load it.
        footer: "plain": who has no key still reads the other columns; "encrypted": nothing at all, the schema included.
        column_key, footer_key: names of the two master keys.
    """

    columns: tuple[str, ...] = ()
    keys: str = ""
    footer: Literal["plain", "encrypted"] = "plain"
    column_key: str = "columns"
    footer_key: str = "footer"

    def __post_init__(self) -> None:
        if not self.columns or not all(self.columns) or len(set(self.columns)) != len(self.columns):
            raise ConfigError(
                f"output.encryption.columns = {list(self.columns)}", expected="at least one column, each once"
            )
        if not all(part for part in self.keys.rpartition(":")):
            raise ConfigError(
                f"output.encryption.keys = {self.keys!r}",
                expected="where the keys come from: module:callable or file.py:callable",
                fix="write a function that takes a key's name and gives its 16, 24 or 32 bytes; never the key itself",
            )
        if not self.column_key or not self.footer_key:
            raise ConfigError(
                "a key without a name", expected="output.encryption.column_key and footer_key to name keys"
            )


@final
@dataclass(frozen=True, kw_only=True)
class Sealing:
    """What a shard is encrypted by.

    Attributes:
        secret: 32 bytes that the digest of its rows is keyed by.
    """

    settings: EncryptionSettings
    keyring: Keyring
    secret: bytes

    def __repr__(self) -> str:
        return f"Sealing({', '.join(self.settings.columns)})"

    def properties(self, schema: pa.Schema) -> Any:
        """What Parquet writes one file of this schema with.

        Raises:
            ConfigError: a column is not in it.
        """
        return self.keyring.encryption(self.settings, leaves_to_encrypt(schema, self.settings.columns))

    def digest(self) -> ContentDigest:
        """A new digest."""
        return ContentDigest(self.secret)


@final
class ContentDigest:
    """The keyed digest of a shard's rows: BLAKE2b (RFC 7693) over their Arrow IPC stream, row group by row group.

    The rows are those that Parquet gives back: what a table had that Parquet does not keep is not in it.
    """

    def __init__(self, secret: bytes) -> None:
        self._hash = hashlib.blake2b(key=secret, digest_size=_DIGEST)
        self.closed = False

    def add(self, table: pa.Table) -> None:
        """One row group's rows, each column one chunk."""
        import pyarrow as pa

        table = table.replace_schema_metadata(None).combine_chunks()
        # Joined to an empty one Arrow copies: a slice would show where it was cut.
        table = pa.concat_tables([table.schema.empty_table(), table]).combine_chunks()
        with pa.ipc.new_stream(pa.PythonFile(self, mode="w"), table.schema) as writer:
            writer.write_table(table)

    def write(self, data: Any) -> int:
        """Arrow writes here."""
        view = memoryview(data)
        self._hash.update(view)
        return view.nbytes

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        """It goes on with the next table."""

    def hexdigest(self) -> str:
        """32 hex digits."""
        return self._hash.hexdigest()


def rows_digest(path: str, keyring: Keyring, digest: ContentDigest) -> str:
    """The digest of an encrypted file's rows, read back: so it is known, too, that they can be."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, decryption_properties=keyring.decryption()) as file:
        for group in range(file.num_row_groups):
            digest.add(file.read_row_group(group))
    return digest.hexdigest()


def check_columns(columns: Sequence[str], there: Sequence[str]) -> None:
    """Refuse to encrypt a column that shards do not have.

    Raises:
        ConfigError: one is not among `there`.
    """
    missing = [name for name in columns if name not in there]
    if missing:
        raise ConfigError(
            f"output.encryption.columns names {missing[0]!r}",
            expected=f"columns of the shards: {', '.join(there)}",
            fix="carry the column along (input.columns, output.columns), or take it out of the list",
        )


def leaves_to_encrypt(schema: pa.Schema, columns: tuple[str, ...]) -> list[str]:
    """The dotted paths that Parquet gives to all leaves of these columns.

    Raises:
        ConfigError: a column is not in the schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_columns(columns, schema.names)
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table().select(list(columns)), sink)
    meta = pq.read_metadata(pa.BufferReader(sink.getvalue()))
    return [meta.schema.column(number).path for number in range(meta.num_columns)]
