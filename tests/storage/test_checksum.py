"""Checksums of bytes and of files are the same, and are those that xxhash publishes."""

import pytest

from datapipe.errors import NotFoundError
from datapipe.storage import checksum_bytes, checksum_file


def test_golden():
    """The xxh3_128 of nothing, as in xxHash's own test vectors."""
    assert checksum_bytes(b"") == "99aa06d3014798d86001c324468d497f"


@pytest.mark.parametrize("size", [0, 1, 4 << 20, (4 << 20) + 3, 9 << 20])
def test_files(tmp_path, size):
    data = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "x").write_bytes(data[:size])
    assert checksum_file(tmp_path / "x") == checksum_bytes(data[:size]) == checksum_bytes(memoryview(data)[:size])


def test_missing(tmp_path):
    with pytest.raises(NotFoundError):
        checksum_file(tmp_path / "none")
