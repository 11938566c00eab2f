"""The page of a dataset: it shows what is there, runs nothing, asks for nothing, and hides what is encrypted."""

import io
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe import open_dataset
from datapipe.cli.dataset import description
from datapipe.dataset import (
    EncryptionEntry,
    EncryptionSettings,
    Keyring,
    Sealing,
    build_manifest,
    publish,
    write_shard,
)
from datapipe.preprocess.column_views import BINS, thumbnail, view_of, waveform
from datapipe.preprocess.dataset_page import dataset_html
from datapipe.storage import open_store

HOSTILE = "<script>alert(1)</script>\"'\u202e\x07"


def page_of(folder, **options):
    opened = open_dataset(folder, **options)
    return dataset_html(opened, description(opened))


def jpeg(width, height):
    image = pytest.importorskip("PIL.Image")
    sink = io.BytesIO()
    image.fromarray(np.full((height, width, 3), 120, np.uint8)).save(sink, "JPEG")
    return sink.getvalue()


def wav(seconds, rate=8000):
    soundfile = pytest.importorskip("soundfile")
    sink = io.BytesIO()
    soundfile.write(sink, np.sin(np.arange(int(seconds * rate)) / 9).astype("float32"), rate, format="WAV")
    return sink.getvalue()


def test_every_kind_of_column_and_hostile_text(tmp_path):
    """Numbers, words, lists, nothing at all; text that would run is written out, in names and in values."""
    n = 50
    table = pa.table(
        {
            "score": np.linspace(-1, 1, n),
            "count": [i % 3 for i in range(n)],
            "label": [HOSTILE if i % 2 else "cat" for i in range(n)],
            "tokens": [[1] * (i % 7) for i in range(n)],
            f"name {HOSTILE}": ["x"] * n,
            "empty": pa.nulls(n, pa.string()),
            "odd": [float("nan"), float("inf")] * (n // 2),
            "nested": [{"a": i} for i in range(n)],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=20)
    page = page_of(tmp_path)
    assert "<script" not in page
    assert not {"\u202e", "\x07"} & {*page}
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert page.count("histogram") >= 3
    assert page == page_of(tmp_path)  # nothing of chance is in it


def test_pictures_and_sounds(tmp_path):
    """Thumbnails and waveforms of what can be decoded; of what cannot, that it cannot."""
    pytest.importorskip("simplejpeg")
    images = [jpeg(60 + i, 40) for i in range(5)] + [b"\xff\xd8broken", None]
    pq.write_table(
        pa.table({"image": [{"bytes": b, "path": f"{i}.jpg"} for i, b in enumerate(images)]}), tmp_path / "i.parquet"
    )
    page = page_of(tmp_path / "i.parquet")
    assert page.count("data:image/jpeg;base64,") == 5
    assert page.count("cannot be shown") == 1
    sounds = [wav(0.2), wav(0.01), b"RIFF1234WAVEbroken"]
    pq.write_table(pa.table({"audio": pa.array(sounds, pa.large_binary())}), tmp_path / "a.parquet")
    page = page_of(tmp_path / "a.parquet")
    assert page.count("<path class") == 2
    assert page.count("cannot be shown") == 1


def test_a_thumbnail_is_small_and_a_waveform_in_its_box():
    pytest.importorskip("simplejpeg")
    found = thumbnail(jpeg(900, 300))
    assert (found.width, found.height) == (216, 72)
    assert len(found.uri) < 20_000
    ys = [float(pair.split(",")[1]) for pair in waveform(wav(0.5)).path.strip("MZ").split()]
    assert 0 <= min(ys) < max(ys) <= 100
    assert waveform(b"nothing").path == ""


def test_what_no_string_or_sum_can_hold_ends_no_page(tmp_path):
    """Bytes that are no UTF-8, in a column or within one, and numbers whose range is no float."""
    offsets = pa.py_buffer(np.array([0, 2, 4], np.int32).tobytes())
    odd = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"\xff\xfeab")])
    huge = pa.array([-1.7e308, 1.7e308])
    columns = {"odd": odd, "inside": pa.ListArray.from_arrays([0, 1, 2], odd), "huge": huge}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    page = page_of(tmp_path)
    assert "\ufffd\ufffd" in page
    assert "(not UTF-8)" in page
    view = view_of("huge", pa.chunked_array([huge]))
    assert [view.facts[0], view.ends] == [("median", "0"), ("-1.7e+308", "1.7e+308")]
    assert len(view.bars) == BINS


def test_histograms_count_every_value():
    values = np.random.default_rng(0).normal(size=500)
    view = view_of("x", pa.chunked_array([values]))
    assert len(view.bars) == BINS
    counted = sum(int(re.search(r": ([\d,]+) rows", bar.title)[1].replace(",", "")) for bar in view.bars)
    assert counted == 500
    assert view_of("x", pa.chunked_array([[3, 3, None]])).facts == (("null", "33.3%"), ("always", "3"))
    words = view_of("x", pa.chunked_array([["b", "a", "b"]])).words
    assert words == (("b", 2, 100.0), ("a", 1, 50.0))


def test_encrypted_columns_are_shown_to_who_has_the_keys(tmp_path):
    """Without them the page says which it leaves out; with them, that it is to be kept as they are."""
    keyring = Keyring(lambda name: b"k" * 16)
    table = pa.table({"id": [1, 2], "email": ["PLANTED1", "PLANTED2"]})
    settings = EncryptionSettings(columns=("email",), keys="m:k")
    sealing = Sealing(settings=settings, keyring=keyring, secret=b"s" * 32)
    store = open_store(str(tmp_path))
    shard = write_shard(store, "data/x", [table], schema=table.schema, row_group_rows=2, sealing=sealing)
    about = EncryptionEntry(columns=("email",), footer="plain", column_key="columns", footer_key="footer")
    publish(store, build_manifest(table.schema, (shard,), encryption=about))
    page = page_of(tmp_path)
    assert "PLANTED" not in page
    assert "Encrypted columns are not shown: email" in page
    page = page_of(tmp_path, keys=keyring)
    assert "PLANTED" in page
    assert "keep this page as you keep the keys" in page


def test_nothing_at_all(tmp_path):
    """A dataset without rows has a page as well."""
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "x.parquet")
    assert "0 rows" in page_of(tmp_path)
