"""A file of known size moves as files do."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.sized_file import SizedFile

SIZE = 100


@given(st.lists(st.tuples(st.integers(-250, 250), st.sampled_from([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END]))))
def test_it_moves_as_a_file_does(moves):
    """Any sequence of moves ends where it ends in a real file; before the start there is nothing."""
    file, real = SizedFile(SIZE), io.BytesIO(bytes(SIZE))
    for offset, whence in moves:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: real.tell(), io.SEEK_END: SIZE}[whence]
        if start + offset < 0:
            with pytest.raises(ValueError, match="before the start"):
                file.seek(offset, whence)
        else:
            assert file.seek(offset, whence) == real.seek(start + offset)
        assert file.tell() == real.tell()
    assert file.size() == SIZE
    assert file.readable()
    assert file.seekable()
    assert not file.writable()
