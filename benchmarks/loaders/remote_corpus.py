"""What the remote benchmark reads: packed tokens and documents, in the forms that each loader wants.

What enters: a folder that a slow store serves. What leaves: a corpus of tokens (50,000 rows of 2,048 int32: Arrow IPC,
Parquet, tar) or documents (200,000: zstd Parquet, tar), and how a delivered batch is looked at. Invariant: row i begins
with i, so that deliveries can be told apart, and a checksum tells a row that was changed.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LENGTH = 2048
SHARDS = 4
GROUP = 512
TAR_ROWS = 2000


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Attributes: rows, and their checksum; folder: what lies in it lies in the store by the same name."""

    rows: int
    folder: Path
    total: int
    column: str

    def files(self, form: str) -> list[Path]:
        """The files of a form: "arrow", "parquet" or "tar"."""
        return sorted((self.folder / form).glob(f"*.{form}"))


def make_tokens(folder: Path, quick: bool) -> Corpus:
    """Write what is not there yet. The last file to be written marks the corpus as whole."""
    rows = 2000 if quick else 50_000
    folder = folder / f"remote-tokens-{rows}x{LENGTH}-v1"
    done = folder / "sum.txt"
    if not done.exists():
        for form in ("arrow", "parquet", "tar"):
            (folder / form).mkdir(parents=True, exist_ok=True)
        rng, total = np.random.default_rng(0), 0
        for shard in range(SHARDS):
            ids = np.arange(shard * rows // SHARDS, (shard + 1) * rows // SHARDS)
            tokens = rng.integers(0, 50_257, (len(ids), LENGTH), np.int32)
            tokens[:, 0] = ids
            total += int(tokens.sum(dtype=np.int64))
            table = pa.table({"tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens.ravel()), LENGTH)})
            with pa.ipc.new_file(str(folder / "arrow" / f"{shard}.arrow"), table.schema) as writer:
                writer.write_table(table, max_chunksize=GROUP)
            # Tokens at random do not shrink: what is measured is reading, not zstd.
            pq.write_table(
                table, folder / "parquet" / f"{shard}.parquet", row_group_size=GROUP, compression="none",
                use_dictionary=False,
            )  # fmt: skip
            write_tars(folder / "tar", shard, ((int(row[0]), row.tobytes()) for row in tokens))
        done.write_text(str(total))
    return Corpus(rows=rows, folder=folder, total=int(done.read_text()), column="tokens")


def make_documents(folder: Path, quick: bool) -> Corpus:
    """As tokens. The words are at random, of 4 or 5 letters and digits: zstd leaves 1.5 kB of 2.6."""
    rows = 2000 if quick else 200_000
    folder = folder / f"remote-documents-{rows}-v1"
    done = folder / "sum.txt"
    if not done.exists():
        for form in ("parquet", "tar"):
            (folder / form).mkdir(parents=True, exist_ok=True)
        rng, total = np.random.default_rng(0), 0
        for shard in range(SHARDS):
            ids = range(shard * rows // SHARDS, (shard + 1) * rows // SHARDS)
            words = np.array([f"{word:x}{'etaoin'[word % 6]}" for word in rng.integers(0, 1 << 16, 20_000)])
            counts = rng.integers(100, 900, len(ids))
            texts = [
                f"{at:08d} {' '.join(words[rng.integers(0, len(words), n)])}" for at, n in zip(ids, counts, strict=True)
            ]
            encoded = [text.encode() for text in texts]
            total += sum(map(zlib.crc32, encoded))
            path = folder / "parquet" / f"{shard}.parquet"
            pq.write_table(pa.table({"text": texts}), path, row_group_size=1000, compression="zstd")
            write_tars(folder / "tar", shard, zip(ids, encoded, strict=True))
        done.write_text(str(total))
    return Corpus(rows=rows, folder=folder, total=int(done.read_text()), column="text")


def write_tars(folder: Path, shard: int, rows: Iterable[tuple[int, bytes]]) -> None:
    """Rows as WebDataset wants them: a member each, some thousand to a file."""
    tar = None
    for place, (number, data) in enumerate(rows):
        if place % TAR_ROWS == 0:
            if tar is not None:
                tar.close()
            tar = tarfile.open(folder / f"{shard}-{place // TAR_ROWS:03d}.tar", "w")  # noqa: SIM115  (closed below)
        assert tar is not None
        member = tarfile.TarInfo(f"{number:09d}.bin")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    if tar is not None:
        tar.close()


def look_at_tokens(batch: Any) -> tuple[np.ndarray, int]:
    """Of int64 [n, 2048], or of a whole file's bytes."""
    if isinstance(batch, memoryview):
        rows = tokens_of(read_whole(batch))
    else:
        rows = np.asarray(batch)
        if rows.dtype != np.int64 or rows.ndim != 2:
            raise ValueError(f"delivered {rows.dtype} {rows.shape}")
    return rows[:, 0], int(rows.sum(dtype=np.int64))


def look_at_documents(batch: Any) -> tuple[np.ndarray, int]:
    """Of a list of str, or of a whole file's bytes."""
    if isinstance(batch, memoryview):
        batch = read_whole(batch).column("text").to_pylist()
    if not all(type(text) is str for text in batch):
        raise ValueError("delivered something other than strings")
    ids = np.array([int(text[:8]) for text in batch], np.int64)
    return ids, sum(zlib.crc32(text.encode()) for text in batch)


def read_whole(data: memoryview) -> pa.Table:
    if bytes(data[:4]) == b"PAR1":
        return pq.read_table(pa.BufferReader(data))
    return pa.ipc.open_file(pa.BufferReader(data)).read_all()


def tokens_of(table: pa.Table) -> np.ndarray:
    """int32 [n, 2048]."""
    column = table.column("tokens").combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    return column.flatten().to_numpy().reshape(-1, LENGTH)
