"""Rows cut into so few at once that what steps make of them has room."""

import io

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datapipe import open_dataset, preprocess
from datapipe.preprocess import batch_room
from datapipe.steps import bind, image_pixels


@given(st.lists(st.integers(0, 9), max_size=5), st.one_of(st.none(), st.integers(1, 4)))
def test_no_row_is_lost(sizes, rows):
    """The same rows in the same order, and no table of more than there is room for."""
    numbers = iter(range(100))
    tables = [pa.table({"row_id": [next(numbers) for _ in range(size)]}) for size in sizes]
    parts = list(batch_room.cut(tables, rows))
    assert [row["row_id"] for part in parts for row in part.to_pylist()] == list(range(sum(sizes)))
    assert rows is None or all(part.num_rows <= rows for part in parts)
    assert rows is not None or parts == tables


def test_rows_that_have_room():
    """By the pixels that are asked for, one row at least; of steps that make no more than they are given, all."""
    assert batch_room.rows_at_once([bind("image_pixels", {"size": [256, 512]})]) == (32 << 20) // (256 * 512 * 3)
    assert batch_room.rows_at_once([bind("image_pixels", {"size": 8192})]) == 1
    assert batch_room.rows_at_once([bind("image_check")]) is None


def test_pixels_of_a_batch_are_bounded(tmp_path, monkeypatch):
    """Seven small files are one batch to read; of their pixels three have room: the rows are the same."""
    (tmp_path / "in").mkdir()
    for n in range(7):
        noise = np.random.default_rng(n).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        data = io.BytesIO()
        Image.fromarray(noise).save(data, "PNG")
        (tmp_path / "in" / f"{n}.png").write_bytes(data.getvalue())
    recipe = {
        "input": {"text_column": None, "media": "image"},
        "steps": [{"image_pixels": {"size": 16, "crop": "random"}}],
    }
    seen: list[int] = []
    step = image_pixels.image_pixels

    def watched(table, keys, **options):
        seen.append(table.num_rows)
        return step(table, keys, **options)

    monkeypatch.setattr(image_pixels, "image_pixels", watched)
    preprocess(tmp_path / "in", tmp_path / "whole", recipe, workers=0)
    assert seen == [7]
    monkeypatch.setattr(batch_room, "ROOM", 3 * 16 * 16 * 3)
    preprocess(tmp_path / "in", tmp_path / "cut", recipe, workers=0)
    assert seen[1:] == [3, 3, 1]
    whole, parts = (open_dataset(tmp_path / name).take(range(7)) for name in ("whole", "cut"))
    assert parts.equals(whole)
