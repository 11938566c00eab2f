"""What a dataset is made of: every kept document in one cell, skew by its published measures, small cells told."""

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe import preprocess
from datapipe.preprocess.representation import SMALL, dimension, lines_of, representation
from datapipe.preprocess.stored_run import open_stored_run

EN = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "and", "runs", "away", "from", "big", "house"]
DE = ["der", "schnelle", "braune", "fuchs", "springt", "über", "den", "faulen", "hund", "und", "läuft", "weg", "vom"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("represented")
    draw = random.Random(3)

    def put(name, words, count, label, mail=0):
        rows = [
            {"text": " ".join(draw.choice(words) for _ in range(40)) + f" {name} {i}", "label": label}
            for i in range(count)
        ]
        for row in rows[:mail]:
            row["text"] += " write to anna@schmidt-example.com"
        (folder / "in" / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    (folder / "in").mkdir()
    put("a.jsonl", EN, 40, "news")
    put("b.jsonl", DE, 5, "<b>mail", mail=2)
    recipe = {"input": {"columns": ["label"]}, "steps": ["decode", "language", "pii", "exact_duplicates"]}
    preprocess(folder / "in", folder / "out", recipe, workers=0)
    put("c.jsonl", DE, 15, "news")
    preprocess(folder / "in", folder / "out", recipe, workers=0, append=True)
    return folder / "out"


def test_every_document_is_in_one_cell(made):
    found = representation(open_stored_run(made))
    assert found.documents == 60
    by_name = {each.name: dict(each.cells) for each in found.dimensions}
    assert by_name["language"] == {"en": 40, "de": 20}
    assert by_name["source"] == {"in/a.jsonl": 40, "in/c.jsonl": 15, "in/b.jsonl": 5}
    assert by_name["label"] == {"news": 55, "<b>mail": 5}
    assert all(sum(cells.values()) == 60 for cells in by_name.values())
    assert (found.pii, found.pii_documents) == ({"email": 2}, 2)
    assert [(s.snapshot, s.documents, s.pii_documents) for s in found.snapshots] == [(0, 45, 2), (1, 15, 0)]
    assert found.snapshots[1].languages == {"de": 15}
    assert json.dumps(found.as_dict())
    text = "\n".join(lines_of(found))
    assert all(word in text for word in ("evenness", "privacy", "by snapshot"))


def test_the_report_of_a_run_has_it(made):
    page = (made / "report.html").read_text()
    assert "Representation" in page
    assert "Personal data found" in page
    assert "<b>mail" not in page


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 10**6), max_size=30))
def test_measures_of_skew(counts):
    """Pielou's evenness is within 0 and 1, and 1 where all are equal; the ratio is of the largest to the smallest."""
    found = dimension("x", counts)
    full = [n for n in counts.values() if n]
    assert sum(n for _, n in found.cells) + found.rest == sum(full)
    assert found.small == sum(n < SMALL for n in full)
    if len(full) > 1:
        assert -1e-9 <= found.evenness <= 1 + 1e-9
        assert found.imbalance == max(full) / min(full)
        if len({*full}) == 1:
            assert math.isclose(found.evenness, 1)
    else:
        assert found.evenness is None


def test_two_cells_by_hand():
    """H of (3/4, 1/4) over ln 2."""
    found = dimension("x", {"a": 30, "b": 10})
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert math.isclose(found.evenness, expected)
    assert (found.imbalance, found.largest, found.small) == (3, 0.75, 1)


def test_pictures_by_their_bytes_and_a_table_by_none(tmp_path):
    """The length of a row is that of its picture; rows that have none are in no dimension, and no chart is drawn."""
    from PIL import Image

    for name in ("photos", "rows"):
        (tmp_path / name).mkdir()
    for n in range(2):
        Image.new("RGB", (8 << n, 8)).save(tmp_path / "photos" / f"{n}.png")
    (tmp_path / "rows" / "a.csv").write_text("age\n1\n2\n")
    made = {"photos": {"input": {"media": "image", "text_column": None}, "steps": ["image_check"]}}
    made["rows"] = {
        "input": {"text_column": None, "columns": ["age"]},
        "steps": [{"exact_duplicates": {"columns": ["age"]}}],
    }
    found = {}
    for name, recipe in made.items():
        preprocess(tmp_path / name, tmp_path / f"out-{name}", recipe, workers=0)
        dimensions = representation(open_stored_run(tmp_path / f"out-{name}")).dimensions
        found[name] = {each.name: dict(each.cells) for each in dimensions}.get("length")
        page = (tmp_path / f"out-{name}" / "report.html").read_text()
        assert ("<h2>Length</h2>" in page) == (name == "photos")
    sizes = [path.stat().st_size for path in (tmp_path / "photos").iterdir()]
    assert found["photos"] == {"below 128 bytes": 2}
    assert max(sizes) < 128
    assert found["rows"] is None
