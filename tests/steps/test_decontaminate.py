"""decontaminate: what a plain reading of the words finds is found, said and cut, however the texts are batched."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datapipe
from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, options_from, plain_options, run_steps
from datapipe.steps.decontaminate import COVERED, HITS, SIGNALS, SPEC, WORDS, DecontaminateOptions
from datapipe.steps.decontaminate_index import build_index, index_of
from datapipe.steps.decontaminate_sets import Item
from datapipe.steps.registry import find_step
from datapipe.steps.word_hashes import PIECE

KEYS = Keys()
THIRTEEN = "one two three four five six seven eight nine ten eleven twelve thirteen"


def table_of(texts):
    return pa.table({"row_id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.large_string())})


@pytest.fixture
def eval_file(tmp_path):
    """A file of items, one JSON object each."""

    def write(*items, name="eval.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps({"question": item}) + "\n" for item in items))
        return str(path)

    return write


def test_golden(eval_file):
    """Thirteen words are a run; twelve are not; case, punctuation and white space are nothing; the item is named."""
    path = eval_file("not this one, which is another question of more than a dozen words", f"Say: {THIRTEEN}!")
    texts = [
        f"A page. {THIRTEEN.upper().replace(' ', ' -- ')} and so on",
        THIRTEEN.rsplit(" ", 1)[0] + " and so on",
        f"say {THIRTEEN} {THIRTEEN}",
        "",
    ]
    ran = run_steps(table_of(texts), [bind("decontaminate", {"files": [path]})], KEYS)
    assert ran.table["row_id"].to_pylist() == ["1", "3"]
    assert ran.counters == {HITS: 4}
    signals = ran.signals.select(SIGNALS).to_pydict()
    assert signals == {HITS: [1, 0, 3, 0], COVERED: [13, 0, 27, 0], WORDS: [18, 15, 27, 0]}
    assert [(each["row_id"], each["reason"]) for each in ran.marked.to_pylist()] == [
        ("0", "contaminated"),
        ("2", "contaminated"),
    ]
    detail = ran.marked["detail"][0].as_py()
    assert detail.startswith('eval.jsonl row 2 (question): 1 of 1 runs: "ONE -- TWO -- THREE')
    assert ran.marked["detail"][1].as_py().startswith('eval.jsonl row 2 (question): 3 of 3 runs: "say one two')


def test_short_items_are_looked_for_whole(eval_file):
    """Eight words are found where all eight stand; seven are counted as left out; empty ones are nothing."""
    path = eval_file("a b c d e f g h", "a b c d e f g", "", "...")
    index = index_of([path], ["eval.jsonl"], (), 13, 8)
    assert (index.indexed, index.ignored) == (1, 1)
    step = bind("decontaminate", {"files": [path]})
    assert step(table_of(["x A b c, d e f g h y", "a b c d e f g"]), KEYS)[HITS].to_pylist() == [1, 0]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [False, False, True]),
        ({"min_hits": 2}, [True, False, True]),
        ({"min_ratio": 0.5}, [False, False, True]),
        ({"min_ratio": 0.66}, [True, False, True]),
        ({"min_ratio": 0.66, "min_hits": 3}, [True, True, True]),
    ],
)
def test_thresholds(eval_file, options, kept):
    """A row goes with so many runs that cover so much of it: 13 of 20 words in one, 14 of 14 in two."""
    path = eval_file(THIRTEEN + " fourteen")
    texts = [THIRTEEN + " and seven words that are not so", THIRTEEN + " fourteen", "clean"]
    ran = run_steps(table_of(texts), [bind("decontaminate", {"files": [path], **options})], KEYS)
    assert [str(i) in ran.table["row_id"].to_pylist() for i in range(3)] == kept


def test_cut_golden(eval_file):
    """The run goes with the white space after it, the rest stays to the letter; a row that is all run is dropped."""
    path = eval_file(THIRTEEN)
    texts = [
        f"Before,  it:\n{THIRTEEN}\n\nAfter   it.",
        f"{THIRTEEN}. End",
        THIRTEEN + "!",
        "clean \u212b",
        f"caf\u0065\u0301 {THIRTEEN} stays",
    ]
    ran = run_steps(table_of(texts), [bind("decontaminate", {"files": [path], "mode": "cut"})], KEYS)
    assert ran.table["text"].to_pylist() == ["Before,  it:\nAfter   it.", ". End", "clean \u212b", "caf\u00e9 stays"]
    assert ran.marked["row_id"].to_pylist() == ["2"]
    assert ran.marked["reason"].to_pylist() == ["contaminated"]


def test_cut_looks_again(eval_file):
    """Where a cut brings the halves of another run together, that one goes as well."""
    other = "red orange yellow green blue indigo violet black white grey brown pink gold"
    halves = other.split()
    text = " ".join(["x", *halves[:6], THIRTEEN, *halves[6:], "y"])
    step = bind("decontaminate", {"files": [eval_file(THIRTEEN, other)], "mode": "cut"})
    assert step(table_of([text]), KEYS)["text"].to_pylist() == ["x y"]


WORDLIST = st.lists(st.sampled_from(["a", "B", "ä", "a\u0308", "中", "x1", "."]), max_size=14).map(" ".join)


def plain_words(text):
    """The words of these texts, by the rule written out."""
    import unicodedata

    return re.findall(r"中|[^\W中]+", unicodedata.normalize("NFC", text).lower())


def plain_signals(texts, items, n, least):
    wanted = {
        tuple(words[i : i + n])
        for words in map(plain_words, items)
        if len(words) >= min(n, least)
        for i in range(max(1, len(words) - n + 1))
    }
    rows = []
    for words in map(plain_words, texts):
        places = [
            (i, k) for k in range(1, n + 1) for i in range(len(words) - k + 1) if tuple(words[i : i + k]) in wanted
        ]
        covered = {j for i, k in places for j in range(i, i + k)}
        rows.append((len(places), len(covered), len(words)))
    return rows


@given(
    texts=st.lists(WORDLIST, max_size=6),
    items=st.lists(WORDLIST, max_size=3),
    n=st.integers(2, 5),
    least=st.integers(1, 5),
)
@settings(deadline=None, max_examples=200)
def test_is_the_plain_reading(texts, items, n, least):
    """Hits, covered words and words are those of tuples of words looked up in a set."""
    step = bind("decontaminate", {"n": n, "min_words": least})
    step.step._index = build_index([Item(text, "f", i, "") for i, text in enumerate(items, 1)], n, least)
    out = step(table_of(texts), KEYS)
    found = list(zip(*(out[name].to_pylist() for name in SIGNALS), strict=True))
    assert found == plain_signals(texts, items, n, least)


@given(
    texts=st.lists(WORDLIST, max_size=6),
    items=st.lists(WORDLIST, min_size=1, max_size=3),
    ratio=st.sampled_from([0.0, 0.5]),
)
@settings(deadline=None, max_examples=100)
def test_cut_is_done_once(texts, items, ratio):
    """What a cut leaves is left as it is by another, and is a subsequence of the words."""
    step = bind("decontaminate", {"n": 3, "min_words": 2, "mode": "cut", "min_ratio": ratio})
    step.step._index = build_index([Item(text, "f", i, "") for i, text in enumerate(items, 1)], 3, 2)
    once = run_steps(table_of(texts), [step], KEYS).table
    again = run_steps(once, [step], KEYS)
    assert again.table.equals(once)
    for row in once.to_pylist():
        rest = iter(plain_words(texts[int(row["row_id"])]))
        assert all(word in rest for word in plain_words(row["text"]))


def test_a_long_document_is_one(eval_file):
    """A run across the pieces in which a long document is hashed is found, and cut where it stands."""
    size = PIECE + 1000
    before = ("word " * (size // 5))[: PIECE - 30]
    before = before[: before.rfind(" ") + 1]
    text = f"{before}{THIRTEEN} " + "tail " * 20_000
    path = eval_file(THIRTEEN)
    out = bind("decontaminate", {"files": [path]})(table_of(["short", text, THIRTEEN]), KEYS)
    assert out[HITS].to_pylist() == [0, 1, 1]
    cut = bind("decontaminate", {"files": [path], "mode": "cut"})(table_of([text]), KEYS)
    assert cut["text"][0].as_py() == before + "tail " * 20_000


def test_formats_hold_the_same_items(tmp_path):
    """JSON lines, CSV, TSV, Parquet and text, gzipped or named after a checksum, are read alike."""
    import gzip

    import pyarrow.parquet as pq

    rows = [{"question": f'{THIRTEEN}, "quoted"\nline', "id": "7"}, {"question": "too short", "id": "8"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    quoted = [f'"{row["question"].replace(chr(34), chr(34) * 2)}"' for row in rows]
    contents = {
        "a.jsonl": lines,
        "b.jsonl.gz": gzip.compress(lines),
        "c.csv": ("question,id\n" + "".join(f"{text},7\n" for text in quoted)).encode(),
        "d.tsv": ("question\tid\n" + "".join(f"{text}\t7\n" for text in quoted)).encode(),
        "e.resource": b"\xef\xbb\xbf" + lines,
    }
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.resource")
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    reference = None
    for name in [*contents, "f.resource"]:
        index = index_of([str(tmp_path / name)], [name], ["question"], 13, 8)
        hashes = index.runs[0].hashes.tolist()
        assert index.labels == [f"{name} row 1 (question)"]
        assert (index.indexed, index.ignored) == (1, 1)
        reference = reference or hashes
        assert hashes == reference
    (tmp_path / "g.txt").write_text(f"{THIRTEEN}\nsecond line\n")
    assert index_of([str(tmp_path / "g.txt")], ["g.txt"], (), 13, 8).labels == ["g.txt row 1"]


def test_nested_texts_are_items(tmp_path):
    """Of a list of choices, or an object of answers, each text counts."""
    path = tmp_path / "choices.jsonl"
    path.write_text(json.dumps({"choices": ["short", THIRTEEN], "answers": {"text": [THIRTEEN + " more"]}, "n": 3}))
    index = index_of([str(path)], ["choices.jsonl"], (), 13, 8)
    assert index.labels == ["choices.jsonl row 1 (choices)", "choices.jsonl row 1 (answers)"]


def test_index_is_made_once_by_content(eval_file, tmp_path):
    """The same content under another path is the same index, another content or n another; the name is kept."""
    path = eval_file(THIRTEEN)
    copy = tmp_path / "0123.resource"
    copy.write_bytes(Path(path).read_bytes())
    options = DecontaminateOptions(files=(path,))
    moved = dataclasses.replace(options, files=(str(copy),))
    assert moved.names == ("eval.jsonl",)
    first = bind("decontaminate", options).step.index()
    assert bind("decontaminate", moved).step.index() is first
    assert bind("decontaminate", dataclasses.replace(options, n=12)).step.index() is not first
    eval_file(THIRTEEN + " changed")
    assert bind("decontaminate", options).step.index() is not first


def test_options_cross_processes(eval_file):
    """Names made of the files' own round-trip, and a pickle of a used step holds no index."""
    options = DecontaminateOptions(files=(eval_file(THIRTEEN),))
    assert options_from(SPEC, plain_options(options)) == options
    step = bind("decontaminate", options)
    step(table_of([THIRTEEN]), KEYS)
    assert len(pickle.dumps(step)) < 2000


