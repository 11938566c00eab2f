"""A file over ranges: exact bytes in few requests."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.storage.range_reader import RangeReader

DATA = bytes(i * 7 % 251 for i in range(300_000))


def reader(data=DATA):
    requests = []

    def fetch(start, end):
        assert 0 <= start < end <= len(data)
        requests.append((start, end))
        return data[start:end]

    return io.BufferedReader(RangeReader(fetch, len(data)), 1 << 12), requests


@given(st.lists(st.tuples(st.integers(0, 310_000), st.integers(0, 150_000)), max_size=12))
def test_reads_like_a_file(moves):
    """Any sequence of seeks and reads gives what the same on a real file does."""
    file, _ = reader()
    real = io.BytesIO(DATA)
    for at, size in moves:
        assert file.seek(at) == real.seek(at)
        assert file.read(size) == real.read(size)
        assert file.tell() == real.tell()


def test_reading_on_takes_few_requests():
    """Sequential reading of 100 MB takes tens of requests, not thousands, and each byte once."""
    size = 100 << 20
    asked = []

    def fetch(start, end):
        asked.append(end - start)
        return bytes(end - start)

    file = io.BufferedReader(RangeReader(fetch, size), 1 << 12)
    while file.read(1 << 16):
        pass
    assert sum(asked) == size
    assert len(asked) < 30
    assert max(asked) <= 8 << 20


def test_a_footer_takes_one_request():
    file, requests = reader()
    file.seek(-8, io.SEEK_END)
    assert file.read(8) == DATA[-8:]
    assert requests == [(len(DATA) - 8, len(DATA))]


def test_faults_come_through():
    """An error of the store is raised as it is."""
    from datapipe.errors import IntegrityError

    def fetch(start, end):
        raise IntegrityError("short")

    with pytest.raises(IntegrityError):
        io.BufferedReader(RangeReader(fetch, 10)).read()


def test_seeking_before_the_start():
    with pytest.raises(ValueError, match="before the start"):
        RangeReader(lambda a, b: b"", 10).seek(-1)
