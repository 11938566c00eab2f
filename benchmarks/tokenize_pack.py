"""tokenize and pack beside the library's own `encode_batch_fast`, on the same texts and cores.

    python benchmarks/tokenize_pack.py CORPUS TOKENIZER [--mode concat] [--repeats 3]

The peer encodes batches of texts and reads the ids, nothing more; ours also adds the end of each document, makes Arrow
columns, and packs rows of 2,048 tokens. Prints bytes of text a second of both, and their ratio (best of the repeats,
taken in turns, so that load falls on both).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="a folder of Parquet files with a column text")
    parser.add_argument("tokenizer", help="a tokenizer.json")
    parser.add_argument("--mode", default="concat", choices=["concat", "best_fit"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1000, help="texts of the peer's batch")
    parser.add_argument("--table-mb", type=int, default=8, help="MB of text in a table of ours")
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    import pyarrow as pa
    import pyarrow.parquet as pq
    import tokenizers

    table = pa.concat_tables(pq.read_table(path, columns=["text"]) for path in sorted(options.corpus.glob("*.parquet")))
    table = pa.table({"row_id": [str(i) for i in range(table.num_rows)], "text": table["text"].cast(pa.large_string())})
    size = sum(len(text.as_py().encode()) for text in table["text"])
    print(
        f"{table.num_rows:,} documents, {size / 1e6:.1f} MB; tokenizers {tokenizers.__version__};"
        f" load {os.getloadavg()[0]:.2f}, {os.cpu_count()} CPUs"
    )
    ours, peer, alone = [], [], []
    for _ in range(options.repeats):
        seconds, ids = _peer(table, options.tokenizer, options.batch)
        peer.append(seconds)
        tokenize, pack, tokens, waste = _ours(table, options.tokenizer, options.mode, options.table_mb << 20)
        assert tokens == ids + table.num_rows, "the same tokens, and an end for each document"
        ours.append(tokenize + pack)
        alone.append(tokenize)
    print(f"encode_batch_fast  {size / 1e6 / min(peer):6.2f} MB/s  {[round(s, 2) for s in peer]} s")
    print(f"tokenize           {size / 1e6 / min(alone):6.2f} MB/s  {[round(s, 2) for s in alone]} s")
    print(f"tokenize and pack  {size / 1e6 / min(ours):6.2f} MB/s  {[round(s, 2) for s in ours]} s; {options.mode},"
          f" {waste:.3%} padding")  # fmt: skip
    print(f"ratio              {min(peer) / min(ours):6.3f}")


def _peer(table: Any, path: str, batch: int) -> tuple[float, int]:
    """(seconds, ids) of the library alone: Python strings in, ids read."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = True
    texts = table["text"].to_pylist()
    started = time.perf_counter()
    ids = 0
    for start in range(0, len(texts), batch):
        for encoding in tokenizer.encode_batch_fast(texts[start : start + batch], add_special_tokens=False):
            ids += len(encoding.ids)
    return time.perf_counter() - started, ids


def _ours(table: Any, path: str, mode: str, table_bytes: int) -> tuple[float, float, int, float]:
    """(seconds of tokenize, of pack, tokens, share of padding); Arrow in, packed Arrow out."""
    import pyarrow as pa

    from datapipe.steps import Keys, bind

    tokenize, pack = bind("tokenize", {"tokenizer": path}), bind("pack", {"mode": mode})
    keys = Keys()
    rows = max(1, table.num_rows * table_bytes // table.nbytes)
    tokenize(table.slice(0, 1), keys)  # loads the tokenizer, which the peer has loaded as well
    started = time.perf_counter()
    tokenized = pa.concat_tables(tokenize(table.slice(i, rows), keys) for i in range(0, table.num_rows, rows))
    between = time.perf_counter()
    packed = pack(tokenized, keys)
    ended = time.perf_counter()
    tokens = int(packed["n_tokens"].to_numpy().sum())
    waste = 1 - tokens / (packed.num_rows * packed["tokens"].type.list_size)
    return between - started, ended - between, tokens, waste


if __name__ == "__main__":
    main()
