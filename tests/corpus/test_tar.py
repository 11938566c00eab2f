"""Tar files of samples: rows, and every kind of member and damage that is none."""

import contextlib
import gzip
import io
import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.corpus import Piece, ReadOptions, SourceFile, read_piece
from datapipe.corpus.byte_stream import ByteStream
from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.tar_stream import TarStream

OPTIONS = ReadOptions(text_column=None, columns=("*",), media="image")


def archive(members, *, mode="w", **how):
    """The bytes of a tar of (name, bytes, fields of TarInfo)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, **how) as tar:
        for name, data, *fields in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in (fields[0] if fields else {}).items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def read(tmp_path, data, name="s.tar", **options):
    (tmp_path / name).write_bytes(data)
    file = SourceFile(root=str(tmp_path), path=name, name=name, format="tar", size=len(data), etag="")
    batches = list(read_piece(Piece(file=file), options=ReadOptions(**{**vars(OPTIONS), **options})))
    rows = [row for batch in batches for row in batch.table.to_pylist()]
    return rows, [(row.row_id, row.reason) for batch in batches for row in batch.quarantined]


SAMPLES = [
    ("d", b"", {"type": tarfile.DIRTYPE}),
    ("d/1.jpg", b"one"),
    ("d/1.cls", b" 7\n"),
    ("d/1.json", json.dumps({"w": 3, "caption": "a", "image": "no", "label": "other"}).encode()),
    ("d/1.mask.png", b"mask"),
    ("./2.png", b"two"),
    ("2.txt", b"caption \xff"),
]


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.tgz"])
def test_members_of_one_name_are_a_row(tmp_path, name):
    """Picture, label, text, fields and further members; fields that a row lacks are null."""
    data = archive(SAMPLES)
    rows, bad = read(tmp_path, data if name == "s.tar" else gzip.compress(data), name)
    assert bad == []
    none = dict.fromkeys(("w", "caption", "mask.png", "text"))
    assert rows == [
        {"row_id": f"{name}:0", "image": b"one", "path": "d/1.jpg", "label": "7", **none}
        | {"w": "3", "caption": "a", "mask.png": b"mask"},
        {"row_id": f"{name}:1", "image": b"two", "path": "2.png", "label": None, **none, "text": "caption \ufffd"},
    ]


def test_members_asked_for_by_name_are_bytes(tmp_path):
    """A column that is named is what it is under "*"; one that no row has is null text."""
    rows, _ = read(tmp_path, archive(SAMPLES), columns=("mask.png", "caption", "none"))
    assert [(row["mask.png"], row["caption"], row["none"]) for row in rows] == [
        (b"mask", "a", None),
        (None, None, None),
    ]
    assert "w" not in rows[0]


def test_batches_are_bounded_by_all_that_they_hold(tmp_path):
    """Members beside the picture count where they are asked for, and are let go where they are not."""
    data = archive([each for i in range(6) for each in ((f"{i}.jpg", b"j"), (f"{i}.npy", bytes(1000)))])
    (tmp_path / "s.tar").write_bytes(data)
    file = SourceFile(root=str(tmp_path), path="s.tar", name="s.tar", format="tar", size=len(data), etag="")

    def sizes(columns):
        options = ReadOptions(text_column=None, columns=columns, media="image", max_batch_bytes=2000)
        return [batch.table.num_rows for batch in read_piece(Piece(file=file), options=options)]

    assert sizes(("*",)) == sizes(("npy",)) == [2, 2, 2]
    assert sizes(("text",)) == [6]


def test_hostile_members_cost_their_row_alone(tmp_path):
    """Nothing leads out of the file, nothing is held that is larger than a row may be; the rows between are read."""
    members = [
        ("/etc/a.jpg", b"x"),
        ("../b.jpg", b"x"),
        ("c.jpg", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("d.jpg", b"", {"type": tarfile.LNKTYPE, "linkname": "a.jpg"}),
        ("e.jpg", b"", {"type": tarfile.CHRTYPE}),
        ("f.jpg", b"y" * 2000),
        ("g.jpg", b"x"),
        ("g.jpg", b"x"),
        ("h.txt", b"no picture"),
        ("i.jpg", b"x"),
        ("i.json", b"[1"),
        ("good.jpg", b"good"),
    ]
    rows, bad = read(tmp_path, archive(members), max_row_bytes=1000)
    assert [row["image"] for row in rows] == [b"good"]
    reasons = ["unsafe_path"] * 2 + ["not_regular_file"] * 3
    reasons += ["row_too_large", "malformed_row", "missing_media", "invalid_json"]
    assert bad == [(f"s.tar:{number}", reason) for number, reason in enumerate(reasons)]


def test_a_cut_file_gives_every_row_before_the_cut(tmp_path):
    """Wherever it is cut, at a member's end too: the rows before, then "truncated_file"."""
    data = archive([(f"{n}.jpg", bytes([n + 1]) * 512) for n in range(4)])
    for cut in range(0, 4 * 1024 + 512, 256):
        rows, bad = read(tmp_path, data[:cut])
        assert [row["image"][0] - 1 for row in rows] == list(range(len(rows)))
        # The row at hand may be whole, and its end not: it is given where all of its bytes are there.
        assert len(rows) in (cut // 1024, cut // 1024 - 1)
        assert [reason for _, reason in bad] == ["truncated_file"]
    assert read(tmp_path, data[: 4 * 1024 + 1024]) == (read(tmp_path, data)[0], [])


def test_what_lies_behind_the_end_is_not_lost_without_a_word(tmp_path):
    """Of two archives in one file the first one's rows, then the fault; padding of any usual length is none."""
    one, two = archive([("1.jpg", b"one")]), archive([("2.jpg", b"two")])
    rows, bad = read(tmp_path, one + two)
    assert ([row["image"] for row in rows], [reason for _, reason in bad]) == ([b"one"], ["damaged_file"])
    for name, data in (("s.tar", one), ("s.tar", one + bytes(1 << 20)), ("s.tar.gz", gzip.compress(one))):
        rows, bad = read(tmp_path, data, name)
        assert (len(rows), bad) == (1, [])


def test_headers_that_lie(tmp_path):
    """Extended headers of any declared size, chains of them, negative sizes: damage, and no memory for it."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    assert read(tmp_path, info.tobuf() + bytes(4096))[1] == [("s.tar:0", "damaged_file")]
    info.size = 512
    chain = (info.tobuf() + b"11 a=bbbbb\n".ljust(512, b"\0")) * 3000
    assert read(tmp_path, chain)[1][0][1] in ("damaged_file", "truncated_file")
    pax = archive([("1.jpg", b"x", {"pax_headers": {"size": "-1024"}})], format=tarfile.PAX_FORMAT)
    assert [reason for _, reason in read(tmp_path, pax)[1]][-1] in ("damaged_file", "truncated_file")
    many = [(f"{n}.jpg", b"x", {"pax_headers": {}}) for n in range(2)]
    out = archive(many, format=tarfile.PAX_FORMAT, pax_headers={f"k{n}": "v" for n in range(5000)})
    assert [reason for _, reason in read(tmp_path, out)[1]] == ["damaged_file"]


@given(st.binary(max_size=60), st.integers(0, 4000), st.integers(1, 6))
def test_any_bytes_end(noise, at, times):
    """Whatever stands in a file, reading it ends, with rows or a fault, and no other error."""
    data = bytearray(archive(SAMPLES))
    data[at : at + len(noise) * times] = noise * times
    stream = io.BytesIO(bytes(data))
    tar = TarStream(ByteStream(stream.read))
    with contextlib.suppress(FileFault):
        for member in tar.members():
            if member.isreg() and 0 <= member.size <= 1 << 20:
                tar.content(member)
    assert stream.tell() <= len(data)
