"""HTML → main text: the step with its sandbox, beside resiliparse called directly and trafilatura.

    python benchmarks/html_to_text.py PAGES.parquet... [--rows 2000] [--peer PYTHON]

PAGES: Parquet files with a column `html`. PEER: a Python with trafilatura and pyarrow, in an environment of its own.
The contenders take turns; a contender's figure is the best of three. Each must give a text, or say why not, for every
page; resiliparse and the step must give the same texts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
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
    parser.add_argument("--peer", help="a Python with trafilatura")
    args = parser.parse_args()
    table = pa.concat_tables([pq.read_table(path, columns=["html"]) for path in args.pages]).slice(0, args.rows)
    pages = table.column("html").to_pylist()
    size = sum(len(page.encode()) for page in pages)
    print(
        f"{len(pages):,} pages, {size / 1e6:.1f} MB, mean {size / len(pages) / 1e3:.1f} kB; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    direct, direct_texts = best(lambda: alone(pages))
    step, step_texts = best(lambda: stepped(pages))
    same = sum(a == b for a, b in zip(direct_texts, step_texts, strict=True))
    print(f"the same text for {same:,} of {len(pages):,} pages")
    print(f"{'contender':<34}{'docs/s':>9}{'MB/s':>8}{'ratio':>8}")
    show("resiliparse alone", len(pages) / direct, size / direct, 1.0)
    show("html_to_text, sandbox included", len(pages) / step, size / step, direct / step)
    if args.peer:
        some = table.slice(0, min(300, len(pages)))
        with tempfile.TemporaryDirectory() as folder:
            pq.write_table(some, Path(folder) / "pages.parquet")
            out = subprocess.run(
                [args.peer, "-c", PEER, str(Path(folder) / "pages.parquet")], capture_output=True, text=True, check=True
            ).stdout.split()
        rate = float(out[0])
        show(
            f"trafilatura {out[2]} ({some.num_rows} pages)", rate, rate * size / len(pages), rate * direct / len(pages)
        )
        print(f"html_to_text is {len(pages) / step / rate:.1f} × trafilatura")
    else:
        print("trafilatura: not run (no --peer)")


def alone(pages: list[str]) -> list[str | None]:
    """Resiliparse, called for page after page."""
    from resiliparse.extract.html2text import extract_plain_text

    return [
        extract_plain_text(page, main_content=True, list_bullets=True, alt_texts=False, links=False) for page in pages
    ]


def stepped(pages: list[str]) -> list[str | None]:
    """The step, in batches of 8 MiB as a run has them."""
    from datapipe.steps import Keys, bind

    step = bind("html_to_text")
    found: list[str | None] = []
    start = held = 0
    for end, page in enumerate(pages, 1):
        held += len(page)
        if held < 8 << 20 and end < len(pages):
            continue
        n = end - start
        table = pa.table(
            {"row_id": [str(i) for i in range(n)], "media_type": ["text/html"] * n, "text": pages[start:end]}
        )
        found += step(table, Keys()).column("text").to_pylist()
        start, held = end, 0
    return found


def best(run: object) -> tuple[float, list[str | None]]:
    """Seconds of the fastest of three, and what it gave."""
    assert callable(run)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        texts = run()
        seconds.append(time.perf_counter() - start)
    return min(seconds), texts


def show(name: str, docs: float, size: float, ratio: float) -> None:
    """A line of the table."""
    print(f"{name:<34}{docs:>9,.0f}{size / 1e6:>8.1f}{ratio:>8.3f}")


if __name__ == "__main__":
    sys.exit(main())
