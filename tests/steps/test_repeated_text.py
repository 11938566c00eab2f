"""Both halves of repeated_lines and repeated_paragraphs on a table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.repeated_text import halves, row_hashes, seen_type

TEXTS = ["a common line\n\n  own line one", "own line two\n a common line  \na common line", "}\n}", ""]


def table():
    return pa.table({"row_id": ["r0", "r1", "r2", "r3"], "text": pa.array(TEXTS, pa.large_string())})


def test_pieces():
    """One hash for each piece that is long enough, white space at its ends not counted; its number in the text."""
    hashed = bind("repeated_lines", {"shortest": 5})(table(), Keys())
    assert hashed["repeated_lines_numbers"].to_pylist() == [[0, 2], [0, 1, 2], [], []]
    first, second = hashed["repeated_lines_hashes"].to_pylist()[:2]
    assert first[0] == second[1] == second[2]
    assert len({*first, *second}) == 3
    assert first[0].hex() == "90c68138363e88056b0f31c9ca04b033"
    paragraphs = bind("repeated_paragraphs", {"shortest": 5})(table(), Keys())
    assert paragraphs["repeated_paragraphs_numbers"].to_pylist() == [[0, 1], [0], [], []]


@pytest.mark.parametrize(("least", "left"), [(0, ["own line two"]), (13, [])])
def test_all_but_the_first_go(tmp_path, least, left):
    """Where the list names the first, that one stays; a text of which too little is left is dropped."""
    hashed = bind("repeated_lines", {"shortest": 5})(table(), Keys())
    seen = np.zeros(1, seen_type())
    seen["high"], seen["low"] = (half[:1] for half in halves(hashed["repeated_lines_hashes"].chunk(0).flatten()))
    seen["row"], seen["number"] = row_hashes(["r0"]), 0
    seen.tofile(tmp_path / "seen")
    step = bind("repeated_lines", {"shortest": 5, "min_chars": least, "seen": str(tmp_path / "seen")})
    assert step.spec.kind == "map"
    ran = run_steps(table(), [step], Keys())
    assert ran.table["text"].to_pylist() == [TEXTS[0], *left, *TEXTS[2:]]
    assert ran.marked["reason"].to_pylist() == ([] if left else ["repeated_lines_left_short"])


def test_an_empty_list_changes_nothing(tmp_path):
    """Nothing repeats: the texts are as they were."""
    (tmp_path / "seen").write_bytes(b"")
    step = bind("repeated_lines", {"shortest": 1, "seen": str(tmp_path / "seen")})
    assert run_steps(table(), [step], Keys()).table["text"].to_pylist() == TEXTS


def test_a_damaged_list_is_refused(tmp_path):
    """One that is not there, or is no multiple of a record."""
    (tmp_path / "seen").write_bytes(b"x" * 27)
    for path in ("seen", "missing"):
        with pytest.raises(ConfigError, match="seen"):
            bind("repeated_lines", {"seen": str(tmp_path / path)})
