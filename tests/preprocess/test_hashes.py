"""Hash files: any range of hashes is read alone, whatever the buckets."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import StorageError
from datapipe.preprocess.hashes import digests_of, digests_of_ids, encode_hashes, read_hashes
from datapipe.storage import open_store

DIGESTS = st.lists(st.binary(min_size=16, max_size=16), max_size=40)


def column(digests):
    return pa.array(digests, pa.binary(16))


@given(DIGESTS, st.integers(1, 255))
def test_ranges_add_up_to_the_file(tmp_path_factory, digests, cut):
    """What two ranges hold together is every record, sorted by hash, each with its position."""
    store = open_store(str(tmp_path_factory.mktemp("hashes")))
    store.put("x.hashes", encode_hashes(digests_of(column(digests)), np.arange(len(digests))))
    parts = [read_hashes(store, "x.hashes", 0, cut), read_hashes(store, "x.hashes", cut, 256)]
    got = [
        (int(r["high"]).to_bytes(8, "big") + int(r["low"]).to_bytes(8, "big"), int(r["position"]))
        for part in parts
        for r in part
    ]
    assert got == sorted((digest, i) for i, digest in enumerate(digests))
    assert all(int(r["high"]) >> 56 < cut for r in parts[0])


@given(DIGESTS)
def test_digests_are_read_where_a_column_is_cut(digests):
    """Slices and chunks of a column give the same digests as the whole."""
    whole = column(digests)
    chunked = pa.chunked_array([whole[:3], whole[3:5], whole[5:]])
    assert digests_of(chunked).tobytes() == b"".join(digests)


def test_ids_are_hashed_by_their_text():
    """Equal ids have equal hashes, others not."""
    digests = digests_of_ids(["a", "b", "a", "", "é"])
    assert bytes(digests[0]) == bytes(digests[2])
    assert len({bytes(d) for d in digests}) == 4


def test_a_cut_file_is_no_hash_file(tmp_path):
    """A file that ends early raises; it never gives fewer records."""
    store = open_store(str(tmp_path))
    data = encode_hashes(digests_of_ids(["a", "b"]), np.arange(2))
    for end in (0, 100, len(data) - 1):
        store.put("x.hashes", data[:end])
        with pytest.raises(StorageError):
            read_hashes(store, "x.hashes")
