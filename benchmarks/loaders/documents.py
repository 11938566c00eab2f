"""A corpus of documents: 200,000 of 2.5 kB, written as one file of bytes, as Arrow and as zstd Parquet.

What enters: a folder. What leaves: the corpus, and how a delivered batch is looked at. Invariant: each document begins
with its number, so that deliveries can be told apart; the sum of their CRCs tells one that was changed.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

SEED: Final = 0
GROUP: Final = 2000
MEAN_BYTES: Final = 2560
WORDS: Final = 20_000
TYPOGRAPHIC: Final = 4
"""One document in so many has quotes and dashes that are not ASCII, as English web text has."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    rows: int
    folder: Path
    total: int

    @property
    def shards(self) -> list[Path]:
        return sorted((self.folder / "parquet").glob("*.parquet"))

    @property
    def arrow(self) -> list[Path]:
        return sorted((self.folder / "arrow").glob("*.arrow"))

    @property
    def ends(self) -> np.ndarray:
        return np.load(self.folder / "ends.npy")

    @property
    def flat(self) -> memoryview:
        return memoryview(np.memmap(self.folder / "texts.bin", np.uint8, "r"))


def make_corpus(folder: Path, quick: bool) -> Corpus:
    """Write what is not there yet. The last file to be written marks the corpus as whole."""
    rows = 3000 if quick else 200_000
    folder = folder / f"texts-{rows}-v1"
    done = folder / "sum.txt"
    if not done.exists():
        for name in ("arrow", "parquet"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(SEED)
        # Log-normal lengths, as documents have them.
        length = np.minimum(rng.lognormal(0, 0.8, rows), 20)
        length = (length * MEAN_BYTES / length.mean()).astype(np.int64)
        bases = prose(rng)
        schema = pa.schema([("text", pa.string())])
        total, ends, at = 0, [0], 0
        shards = 4
        edges = [rows * i // shards for i in range(shards + 1)]
        with (folder / "texts.bin").open("wb") as flat:
            for shard in range(shards):
                name = f"part-{shard}"
                with (
                    pa.OSFile(str(folder / "arrow" / f"{name}.arrow"), "wb") as sink,
                    pa.ipc.new_file(sink, schema) as ipc,
                    pq.ParquetWriter(
                        folder / "parquet" / f"{name}.parquet", schema, compression="zstd", use_dictionary=False
                    ) as parquet,
                ):
                    for start in range(edges[shard], edges[shard + 1], GROUP):
                        documents = []
                        for number in range(start, min(start + GROUP, edges[shard + 1])):
                            base = bases[number % TYPOGRAPHIC == 0]
                            begin = int(rng.integers(0, len(base) - length[number]))
                            documents.append(f"{number:08d} {base[begin : begin + length[number]]}")
                        encoded = [document.encode() for document in documents]
                        total += sum(map(zlib.crc32, encoded))
                        ends += (at + np.cumsum([len(each) for each in encoded])).tolist()
                        at = ends[-1]
                        flat.write(b"".join(encoded))
                        batch = pa.record_batch([pa.array(documents, pa.string())], schema=schema)
                        ipc.write_batch(batch)
                        parquet.write_batch(batch, GROUP)
        np.save(folder / "ends.npy", np.array(ends, np.int64))
        done.write_text(str(total))
    return Corpus(rows=rows, folder=folder, total=int(done.read_text()))


def prose(rng: np.random.Generator) -> tuple[str, str]:
    """Two long texts of words as frequent as words are (Zipf); the second with quotes and dashes beyond ASCII."""
    letters = np.array(list("etaoinshrdlcumwfgypbvk"))
    words = ["".join(rng.choice(letters, n)) for n in rng.integers(2, 11, WORDS).tolist()]
    found = np.minimum(rng.zipf(1.25, 1_500_000), WORDS) - 1
    plain = [words[each] for each in found.tolist()]
    ends = rng.random(len(plain)) < 0.07
    plain = [f"{word}.\n" if end else word for word, end in zip(plain, ends.tolist(), strict=True)]
    quoted = [f"“{word}” —" if at % 60 == 0 else word for at, word in enumerate(plain)]
    return " ".join(plain), " ".join(quoted)


def look(batch: Any) -> tuple[np.ndarray, int]:
    if not all(type(document) is str for document in batch):
        raise ValueError("delivered something other than strings")
    ids = np.array([int(document[:8]) for document in batch], np.int64)
    return ids, sum(zlib.crc32(document.encode()) for document in batch)


@final
class DocumentAt:
    """Number → document, from the file of bytes; may be pickled for a process that writes another format."""

    def __init__(self, corpus: Corpus) -> None:
        self._path, self._ends = corpus.folder / "texts.bin", corpus.ends

    def __call__(self, at: int) -> str:
        with self._path.open("rb") as file:
            file.seek(int(self._ends[at]))
            return file.read(int(self._ends[at + 1] - self._ends[at])).decode()
