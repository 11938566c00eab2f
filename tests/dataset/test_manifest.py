"""The manifest: what it refuses, and that the same content gives the same file."""

import json

import pytest

from datapipe import open_dataset
from datapipe.dataset import parse_manifest
from datapipe.errors import ManifestError


def broken(manifest, change) -> bytes:
    raw = json.loads(manifest.to_json())
    change(raw)
    return json.dumps(raw).encode()


def set_in(raw, path, value):
    *parents, last = path
    for key in parents:
        raw = raw[key]
    raw[last] = value


def test_round_trip_gives_the_same_bytes(made):
    manifest = made[1]
    again = parse_manifest(manifest.to_json(), where="here")
    assert again == manifest
    assert again.to_json() == manifest.to_json()


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (["shards", 0, "path"], "../outside.parquet", "inside the dataset"),
        (["shards", 0, "path"], "/etc/passwd", "inside the dataset"),
        (["shards", 0, "path"], "data/../../x", "inside the dataset"),
        (["shards", 0, "path"], "C:\\x.parquet", "backslash"),
        (["shards", 0, "path"], "s3://bucket/x", "inside the dataset|scheme"),
        (["shards", 0, "path"], "a\0b", "NUL"),
        (["vocabulary", "path"], "../tokenizer.json", "inside the dataset"),
        (["shards", 0, "rows"], -1, "greater than or equal to 0"),
        (["shards", 0, "rows"], 10**30, "less than|Unable to parse|valid integer"),
        (["shards", 0, "rows"], "10", "valid integer"),
        (["shards", 0, "rows"], 11, "row groups hold 10 rows"),
        (["shards", 0, "row_groups", "rows"], [10], "differ in length"),
        (["shards", 0, "checksum", "value"], "abc", "pattern"),
        (["shards", 0, "checksum", "algorithm"], "md5", "xxh3_128"),
        (["shards", 0, "format"], "pickle", "parquet"),
        (["shards"], None, "shards"),
        (["version"], 99, "version 1"),
        (["format"], "other", "not a datapipe manifest"),
        (["surprise"], 1, "[Ee]xtra"),
        (["fingerprint"], "dp1-" + "0" * 32, "from its shards"),
        (["arrow_schema"], "!!!", "schema cannot be read"),
    ],
)
def test_a_wrong_manifest_is_refused_with_what_is_wrong(made, path, value, says):
    """Each is one ManifestError, through the API, and no file is touched."""
    folder, manifest = made
    data = broken(manifest, lambda raw: set_in(raw, path, value))
    with pytest.raises(ManifestError, match=says):
        parse_manifest(data, where="here")
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(ManifestError):
        open_dataset(str(folder))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_bytes_that_are_no_manifest_are_refused(data):
    with pytest.raises(ManifestError):
        parse_manifest(data, where="here")


def test_a_shard_listed_twice_is_refused(made):
    data = broken(made[1], lambda raw: raw["shards"].append(raw["shards"][0]))
    with pytest.raises(ManifestError, match="listed twice"):
        parse_manifest(data, where="here")


def test_totals_add_up(made):
    total = made[1].total()
    assert (total.documents_in, total.out, total.dropped, total.duplicates) == (23, 17, {"short": 2}, 2)
    assert total.quarantined == {"bad": 2}
    assert total.unaccounted == 0
    assert made[1].rows == 17
    assert made[1].tokens == 68
