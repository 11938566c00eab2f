"""The other side of conformance.py: what datatrove says of every document. Runs in datatrove's own environment.

    PEER/bin/python conformance_peer.py lists INPUT.arrow OUTPUT_FOLDER
    PEER/bin/python conformance_peer.py speed INPUT.arrow DOCUMENTS

INPUT.arrow: an Arrow file with `text`. `lists` writes part-NNNN.arrow into OUTPUT_FOLDER (for each document its words,
the reason of each rule set, C4's text, and the lines whose sentences C4 counted with the counts); `speed` prints CPU
seconds as JSON.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    c4_filters,
)
from datatrove.utils.text import split_into_sentences, split_into_words

PART = 500
SETS = {
    "gopher_repetition": GopherRepetitionFilter,
    "gopher_quality": GopherQualityFilter,
    "fineweb": FineWebQualityFilter,
    "c4": C4QualityFilter,
    "c4_fineweb": lambda: C4QualityFilter(filter_no_terminal_punct=False),
    "c4_sentences": lambda: C4QualityFilter(filter_no_terminal_punct=False, split_paragraph=False),
    "c4_paragraphs": c4_filters.C4ParagraphFilter,
}
KEEPS_TEXT = ("c4", "c4_fineweb", "c4_sentences")


def recipe():
    """FineWeb's rule sets in FineWeb's order."""
    return [GopherRepetitionFilter(), GopherQualityFilter(), SETS["c4_fineweb"](), FineWebQualityFilter()]


def speed(texts):
    """CPU seconds of the four sets: one after another on what is left, and each on every document."""
    filters = recipe()
    for each in filters:
        each.filter(Document(text="A line to warm it up. " * 30, id="0"))
    began = time.process_time()
    data = (Document(text=text, id=str(i)) for i, text in enumerate(texts))
    for each in filters:
        data = each.run(data)
    kept = sum(1 for _ in data)
    pipeline = time.process_time() - began
    began = time.process_time()
    for i, text in enumerate(texts):
        for each in filters:
            each.filter(Document(text=text, id=str(i)))
    return {
        "documents": len(texts),
        "kept": kept,
        "pipeline": pipeline,
        "every": time.process_time() - began,
        "python": sys.version.split()[0],
        **{name: version(name) for name in ("datatrove", "spacy")},
    }


def lists(texts, folder):
    """Write what datatrove says of every document."""
    counted = []

    def recording(text, language="eng"):
        sentences = split_into_sentences(text, language)
        counted.append((text, len(sentences)))
        return sentences

    filters = {name: make() for name, make in SETS.items()}
    for low in range(0, len(texts), PART):
        columns = {"words": [], "lines": [], "counts": []}
        columns |= {name: [] for name in filters}
        columns |= {f"{name}_text": [] for name in KEEPS_TEXT}
        for text in texts[low : low + PART]:
            counted.clear()
            columns["words"].append(split_into_words(text))
            for name, each in filters.items():
                document = Document(text=text, id="0")
                c4_filters.split_into_sentences = recording if name in ("c4", "c4_fineweb") else split_into_sentences
                try:
                    verdict = each.filter(document)
                except Exception as error:  # it divides by the length of the text
                    verdict = (False, f"raises {type(error).__name__}")
                columns[name].append(None if verdict is True else verdict[1])
                if name in KEEPS_TEXT:
                    columns[f"{name}_text"].append(document.text if verdict is True else None)
            columns["lines"].append([line for line, _ in counted])
            columns["counts"].append([count for _, count in counted])
        strings = pa.large_list(pa.large_string())
        types = {"words": strings, "lines": strings, "counts": pa.large_list(pa.int64())}
        table = pa.table(
            {name: pa.array(values, types.get(name, pa.large_string())) for name, values in columns.items()}
        )
        with pa.OSFile(str(folder / f"part-{low // PART:04d}.arrow.tmp"), "wb") as sink:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            with pa.ipc.new_file(sink, table.schema, options=options) as writer:
                writer.write_table(table)
        (folder / f"part-{low // PART:04d}.arrow.tmp").rename(folder / f"part-{low // PART:04d}.arrow")


if __name__ == "__main__":
    every = pa.ipc.open_file(sys.argv[2]).read_all().column("text").to_pylist()
    if sys.argv[1] == "speed":
        print(json.dumps(speed(every[: int(sys.argv[3])])))
    else:
        lists(every, Path(sys.argv[3]))
