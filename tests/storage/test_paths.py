"""Names of objects, and URLs cut in two."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.storage.paths import checked_path, local_root, scheme_of, split_url

PARTS = st.one_of(st.sampled_from(["..", ".", "", "a", "C:", "\\", "..\\", "~", "\0"]), st.text(max_size=4))


@given(st.lists(PARTS, max_size=6), st.sampled_from(["/", "\\", "/../"]))
def test_what_is_let_through_stays_below_the_root(parts, joint):
    """Whatever the parts, a path that is accepted stays below its root when joined and normalised."""
    path = joint.join(parts)
    try:
        checked_path(path)
    except ConfigError:
        return
    root = "/some/root"
    joined = os.path.normpath(f"{root}/{path}")
    assert joined.startswith(root + "/"), path
    assert "\0" not in path


@pytest.mark.parametrize(
    ("url", "root", "path"),
    [
        ("s3://bucket/a/b.parquet", "s3://bucket/a", "b.parquet"),
        ("s3://bucket/b.parquet", "s3://bucket", "b.parquet"),
        ("gs://bucket/a/b/", "gs://bucket/a", "b"),
        ("https://h/a/b.txt", "https://h/a", "b.txt"),
        ("https://h/a/b.txt?sig=1/2", "https://h/a?sig=1/2", "b.txt"),
        ("https://h/b.txt", "https://h", "b.txt"),
        ("memory://b.txt", "memory:///", "b.txt"),
        ("memory://a/b.txt", "memory://a", "b.txt"),
        ("/a/b.txt", "/a", "b.txt"),
        ("/b.txt", "/", "b.txt"),
        ("file:///a/b%20c", "/a", "b c"),
        ("s3://bucket/a/what?.txt", "s3://bucket/a", "what?.txt"),
    ],
)
def test_split_url(url, root, path):
    """A query belongs to http(s) and stays with the root; elsewhere '?' is a letter."""
    assert split_url(url) == (root, path)


def test_split_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_url("b.txt") == (str(tmp_path), "b.txt")


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "https://user:pass@h?token=1", "/", "", "a\0b"])
def test_what_names_no_object(url):
    with pytest.raises(ConfigError) as caught:
        split_url(url)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("s3://b", "s3"), ("S3://b", "s3"), ("/a", None), ("a:b", None), ("file:///a", None), ("local:///a", None),
        ("C:\\x", None), ("simplecache::s3://b", "simplecache::s3"), ("a/b://c", None), ("", None),
    ],
)  # fmt: skip
def test_scheme(url, scheme):
    assert scheme_of(url) == scheme


def test_file_urls_of_other_hosts():
    with pytest.raises(ConfigError, match="host"):
        local_root("file://server/share")


def test_an_error_of_a_file_url_holds_no_password():
    with pytest.raises(ConfigError) as caught:
        local_root("file://u:hunter2@host/x")
    assert "hunter2" not in str(caught.value)