@pytest.mark.parametrize("mode", ["drop", "cut"])
def test_in_a_run_the_file_keeps_its_name(eval_file, tmp_path, mode):
    """Preprocessing gives workers a copy under another name; format, report and counts are those of the file."""
    (tmp_path / "in").mkdir()
    lines = [json.dumps({"text": text}) + "\n" for text in (f"{THIRTEEN} and more", "clean", THIRTEEN)]
    (tmp_path / "in" / "a.jsonl").write_text("".join(lines))
    csv = tmp_path / "set.csv"
    csv.write_text(f"question,answer\n{THIRTEEN},4\n")
    steps = ["decode", {"decontaminate": {"files": [str(csv)], "mode": mode}}]
    summary = datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe={"name": "t", "steps": steps}, workers=0)
    assert summary.documents_out == (1 if mode == "drop" else 2)
    rejects = "".join(path.read_text() for path in (tmp_path / "out" / "rejects").rglob("*.jsonl"))
    assert "set.csv row 1 (question): 1 of 1 runs" in rejects


def test_modes_have_their_specs():
    """Cutting rewrites the text, so its signals do not judge again."""
    assert find_step("decontaminate").resolved(DecontaminateOptions()).judge is not None
    cutting = SPEC.resolved(DecontaminateOptions(mode="cut"))
    assert cutting.judge is None
    assert cutting.gives == ("text",)


