"""HTML → main text: the step with its sandbox, beside resiliparse called directly and trafilatura.

    python benchmarks/html_to_text.py PAGES.parquet... [--rows 2000] [--rounds 5] [--peer PYTHON]

PAGES: Parquet files with a column `html`. PEER: a Python with trafilatura and pyarrow, in an environment of its own.
The contenders take turns, from an Arrow column to an Arrow column; a figure is the best round's. Each must give a text,
or say why not, for every page; resiliparse and the step must give the same texts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PEER = """
import sys, time, pyarrow.parquet as pq, trafilatura
pages = pq.read_table(sys.argv[1]).column("html").to_pylist()
trafilatura.extract(pages[0])
start = time.perf_counter()
done = sum(trafilatura.extract(page) is not None for page in pages)
print(len(pages) / (time.perf_counter() - start), done, trafilatura.__version__)
"""


def main() -> None:
    """Measure, and print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", help="a Python with trafilatura")
    args = parser.parse_args()
    table = pa.concat_tables([pq.read_table(path, columns=["html"]) for path in args.pages]).slice(0, args.rows)
    batches = cut(table)
    size = table.nbytes
    count = table.num_rows
    print(f"{count:,} pages, {size / 1e6:.1f} MB, mean {size / count / 1e3:.1f} kB; load {os.getloadavg()[0]:.1f}")
    seconds: dict[str, list[float]] = {"alone": [], "step": []}
    texts: dict[str, list[str | None]] = {}
    for _ in range(args.rounds):
        for name, contender in (("alone", alone), ("step", stepped)):
            start = time.perf_counter()
            found = contender(batches)
            seconds[name].append(time.perf_counter() - start)
            texts[name] = [text for column in found for text in column.to_pylist()]
    same = sum(a == b for a, b in zip(texts["alone"], texts["step"], strict=True))
    print(f"the same text for {same:,} of {count:,} pages")
    direct, step = min(seconds["alone"]), min(seconds["step"])
    median = statistics.median(a / b for a, b in zip(seconds["alone"], seconds["step"], strict=True))
    print(f"{'contender':<34}{'docs/s':>9}{'MB/s':>8}{'ratio':>8}")
    show("resiliparse alone", count / direct, size / direct, 1.0)
    show("html_to_text, sandbox included", count / step, size / step, direct / step)
    print(f"ratio in the median round: {median:.3f}")
    if args.peer:
        some = table.slice(0, min(300, count))
        with tempfile.TemporaryDirectory() as folder:
            pq.write_table(some, Path(folder) / "pages.parquet")
            out = subprocess.run(
                [args.peer, "-c", PEER, str(Path(folder) / "pages.parquet")], capture_output=True, text=True, check=True
            ).stdout.split()
        rate = float(out[0])
        show(f"trafilatura {out[2]} ({some.num_rows} pages)", rate, rate * size / count, rate * direct / count)
        print(f"html_to_text is {count / step / rate:.1f} × trafilatura")
    else:
        print("trafilatura: not run (no --peer)")


def cut(table: pa.Table) -> list[pa.Table]:
    """Batches of 8 MiB, as a run has them."""
    text = table.column("html").cast(pa.large_string()).combine_chunks()
    batches, start, held = [], 0, 0
    for end, length in enumerate(pc.binary_length(text).to_pylist(), 1):
        held += length
        if held < 8 << 20 and end < len(text):
            continue
        n = end - start
        columns = {"row_id": [str(i) for i in range(n)], "media_type": ["text/html"] * n}
        batches.append(pa.table({**columns, "text": text.slice(start, n)}))
        start, held = end, 0
    return batches


def alone(batches: list[pa.Table]) -> list[pa.Array]:
    """Resiliparse, called for page after page, from an Arrow column to an Arrow column."""
    from resiliparse.extract.html2text import extract_plain_text

    return [
        pa.array(
            [
                extract_plain_text(page, main_content=True, list_bullets=True, alt_texts=False, links=False)
                for page in batch.column("text").to_pylist()
            ],
            pa.large_string(),
        )
        for batch in batches
    ]


def stepped(batches: list[pa.Table]) -> list[pa.ChunkedArray]:
    """The step, the same way."""
    from datapipe.steps import Keys, bind

    step = bind("html_to_text")
    return [step(batch, Keys()).column("text") for batch in batches]


def show(name: str, docs: float, size: float, ratio: float) -> None:
    """A line of the table."""
    print(f"{name:<34}{docs:>9,.0f}{size / 1e6:>8.1f}{ratio:>8.3f}")


if __name__ == "__main__":
    sys.exit(main())
