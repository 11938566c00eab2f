"""The rule sets @datatrove beside datatrove itself: the same decisions, the same reasons, and how fast.

What enters: Parquet files with `text` (and `lang`, to tell English), and a Python that has datatrove 0.10 and spacy.
What leaves: for each rule set how many documents get datatrove's decision and reason, given datatrove's own lists of
words and sentences and with the native segmentation, every difference sorted by its cause; and documents per CPU
second of both, measured in this run on the same documents. Exit status 1 where a promise is not kept: 100% given the
lists, 99% of English documents without them.

    python -m venv PEER && PEER/bin/pip install datatrove==0.10.0 spacy pyarrow
    python benchmarks/conformance.py --peer PEER/bin/python --corpus FOLDER
    …  --documents 2000 --speed-documents 300      a sample, for a look
    …  --log                                       and append the tables to benchmarks/LOG.md
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.c4 import C4Options, c4_clean, c4_reasons
from datapipe.steps.english_words import LONGEST_URL
from datapipe.steps.fineweb import FineWebOptions, fineweb_reasons, fineweb_signals
from datapipe.steps.gopher_quality_datatrove import GopherQualityDatatroveOptions, gopher_reasons, gopher_signals
from datapipe.steps.gopher_repetition import GopherRepetitionOptions, repetition_reasons, repetition_signals
from datapipe.steps.segmentation import Segmentation, segment
from datapipe.steps.word_exceptions import EXCEPTIONS

HERE = Path(__file__).parent
LINE_RULES = {
    "c4": C4Options(),
    "c4_fineweb": C4Options(filter_no_terminal_punct=False),
    "c4_sentences": C4Options(filter_no_terminal_punct=False, split_paragraph=False),
}
PARAGRAPHS = C4Options(min_paragraphs=3, min_num_sentences=-1, filter_lorem_ipsum=False, filter_curly_bracket=False)
SETS = ("gopher_repetition", "gopher_quality", "fineweb", *LINE_RULES, "c4_paragraphs")
SPEED_ROWS = 1000
ONE_THREAD = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}


def corpus(folder, documents, seed):
    """Text and language of documents, a seeded sample where there are more; sorted files, rows in order."""
    tables = []
    for path in sorted(Path(folder).glob("*.parquet")):
        table = pq.read_table(path)
        lang = table["lang"] if "lang" in table.column_names else pa.nulls(len(table), pa.string())
        tables.append(pa.table({"text": table["text"].cast(pa.large_string()), "lang": lang.cast(pa.large_string())}))
    table = pa.concat_tables(tables)
    if documents and documents < len(table):
        table = table.take(np.sort(np.random.default_rng(seed).permutation(len(table))[:documents]))
    return table.combine_chunks()


def verdicts(words, counts_of=None):
    """Reason by rule set, and C4's texts; `counts_of` gives the sentences of given lines."""
    found = {
        "gopher_repetition": repetition_reasons(repetition_signals(words), GopherRepetitionOptions()).to_pylist(),
        "gopher_quality": gopher_reasons(gopher_signals(words), GopherQualityDatatroveOptions()).to_pylist(),
        "fineweb": fineweb_reasons(fineweb_signals(words, FineWebOptions()), FineWebOptions()).to_pylist(),
    }
    texts = {}
    for name, options in LINE_RULES.items():
        if words.chunk_words is None and not options.split_paragraph:
            continue  # sentences by given words have no place in the text
        text, signals, _ = c4_clean(words, options, counts_of if options.split_paragraph else None)
        found[name], texts[name] = c4_reasons(signals, options).to_pylist(), text.to_pylist()
    if words.chunk_words is not None:
        found["c4_paragraphs"] = c4_reasons(c4_clean(words, PARAGRAPHS)[1], PARAGRAPHS).to_pylist()
    return found, texts


def word_cause(text, own, theirs):
    """Why the words of a document differ from spaCy's."""
    if "IS_ALPHA" in text:
        return "the text holds IS_ALPHA, which datatrove cuts out because spaCy fails on it"
    at = next((i for i, (a, b) in enumerate(zip(own, theirs, strict=False)) if a != b), min(len(own), len(theirs)))
    here, there = (*own[at : at + 1], ""), (*theirs[at : at + 1], "")
    if here[0] in EXCEPTIONS or there[0] in EXCEPTIONS:
        return "an emoticon beside one that a space breaks ('[ :]'), which spaCy then leaves broken"
    if max(len(here[0]), len(there[0])) > LONGEST_URL:
        return f"a chunk of more than {LONGEST_URL:,} characters that spaCy takes for a URL"
    return f"NOT EXPLAINED: {own[at : at + 2]} against {theirs[at : at + 2]}"