@pytest.mark.parametrize(
    ("content", "name", "options", "message"),
    [
        (b'{"a": 1}\n{broken', "x.jsonl", {}, "line 2 is not JSON"),
        (b"[1]\n", "x.jsonl", {}, "line 1 is a list"),
        (b"\xff\xfe", "x.txt", {}, "not UTF-8"),
        (b"PAR1 but no more", "x", {}, "no readable Parquet"),
        (b"\x1f\x8b broken", "x.txt.gz", {}, "broken gzip"),
        (b'a,b\n"x', "x.csv", {}, "line"),
        (b"too short\n", "x.txt", {}, "none of 1 items has 8 words"),
        (b'{"a": "b"}', "x.jsonl", {"columns": ["question"]}, "has none of question"),
    ],
)
def test_bad_files(tmp_path, content, name, options, message):
    """A file that is not what it is called, or holds nothing to look for, is refused with what is wrong."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        bind("decontaminate", {"files": [str(tmp_path / name)], **options})(table_of(["a"]), KEYS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 1}, "n = 1"),
        ({"min_hits": 0}, "min_hits = 0"),
        ({"min_ratio": 1.5}, "min_ratio"),
        ({"files": ["a", "b"], "names": ["a"]}, "1 names for 2 files"),
        ({"mode": "mask"}, "mode"),
    ],
)
def test_bad_options(options, message):
    """Options out of range or against each other say what is wrong."""
    with pytest.raises(ConfigError, match=message):
        bind("decontaminate", options)


def test_missing_file():
    """A file that is not there is named."""
    with pytest.raises(ConfigError, match=r"nowhere.jsonl: No such file"):
        bind("decontaminate", {"files": ["nowhere.jsonl"]})(table_of(["a"]), KEYS)
