"""Rows between stages, encrypted: what went in comes out, to who has the secret; a changed file is told."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import EncryptionError
from datapipe.preprocess import sealed_file
from datapipe.preprocess.sealed_file import SealedSink, SealedSource, is_sealing, sealed


def written(path, parts):
    with sealed(b"s" * 32), SealedSink(str(path)) as sink:
        for part in parts:
            sink.write(part)
    return path.read_bytes()


@settings(max_examples=25, deadline=None)
@given(parts=st.lists(st.binary(max_size=40), max_size=6), start=st.integers(0, 120), size=st.integers(0, 120))
def test_any_part_of_what_went_in_comes_out(tmp_path_factory, parts, start, size):
    """Whatever the cut it was written in, and from any place on."""
    whole, path = b"".join(parts), tmp_path_factory.mktemp("s") / "f"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_file, "FRAME", 16)
        data = written(path, parts)
        assert data == written(path, [whole])  # the same bytes, whatever the cut
        with sealed(b"s" * 32):
            source = SealedSource(io.BytesIO(data), "f")
            assert source.size() == len(whole)
            source.seek(start)
            assert source.read(size) == whole[start : start + size]


def test_what_was_changed_moved_or_cut_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sealed_file, "FRAME", 16)
    data = written(tmp_path / "f", [b"PLANTED secret " * 8])
    assert b"PLANTED" not in data
    first = len(sealed_file.MAGIC)
    frame = 16 + 16
    swapped = data[:first] + data[first + frame : first + 2 * frame] + data[first : first + frame] + data[first + 64 :]
    flipped = data[:40] + bytes([data[40] ^ 1]) + data[41:]
    with sealed(b"s" * 32):
        for bad in (swapped, flipped, data[: first + 2 * frame], data[:-1]):
            with pytest.raises(EncryptionError):
                SealedSource(io.BytesIO(bad), "f").read()
    with sealed(b"t" * 32), pytest.raises(EncryptionError):
        SealedSource(io.BytesIO(data), "f").read()
    assert not is_sealing()
    with pytest.raises(EncryptionError):
        SealedSource(io.BytesIO(data), "f")
