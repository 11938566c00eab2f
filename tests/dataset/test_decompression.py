"""Decompression told apart from decoding: pages found as Parquet lays them out, and spans only under a recorder."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datapipe
from datapipe import events
from datapipe.dataset.decompression import Decompression, pages

TABLE = pa.table(
    {
        "x": np.random.default_rng(0).standard_normal(20_000).round(1),
        "words": [f"word {i % 300}" if i % 7 else None for i in range(20_000)],
        "lists": [list(range(i % 5)) for i in range(20_000)],
    }
)


@pytest.mark.parametrize("codec", ["snappy", "zstd", "gzip", "brotli", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_fill_their_chunk_and_decompress_to_their_size(tmp_path, codec, version):
    """Header after header, every byte of a column chunk is a page's; each decompresses to the size it says."""
    file = tmp_path / "a.parquet"
    pq.write_table(TABLE, file, compression=codec, data_page_version=version, data_page_size=4096)
    meta, raw = pq.read_metadata(file), memoryview(file.read_bytes())
    name = "lz4_raw" if codec == "lz4" else codec
    for column in range(meta.num_columns):
        chunk = meta.row_group(0).column(column)
        first = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset)
        data = raw[first : first + chunk.total_compressed_size]
        found = list(pages(data))
        assert found[-1].start + found[-1].stored == len(data)
        assert len(found) > 1
        for page in found:
            part = data[page.start + page.levels : page.start + page.stored]
            if page.compressed and len(part):
                size = page.size - page.levels
                assert len(pa.decompress(part, decompressed_size=size, codec=name)) == size


def decoded(folder, **options):
    pq.write_table(TABLE, folder / "a.parquet", row_group_size=2_000, **options)
    dataset = datapipe.open_dataset(str(folder))
    recorder = events.Recorder()
    with events.recording(recorder):
        rows = sum(dataset.fetch(i).decode().num_rows for i in range(10))
    assert rows == TABLE.num_rows
    return recorder.spans(), recorder.stage("decompress")


def test_every_decoding_is_split_while_a_profile_records(tmp_path):
    """One "decompress" a row group, with the stored bytes of its columns."""
    spans, stage = decoded(tmp_path, compression="zstd")
    mine = spans[spans["stage"] == stage]
    assert len(mine) == 10
    meta = pq.read_metadata(tmp_path / "a.parquet")
    stored = [sum(meta.row_group(g).column(c).total_compressed_size for c in range(3)) for g in range(10)]
    assert mine["bytes"].tolist() == stored
    assert (mine["end"] > mine["start"]).all()


def test_what_is_not_compressed_is_not_split(tmp_path):
    spans, stage = decoded(tmp_path, compression="none")
    assert not (spans["stage"] == stage).any()


def test_the_share_is_that_of_all_samples():
    """3 of 10 ns and 9 of 10 ns: 60%; nothing learned: nothing claimed; never all of it."""
    one = Decompression()
    assert one.share == 0
    one.learn(3, 10)
    one.learn(9, 10)
    assert one.share == pytest.approx(0.6)
    one.learn(1_000, 1_000)
    assert one.share == 0.95
