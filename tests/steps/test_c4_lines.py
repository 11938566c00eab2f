"""clean_lines: which lines stay, where they are from, and what the others went for."""

from __future__ import annotations

from datapipe.steps.c4 import C4Options, c4_clean
from datapipe.steps.c4_lines import REMOVED, clean_lines
from datapipe.steps.segmentation import segment
from tests.steps.one_text import column

FIVE = "This is one. This is two. This is three. This is four. This is five."


def test_counts_of_removed_lines():
    """Every line that went is counted by its reason; lines in = lines kept + lines removed."""
    text = f"Title\nno mark at end\nTwo words.\nUse javascript for it.\nThe terms of use.\n{FIVE}\n{'x' * 1001}"
    _, signals, _ = c4_clean(segment(column([text, "", FIVE])), C4Options())
    rows = signals.to_pylist()
    assert {name: rows[0][f"c4.removed_{name}"] for name in REMOVED} == {
        "too_long_word": 1,
        "no_terminal_punct": 2,
        "too_few_words": 1,
        "javascript": 1,
        "policy": 1,
    }
    assert [row["c4.lines"] for row in rows] == [7, 0, 1]


def test_lines_and_their_chunks():
    """Lines that stay know their chunks, whether they read otherwise now, and the first lines that take documents."""
    words = segment(column(["no end\n It is[1] so. ", "a { here.\nlorem ipsum it is.", "", "b { and lorem ipsum."]))
    clean = clean_lines(words, C4Options())
    assert clean.texts.to_pylist() == ["It is so.", "a { here.", "lorem ipsum it is.", "b { and lorem ipsum."]
    assert clean.offsets.tolist() == [0, 1, 3, 3, 4]
    assert clean.changed.tolist() == [True, False, False, False]
    assert list(zip(clean.first.tolist(), clean.behind.tolist(), strict=True)) == [(2, 5), (5, 8), (8, 12), (12, 17)]
    assert clean.lorem.tolist() == [0, 2, 0, 1]
    assert clean.curly.tolist() == [0, 1, 0, 1]
    assert clean.lines.tolist() == [2, 2, 0, 1]