def cause(text, reason, own, theirs):
    """Why a decision differs."""
    if reason and reason.startswith("raises"):
        return "datatrove raises (it divides by the length of an empty text); here no rule is broken"
    return "NOT EXPLAINED: the words are the same" if own == theirs else word_cause(text, own, theirs)


def compare(table, folder):
    """Counts of agreement, and differences by cause."""
    agree = {name: collections.Counter() for name in SETS}
    causes = {name: collections.Counter() for name in (*SETS, "words")}
    same_words, texts_differ, done = collections.Counter(), collections.Counter(), 0
    for path in sorted(Path(folder).glob("part-*.arrow")):
        peer = pa.ipc.open_file(path).read_all()
        part = table.slice(done, len(peer))
        done += len(peer)
        text = part["text"].combine_chunks()
        text = text if isinstance(text, pa.ChunkedArray) else pa.chunked_array([text])
        plain, english = text.to_pylist(), [lang in (None, "en") for lang in part["lang"].to_pylist()]
        counts = dict(zip(peer["lines"].combine_chunks().flatten().to_pylist(),
                          peer["counts"].combine_chunks().flatten().to_pylist(), strict=True))  # fmt: skip

        def counted(lines, counts=counts):
            # A line after one that took the document was never counted; no rule that is left asks for it.
            return np.array([counts.get(line, 0) for line in lines.to_pylist()], np.int64)

        theirs = peer["words"].combine_chunks()
        theirs = theirs.chunk(0) if isinstance(theirs, pa.ChunkedArray) else theirs
        given, given_texts = verdicts(Segmentation.from_lists(text, theirs), counted)
        native = segment(text)
        own, own_texts = verdicts(native)
        own_words, their_words = native.lists().to_pylist(), theirs.to_pylist()
        for i, (mine, other) in enumerate(zip(own_words, their_words, strict=True)):
            same_words["English" if english[i] else "other", mine == other] += 1
            if mine != other:
                causes["words"][word_cause(plain[i], mine, other)] += 1
        for name in SETS:
            reasons = peer[name].to_pylist()
            for i, reason in enumerate(reasons):
                if name == "c4_paragraphs":
                    reason = reason and "c4_too_few_paragraphs"
                raises = bool(reason) and reason.startswith("raises")
                if name in given and not raises:
                    agree[name]["given"] += 1
                    agree[name]["given, same"] += given[name][i] == reason
                    if reason is None and name in given_texts:
                        texts_differ[name, "given"] += given_texts[name][i] != peer[f"{name}_text"][i].as_py()
                kind = "English" if english[i] else "other"
                agree[name][kind] += 1
                agree[name][f"{kind}, same"] += own[name][i] == reason
                agree[name]["dropped"] += reason is not None
                if own[name][i] != reason:
                    causes[name][cause(plain[i], reason, own_words[i], their_words[i])] += 1
                elif reason is None and name in own_texts:
                    texts_differ[name, "native"] += own_texts[name][i] != peer[f"{name}_text"][i].as_py()
        print(f"\r{done:,} of {len(table):,} documents compared", end="", file=sys.stderr)
    print(file=sys.stderr)
    return agree, causes, same_words, texts_differ, done


def speed(table, *, side_by_side):
    """CPU seconds of the four steps on these documents, in this process; words are known to each thread by itself."""
    rows = pa.table({"row_id": pa.array(map(str, range(len(table))), pa.string()), "text": table["text"]})
    options = {"c4@datatrove": {"filter_no_terminal_punct": False}}
    names = ("gopher_repetition@datatrove", "gopher_quality@datatrove", "c4@datatrove", "fineweb@datatrove")
    steps = [bind(name, options.get(name)) for name in names]
    run_steps(rows.slice(0, 1), steps, Keys())
    began, kept, per_step = time.process_time(), 0, collections.Counter()
    for low in range(0, len(rows), SPEED_ROWS):
        ran = run_steps(rows.slice(low, SPEED_ROWS).combine_chunks(), steps, Keys(), side_by_side=side_by_side)
        kept += ran.table.num_rows
        for step in ran.per_step:
            per_step[step.name] += step.cpu_seconds
    return time.process_time() - began, kept, per_step


