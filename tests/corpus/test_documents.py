"""One file, one document."""

import gzip

import pytest


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("x.txt", "text/plain"),
        ("README", "text/plain"),
        ("x.py", "text/plain"),
        ("x.html", "text/html"),
        ("x.HTM", "text/html"),
    ],
)
def test_bytes_come_as_they_are(one, name, media_type):
    """Decoding is a step's work: the reader hands on what is there, binary garbage included."""
    data = b"\xff\xfe\x00 raw \r\n"
    rows, quarantined = one(name, data)
    assert rows == [{"row_id": f"corpus/{name}:0", "media_type": media_type, "raw": data}]
    assert quarantined == []


def test_an_empty_file_is_a_document(one):
    """So that it is counted, and dropped by a rule that has a name."""
    assert one("x.txt", b"")[0] == [{"row_id": "corpus/x.txt:0", "media_type": "text/plain", "raw": b""}]


def test_compressed(one):
    data = b"text " * 1000
    assert one("x.txt.gz", gzip.compress(data))[0][0]["raw"] == data


def test_half_a_document_is_none(one):
    """A cut gzip gives no document; what could be read is shown as an excerpt."""
    rows, quarantined = one("x.txt.gz", gzip.compress(b"start of it " * 5000)[:-10])
    assert rows == []
    assert [(q.row_id, q.reason) for q in quarantined] == [("corpus/x.txt.gz:0", "truncated_file")]
    assert quarantined[0].excerpt.startswith("start of it")


@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz"])
def test_too_long(one, name):
    data = b"y" * 5000
    rows, quarantined = one(name, gzip.compress(data) if name.endswith(".gz") else data, max_row_bytes=4999)
    assert rows == []
    assert [q.reason for q in quarantined] == ["row_too_large"]
    assert len(one(name, gzip.compress(data) if name.endswith(".gz") else data, max_row_bytes=5000)[0]) == 1


def test_fields_that_documents_lack_are_null(one):
    rows, _ = one("x.md", b"a", columns=("url",), id_column="id")
    assert rows[0]["url"] is None
    assert rows[0]["row_id"] == "corpus/x.md:0"
