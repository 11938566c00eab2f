"""pack: no token is lost or invented, segments tell documents apart, and rows are as full as the mode promises."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.pack import packed_counts

KEYS = Keys()


def table_of(documents, kind=None):
    return pa.table(
        {
            "row_id": pa.array([f"d{i}" for i in range(len(documents))], pa.string()),
            "tokens": pa.array(documents, kind or pa.list_(pa.uint16())),
            "other": pa.array(range(len(documents))),
        }
    )


def run(documents, kind=None, **options):
    table = run_steps(table_of(documents, kind), [bind("pack", options)], KEYS).table
    table.validate(full=True)
    return table


def numbered(lengths):
    """Documents of these lengths; every token is different, so that each can be followed."""
    out, start = [], 1
    for length in lengths:
        out.append(list(range(start, start + length)))
        start += length
    return out


LENGTHS = st.lists(st.integers(0, 23), max_size=40)


class TestConcat:
    def test_golden(self):
        """Documents of 3, 0, 5 and 2 tokens in rows of 4, by hand."""
        table = run([[1, 2, 3], [], [4, 5, 6, 7, 8], [9, 10]], seq_len=4, pad_id=99)
        assert table.to_pydict() == {
            "row_id": ["d0", "d2", "d3"],
            "tokens": [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 99, 99]],
            "segment_ids": [[1, 1, 1, 2], [1, 1, 1, 1], [1, 1, 0, 0]],
            "n_tokens": [4, 4, 2],
            "n_documents": [2, 1, 1],
        }

    @given(LENGTHS, st.integers(1, 12))
    @settings(deadline=None)
    def test_is_the_stream_cut(self, lengths, seq_len):
        """Rows one after the other are documents one after the other; only the last row is padded."""
        documents = numbered(lengths)
        table = run(documents, seq_len=seq_len)
        stream = [token for document in documents for token in document]
        flat = np.array(table["tokens"].to_pylist(), np.int64).reshape(-1)
        assert flat[: len(stream)].tolist() == stream
        assert (flat[len(stream) :] == 0).all()
        assert table.num_rows == -(-len(stream) // seq_len)
        assert table["n_tokens"].to_pylist()[:-1] == [seq_len] * max(0, table.num_rows - 1)


class TestBestFit:
    def test_golden(self):
        """5, 3, 4, 2 and 9 tokens in rows of 6, by hand: 9 is cut to 6 + 3; 5 alone; 4 + 2; 3 + 3."""
        table = run(numbered([5, 3, 4, 2, 9]), seq_len=6, mode="best_fit", pad_id=0)
        assert table.to_pydict() == {
            "row_id": ["d0", "d1", "d2", "d4"],
            "tokens": [
                [1, 2, 3, 4, 5, 0],
                [6, 7, 8, 21, 22, 23],
                [9, 10, 11, 12, 13, 14],
                [15, 16, 17, 18, 19, 20],
            ],
            "segment_ids": [[1] * 5 + [0], [1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 2, 2], [1] * 6],
            "n_tokens": [5, 6, 6, 6],
            "n_documents": [1, 2, 2, 1],
        }

    @given(LENGTHS, st.integers(1, 12), st.integers(1, 9))
    @settings(deadline=None)
    def test_moved_in_parts(self, lengths, seq_len, tokens):
        """How many tokens are moved at a time bounds memory, and changes nothing."""
        documents = numbered(lengths)
        whole = run(documents, seq_len=seq_len, mode="best_fit")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("datapipe.steps.pack._GATHER_TOKENS", tokens)
            assert run(documents, seq_len=seq_len, mode="best_fit").equals(whole)

    def test_the_fullest_row_that_fits(self):
        """3 tokens go where 3 are free, not where 4 are: that is what makes it best fit."""
        table = run(numbered([6, 7, 3]), seq_len=10, mode="best_fit")
        assert table["n_tokens"].to_pylist() == [6, 10]
        assert table["row_id"].to_pylist() == ["d0", "d1"]

    @given(LENGTHS, st.integers(1, 12), st.integers(1, 12))
    @settings(deadline=None)
    def test_short_documents_stay_whole(self, lengths, seq_len, window):
        """A document that fits a row lies in one row, in one piece; a longer one has no more pieces than it must."""
        documents = numbered(lengths)
        rows = run(documents, seq_len=seq_len, mode="best_fit", window=window)["tokens"].to_pylist()
        place = {token: (r, c) for r, row in enumerate(rows) for c, token in enumerate(row) if token}
        for document in documents:
            for start in range(0, len(document), seq_len):
                spots = [place[token] for token in document[start : start + seq_len]]
                assert len({row for row, _ in spots}) == 1
                assert [column for _, column in spots] == list(range(spots[0][1], spots[0][1] + len(spots)))

    @given(LENGTHS, st.integers(1, 12))
    @settings(deadline=None)
    def test_no_two_rows_could_be_one(self, lengths, seq_len):
        """Within a window at most one row is half empty or more: two of them would have been filled as one."""
        used = run(numbered(lengths), seq_len=seq_len, mode="best_fit", window=1000)["n_tokens"].to_pylist()
        assert sum(each * 2 <= seq_len for each in used) <= 1

    def test_wastes_less_than_one_document_a_row(self):
        """On mixed lengths best fit pads little: under 5% for documents up to half a row."""
        lengths = np.random.default_rng(0).integers(1, 64, 2000)
        table = run(numbered(lengths.tolist()), kind=pa.list_(pa.uint32()), seq_len=128, mode="best_fit")
        assert lengths.sum() / (table.num_rows * 128) > 0.95

    @given(LENGTHS, st.integers(1, 12), st.integers(1, 7))
    @settings(deadline=None)
    def test_windows_are_independent(self, lengths, seq_len, window):
        """Each window packs as if alone: memory and mixing are bounded by it."""
        documents = numbered(lengths)
        whole = run(documents, seq_len=seq_len, mode="best_fit", window=window)
        table = table_of(documents)
        parts = [
            bind("pack", {"seq_len": seq_len, "mode": "best_fit", "window": window})(table.slice(i, window), KEYS)
            for i in range(0, len(lengths), window)
        ]
        assert not parts or pa.concat_tables(parts).to_pydict() == whole.to_pydict()


@pytest.mark.parametrize("mode", ["concat", "best_fit"])
class TestBoth:
    @given(lengths=LENGTHS, seq_len=st.integers(1, 12), window=st.integers(1, 50))
    @settings(deadline=None)
    def test_no_token_lost_or_invented(self, mode, lengths, seq_len, window):
        """Without padding the rows hold each token once; counts, segments and ids say what the rows hold."""
        documents = numbered(lengths)
        table = run(documents, seq_len=seq_len, mode=mode, window=window)
        owner = {token: i for i, document in enumerate(documents) for token in document}
        seen = []
        for row in table.to_pylist():
            segments, tokens = row["segment_ids"], row["tokens"]
            kept = [token for token, segment in zip(tokens, segments, strict=True) if segment]
            assert tokens[: len(kept)] == kept, "padding comes last"
            assert segments[len(kept) :] == [0] * (seq_len - len(kept))
            assert len(kept) == row["n_tokens"] > 0
            owners = [owner[token] for token in kept]
            distinct = list(dict.fromkeys(owners))
            assert segments[: len(kept)] == [distinct.index(each) + 1 for each in owners]
            assert distinct == sorted(distinct), "documents of a row keep their order"
            assert row["n_documents"] == len(distinct)
            assert row["row_id"] == f"d{distinct[0]}"
            seen += kept
        assert sorted(seen) == sorted(owner)

    def test_nothing_in(self, mode):
        """No documents, or none with a token: no rows, and the schema of every other day."""
        full = run([[1]], seq_len=4, mode=mode)
        for documents in ([], [[]], [[], []], [None]):
            empty = run(documents, seq_len=4, mode=mode)
            assert empty.num_rows == 0
            assert empty.schema == full.schema

    @pytest.mark.parametrize(
        ("kind", "out"),
        [
            (pa.list_(pa.uint16()), pa.uint16()),
            (pa.large_list(pa.uint16()), pa.uint16()),
            (pa.list_(pa.uint32()), pa.int32()),
            (pa.list_(pa.int64()), pa.int32()),
        ],
    )
    def test_types(self, mode, kind, out):
        """uint16 stays, wider integers become int32; seq_len is in the type."""
        table = run([[1, 2, 3]], kind, seq_len=2, mode=mode)
        assert table.schema.field("tokens").type == pa.list_(out, 2)
        assert table.schema.field("segment_ids").type == pa.list_(pa.uint16(), 2)
        assert table.schema.field("n_tokens").type == pa.int32()
        assert table.schema.field("n_documents").type == pa.int32()

    def test_slices_nulls_and_chunks(self, mode):
        """A null document is one without tokens, also where the null hides values; slices and chunks do not matter."""
        values = pa.ListArray.from_arrays(
            pa.array([0, 2, 4, 6], pa.int32()),
            pa.array([1, 2, 3, 4, 5, 6], pa.uint16()),
            mask=pa.array([False, True, False]),
        )
        table = pa.table({"row_id": ["a", "b", "c"], "tokens": values})
        step = bind("pack", {"seq_len": 2, "mode": mode})
        assert step(table, KEYS)["tokens"].to_pylist() == [[1, 2], [5, 6]]
        assert step(table.slice(1), KEYS)["row_id"].to_pylist() == ["c"]
        chunked = pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(2, 0)])
        assert step(chunked, KEYS).equals(step(table, KEYS))

    @given(lengths=LENGTHS, seq_len=st.integers(1, 12))
    @settings(deadline=None)
    def test_what_it_cost(self, mode, lengths, seq_len):
        """Padding, long documents and cuts, against a count row by row."""
        documents = numbered(lengths)
        rows = run(documents, seq_len=seq_len, mode=mode)
        counts = packed_counts(table_of(documents), rows)
        segments = rows["segment_ids"].to_pylist()
        owner = {token: i for i, document in enumerate(documents) for token in document}
        places = {(i, owner[token]) for i, row in enumerate(rows["tokens"].to_pylist()) for token in row if token}
        assert counts == {
            "pack.cuts": len(places) - len({document for _, document in places}),
            "pack.long_documents": sum(length > seq_len for length in lengths),
            "pack.padding_tokens": sum(row.count(0) for row in segments),
            "pack.row_tokens": sum(map(len, segments)),
        }
        if mode == "best_fit":
            assert counts["pack.cuts"] == sum(max(0, -(-length // seq_len) - 1) for length in lengths)

    def test_more_documents_than_uint16(self, mode):
        """A row of 70,000 one-token documents: segment ids widen with seq_len, they never wrap."""
        table = run([[7]] * 70_000, seq_len=70_000, mode=mode, window=70_000)
        segments = table["segment_ids"].combine_chunks().flatten().to_numpy()
        assert segments.tolist() == list(range(1, 70_001))

    @pytest.mark.parametrize(
        ("table", "options", "message"),
        [
            (pa.table({"row_id": ["a"], "tokens": ["x"]}), {}, "type string"),
            (pa.table({"row_id": ["a"], "tokens": pa.array([[1.5]])}), {}, "list of integers"),
            (table_of([[1, -1]], pa.list_(pa.int32())), {}, "0 to 2\\^31"),
            (table_of([[1 << 31]], pa.list_(pa.uint32())), {}, "0 to 2\\^31"),
            (table_of([[1, None]]), {}, "1 tokens are null"),
            (table_of([[1]]), {"pad_id": 65_536}, "at most 65535"),
        ],
    )
    def test_bad_tokens(self, mode, table, options, message):
        """Columns that are no tokens, ids that fit no type and a pad_id that does not fit are refused."""
        with pytest.raises(ConfigError, match=message):
            bind("pack", {"seq_len": 4, "mode": mode, **options})(table, KEYS)


@pytest.mark.parametrize(
    "options",
    [{"seq_len": 0}, {"seq_len": 1 << 21}, {"pad_id": -1}, {"window": 0}, {"mode": "bestfit"}, {"seq_len": True}],
)
def test_bad_options(options):
    with pytest.raises(ConfigError, match="pack"):
        bind("pack", options)