def in_a_thread(work, *args, **kwargs):
    """The outcome of work done in a thread that is new: from a cold start."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(work, *args, **kwargs).result()


def report(table, result, peer, timing):
    """The tables, as Markdown."""
    agree, causes, same_words, texts_differ, done = result
    setting = (
        f"{done:,} documents, {table.nbytes / 1e6:.0f} MB, {table['lang'].to_pylist().count('en'):,} of them English; "
        f"datatrove {peer['datatrove']}, spaCy {peer['spacy']}, Python {peer['python']}; here Python "
        f"{platform.python_version()}, polars {pl.__version__}, pyarrow {pa.__version__}, numpy {np.__version__}; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} when it ended. Same: decision and reason."
    )
    lines = [
        f"## {dt.datetime.now(dt.UTC).date()}: rule sets beside datatrove (`conformance.py`)",
        "",
        setting,
        "",
        "| rule set | dropped | given its lists, same | native, English, same | native, other languages, same |",
        "|---|---:|---:|---:|---:|",
    ]

    def rate(name, kind):
        whole, same = agree[name][kind], agree[name][f"{kind}, same"]
        return f"{same:,} of {whole:,} ({same / whole:.3%})" if whole else "–"

    lines += [
        f"| {name} | {agree[name]['dropped']:,} | {rate(name, 'given')} | {rate(name, 'English')} | "
        f"{rate(name, 'other')} |"
        for name in SETS
    ]
    words = {kind: (same_words[kind, True], same_words[kind, False]) for kind in ("English", "other")}
    lines += [
        "",
        "Documents with exactly spaCy's words: "
        + "; ".join(f"{same:,} of {same + not_:,} {kind}" for kind, (same, not_) in words.items() if same + not_)
        + f". Cleaned texts of kept documents that differ: {sum(texts_differ.values()):,}.",
        "",
        "Differences by cause: "
        + ("; ".join(f"{name}: {n} × {why}" for name in causes for why, n in causes[name].items()) or "none")
        + ".",
    ]
    if timing is not None:
        (seconds, kept, per_step), (in_turn, _, _) = timing
        n, size = peer["documents"], table["text"].slice(0, peer["documents"]).nbytes
        lines += [
            "",
            f"Speed, one core, CPU seconds, {n:,} documents of {size / n / 1e3:.1f} kB on average, cold start:",
            "",
            "| repetition, quality, C4 without the punctuation rule, FineWeb | kept | docs/s | MB/s | × datatrove |",
            "|---|---:|---:|---:|---:|",
        ]
        for name, left, spent, theirs in (
            ("here, every set on every document", kept, seconds, peer["every"]),
            ("datatrove, every set on every document", peer["kept"], peer["every"], peer["every"]),
            ("here, each set on what the ones before left", kept, in_turn, peer["pipeline"]),
            ("datatrove, each set on what the ones before left", peer["kept"], peer["pipeline"], peer["pipeline"]),
        ):
            rates = f"{n / spent:,.0f} | {size / spent / 1e6:.2f} | {theirs / spent:.1f}"
            lines.append(f"| {name} | {left:,} | {rates} |")
        lines.append(
            f"| here, every set on every document; datatrove in turn | | | | {peer['pipeline'] / seconds:.1f} |"
        )
        lines += ["", "Here, by step: " + ", ".join(f"{name} {s:.2f} s" for name, s in per_step.items()) + "."]
    return "\n".join(lines) + "\n"


def broken(result):
    """The promises that were not kept."""
    agree, causes, *_ = result
    found = [f"{name}: not 100% given the lists" for name in SETS
             if agree[name]["given"] != agree[name]["given, same"]]  # fmt: skip
    found += [f"{name}: below 99% of English documents" for name in SETS
              if agree[name]["English, same"] < 0.99 * agree[name]["English"]]  # fmt: skip
    return found + [f"{name}: {why}" for name in causes for why in causes[name] if why.startswith("NOT EXPLAINED")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="a Python that has datatrove 0.10 and spacy")
    parser.add_argument("--corpus", required=True, help="folder of Parquet files with a column text")
    parser.add_argument("--documents", type=int, default=0, help="a sample of so many; 0: all")
    parser.add_argument("--speed-documents", type=int, default=1500, help="how many are timed; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", help="folder for datatrove's lists, used again for the same corpus; a temporary one if not given"
    )
    parser.add_argument("--log", action="store_true", help="append the tables to benchmarks/LOG.md")
    given = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        # They are read when polars is imported: one core is what both sides are measured on.
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_THREAD)
    pa.set_cpu_count(1)
    table = corpus(given.corpus, given.documents, given.seed)
    # A seeded shuffle, so that the documents that are timed are of all kinds.
    table = table.take(np.random.default_rng(given.seed).permutation(len(table))).combine_chunks()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(given.work or temporary)
        work.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(work / "input.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

        def ask(mode, last):
            command = [given.peer, str(HERE / "conformance_peer.py"), mode, str(work / "input.arrow"), str(last)]
            return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout

        peer = json.loads(ask("speed", min(given.speed_documents, len(table))).splitlines()[-1])
        timing = None
        if peer["documents"]:
            some = table.slice(0, peer["documents"])
            timing = [in_a_thread(speed, some, side_by_side=each) for each in (True, False)]
        if len(list(work.glob("part-*.arrow"))) * 500 < len(table):
            ask("lists", work)
        result = compare(table, work)
    text = report(table, result, peer, timing)
    print(text)
    if given.log:
        with (HERE / "LOG.md").open("a") as log:
            log.write("\n" + text)
    problems = broken(result)
    print("\n".join(problems))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
