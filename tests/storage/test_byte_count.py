"""Sizes are read as people write them."""

import pytest

from datapipe.errors import ConfigError
from datapipe.storage.byte_count import byte_count


@pytest.mark.parametrize(
    ("written", "count"),
    [(5, 5), ("5", 5), ("20 GB", 20 * 10**9), ("1.5kB", 1500), ("512 MiB", 512 << 20), ("1TiB", 1 << 40), ("3g", 3e9)],
)
def test_sizes_are_read_as_people_write_them(written, count):
    assert byte_count("max_bytes", written) == count


@pytest.mark.parametrize("written", [0, -1, True, 1.5, None, "", "GB", "20 XB", "20 iB", "-1 GB", "0"])
def test_what_is_no_size_is_refused(written):
    with pytest.raises(ConfigError, match="max_bytes"):
        byte_count("max_bytes", written)
