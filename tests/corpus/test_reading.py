"""The reader contract: one class, and the reader of every format with rows is held to it."""

import dataclasses
import pickle
import random

import pyarrow as pa
import pytest

from datapipe.corpus import FILE_REASONS, FORMATS, Piece, ReadOptions, discover, plan_splits, read_piece
from datapipe.errors import ConfigError, StorageError
from datapipe.storage import open_store


class TestConformance:
    def test_every_row_once_in_order(self, kind, corpus, makers, some_rows, reading):
        """The texts come out as they went in, with the file's name in every id, and no id twice."""
        expected = some_rows(23)
        found = corpus({kind: makers[kind](expected)})
        rows, quarantined, _ = reading(found.files)
        assert [row["text"] for row in rows] == [row["text"] for row in expected]
        assert quarantined == []
        assert all(row["row_id"].startswith(f"corpus/{kind}:") for row in rows)
        assert len({row["row_id"] for row in rows}) == 23
        assert {row["bad_bytes"] for row in rows} == {0}

    @pytest.mark.parametrize("target_bytes", [1, 37, 200, 1000])
    def test_ids_do_not_depend_on_the_cut(self, kind, corpus, makers, some_rows, reading, target_bytes):
        """However a file is cut, its rows and their ids are the same."""
        found = corpus({kind: makers[kind](some_rows(23))})
        assert reading(found.files, target_bytes=target_bytes)[0] == reading(found.files)[0]

    def test_the_same_from_elsewhere(self, kind, corpus, makers, some_rows, reading):
        """A remote copy under the same name gives the same rows and ids as the local one."""
        data = makers[kind](some_rows(23))
        here = corpus({kind: data})
        store = open_store("memory://elsewhere/corpus")
        store.put(kind, data)
        there = discover("memory://elsewhere/corpus")
        assert reading(there.files, target_bytes=100)[0] == reading(here.files)[0]
        store.delete(kind)

    def test_schema(self, kind, corpus, makers, some_rows, reading):
        """Columns, their order and their types are those of the contract, in every batch."""
        found = corpus({kind: makers[kind](some_rows(5))})
        _, _, batches = reading(found.files, columns=("n", "absent"))
        for batch in batches:
            schema = batch.table.schema
            assert schema.names == ["row_id", "media_type", "text", "bad_bytes", "n", "absent"]
            assert schema.types[:4] == [pa.string(), pa.string(), pa.large_string(), pa.int32()]
            assert batch.table["absent"].null_count == batch.table.num_rows

    def test_further_columns_are_carried(self, kind, corpus, makers, some_rows, reading):
        found = corpus({kind: makers[kind](some_rows(9))})
        rows, _, _ = reading(found.files, columns=("n",))
        assert [int(row["n"]) for row in rows] == list(range(9))

    def test_own_ids(self, kind, corpus, makers, some_rows, reading):
        """With an id column that column's value is the row id, as a string; numbers too."""
        found = corpus({kind: makers[kind](some_rows(9))})
        assert [row["row_id"] for row in reading(found.files, id_column="id")[0]] == [f"id-{i}" for i in range(9)]
        assert [row["row_id"] for row in reading(found.files, id_column="n")[0]] == [f"{i}" for i in range(9)]
        rows, quarantined, _ = reading(found.files, id_column="absent")
        assert rows == []
        assert {q.reason for q in quarantined} == {"missing_id"}
        assert len(quarantined) == 9

    def test_batches_are_bounded(self, kind, corpus, makers, reading):
        """A batch holds at most the bytes asked for and one row more."""
        expected = [{"id": f"{i}", "text": "x" * (i * 37 % 500), "n": i} for i in range(60)]
        found = corpus({kind: makers[kind](expected)})
        rows, _, batches = reading(found.files, max_batch_bytes=1000)
        assert [row["text"] for row in rows] == [row["text"] for row in expected]
        assert len(batches) > 5
        for batch in batches:
            assert sum(len(text) for text in batch.table["text"].to_pylist()[:-1]) <= 1000

    def test_rows_beyond_the_bound(self, kind, corpus, makers, reading):
        """A row that is too long is quarantined; its neighbours are not."""
        expected = [{"id": f"{i}", "text": "x" * (50_000 if i == 3 else 5), "n": i} for i in range(7)]
        found = corpus({kind: makers[kind](expected)})
        rows, quarantined, _ = reading(found.files, max_row_bytes=10_000)
        assert [row["text"] for row in rows] == ["xxxxx"] * 6
        assert [q.reason for q in quarantined] == ["row_too_large"]
        assert len(quarantined[0].excerpt) <= 200

    def test_no_text_column(self, kind, corpus, makers, some_rows, reading):
        """A wrong name of the text column loses no row silently, and the message names what there is."""
        found = corpus({kind: makers[kind](some_rows(3))})
        rows, quarantined, _ = reading(found.files, text_column="body")
        assert rows == []
        assert {q.reason for q in quarantined} <= {"missing_text", "no_text_column"}
        assert quarantined
        assert all("'body'" in q.detail and "'text'" in q.detail for q in quarantined)

    def test_a_file_that_vanished(self, kind, corpus, makers, some_rows, reading):
        found = corpus({kind: makers[kind](some_rows(3))})
        (corpus.root / kind).unlink()
        rows, quarantined, _ = reading(found.files)
        assert rows == []
        assert [(q.row_id, q.reason) for q in quarantined] == [(f"corpus/{kind}:0", "unreadable_file")]

    def test_a_file_that_may_not_be_read(self, kind, corpus, makers, some_rows, reading, monkeypatch):
        """Refused by the system (injected: the tests may run as root), a file is quarantined and told by name."""
        found = corpus({kind: makers[kind](some_rows(3))})

        def refuse(where):
            from datapipe.errors import AccessError

            raise AccessError(f"opening {where}: Permission denied")

        monkeypatch.setattr("datapipe.storage.local._open_file", refuse)
        rows, quarantined, _ = reading(found.files)
        assert rows == []
        assert [q.reason for q in quarantined] == ["unreadable_file"]
        assert kind in quarantined[0].detail

    def test_a_file_that_changed(self, kind, corpus, makers, some_rows, reading):
        """What was planned for one version is not read from another."""
        found = corpus({kind: makers[kind](some_rows(3))})
        (corpus.root / kind).write_bytes(makers[kind](some_rows(4)))
        rows, quarantined, _ = reading(found.files)
        assert rows == []
        assert [q.reason for q in quarantined] == ["changed_file"]

    def test_storage_that_fails_in_passing(self, kind, corpus, makers, some_rows, monkeypatch):
        """A fault that may pass is raised: rows are not written off because a network was down."""
        found = corpus({kind: makers[kind](some_rows(3))})

        def fail(where):
            raise StorageError(f"opening {where}: Input/output error")

        monkeypatch.setattr("datapipe.storage.local._open_file", fail)
        with pytest.raises(StorageError, match="Input/output"):
            list(read_piece(Piece(file=found.files[0])))

    def test_cut_short_anywhere(self, kind, corpus, makers, some_rows, reading):
        """A file cut at any byte gives a beginning of its rows, then its fault or fewer rows; it never raises."""
        expected = some_rows(12)
        data = makers[kind](expected)
        texts = [row["text"] for row in expected]
        for length in sorted({*range(0, len(data), max(1, len(data) // 60)), len(data) - 1, len(data) - 2, 1, 5}):
            rows, quarantined, _ = reading(corpus({kind: data[:length]}).files)
            got = [row["text"] for row in rows]
            if kind in ("a.csv", "a.tsv.gz") and got:
                got = got[:-1]  # a field cut short is a field
            assert got == texts[: len(got)]
            assert len(rows) + len(quarantined) <= 13
            if kind.endswith((".gz", ".zst", ".parquet", ".arrow")) and length:
                assert quarantined[-1].reason in FILE_REASONS

    def test_damaged_anywhere(self, kind, corpus, makers, some_rows, reading):
        """Whatever bytes are changed, reading ends in rows of valid text and reasons."""
        data = makers[kind](some_rows(12))
        rng = random.Random(7)
        for _ in range(120):
            damaged = bytearray(data)
            for _ in range(rng.randint(1, 6)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            rows, quarantined, _ = reading(corpus({kind: bytes(damaged)}).files)
            for row in rows:
                row["text"].encode("utf-8")
            assert all(q.reason and q.row_id.startswith(f"corpus/{kind}:") for q in quarantined)

    def test_an_empty_file(self, kind, corpus, reading):
        """No bytes are no rows; where a format needs a footer, they are a damaged file."""
        rows, quarantined, _ = reading(corpus({kind: b""}).files)
        assert rows == []
        assert [q.reason for q in quarantined] == (
            ["damaged_file"] if kind in ("a.parquet", "a.arrow", "a.feather") else []
        )

    def test_pieces_travel(self, kind, corpus, makers, some_rows):
        """Pieces are plain data: pickled, hashed, compared; and show no root."""
        found = corpus({kind: makers[kind](some_rows(23))})
        for split in plan_splits(found.files, target_bytes=100):
            assert pickle.loads(pickle.dumps(split)) == split
            hash(split)
            assert "root=" not in repr(split)


def test_an_unknown_format(corpus):
    (file,) = corpus({"a.jsonl": b""}).files
    piece = Piece(file=dataclasses.replace(file, format="warc"))
    with pytest.raises(ConfigError, match="warc"):
        list(read_piece(piece))


def test_the_registry_is_complete():
    """Every format is told by a suffix, and no suffix tells two."""
    suffixes = [suffix for entry in FORMATS.values() for suffix in entry.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(name == entry.name for name, entry in FORMATS.items())


@pytest.mark.parametrize(
    "options",
    [
        {"text_column": ""}, {"id_column": ""}, {"columns": "url"}, {"columns": ("row_id",)}, {"columns": ("a", "a")},
        {"max_batch_bytes": 0}, {"max_row_bytes": -1}, {"max_row_bytes": 1.5}, {"max_batch_bytes": True},
    ],
)  # fmt: skip
def test_options_are_validated(options):
    with pytest.raises(ConfigError):
        ReadOptions(**options)
