"""url_filter: hosts, beginnings of URLs and words of URLs, however a URL is written."""

from __future__ import annotations

import pyarrow as pa
import pytest

from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.url_filter import split_url


@pytest.fixture
def lists(tmp_path):
    """Options with three lists."""
    (tmp_path / "d").write_text("bad.example\nbücher.example\nhttp://Also.Bad/\n10.0.0.1\n")
    (tmp_path / "u").write_text("site.example/forum/\nhttps://one.example/page\n")
    (tmp_path / "w").write_text("Casino\n")
    return {"domains": [str(tmp_path / "d")], "urls": [str(tmp_path / "u")], "words": [str(tmp_path / "w")]}


GOLDEN = [
    ("https://bad.example/x", "url_blocked_domain", "bad.example"),
    ("http://WWW.Bad.Example.:8080/", "url_blocked_domain", "bad.example"),
    ("bad.example", "url_blocked_domain", "bad.example"),
    ("//bad.example/a", "url_blocked_domain", "bad.example"),
    ("https://user:pw@sub.bad.example", "url_blocked_domain", "bad.example"),
    ("https://notbad.example/", None, None),
    ("https://bad.example.org/", None, None),
    ("https://bücher.example/", "url_blocked_domain", "xn--bcher-kva.example"),
    ("https://xn--bcher-kva.example/", "url_blocked_domain", "xn--bcher-kva.example"),
    ("http://also.bad", "url_blocked_domain", "also.bad"),
    ("http://10.0.0.1:80/x", "url_blocked_domain", "10.0.0.1"),
    ("https://site.example/forum/t/1?x=2", "url_blocked_url", "site.example/forum/"),
    ("https://site.example/forums/", None, None),
    ("https://one.example/page", "url_blocked_url", "one.example/page"),
    ("https://one.example/page?x", "url_blocked_url", "one.example/page"),
    ("https://one.example/pages", None, None),
    ("https://x.example/best-CASINO-2024", "url_blocked_word", "casino"),
    ("https://x.example/casinos", None, None),
    ("http://[::1", None, None),
    ("", None, None),
    (None, None, None),
    ("not a url", None, None),
]


def test_golden(lists):
    """Each URL, what it is blocked for, and by which entry."""
    urls = [url for url, _, _ in GOLDEN]
    table = pa.table({"row_id": [str(i) for i in range(len(urls))], "url": pa.array(urls, pa.string())})
    ran = run_steps(table, [bind("url_filter", lists)], Keys())
    found = {row["row_id"]: (row["reason"], row["detail"]) for row in ran.marked.to_pylist()}
    assert [found.get(str(i), (None, None)) for i in range(len(urls))] == [(why, entry) for _, why, entry in GOLDEN]


def test_the_column_is_the_users(lists):
    """It is named by an option, and the step says that it needs it."""
    step = bind("url_filter", {**lists, "column": "source"})
    assert step.spec.needs == ("source",)
    table = pa.table({"row_id": ["0", "1"], "source": ["bad.example", "fine.example"]})
    assert run_steps(table, [step], Keys()).table["row_id"].to_pylist() == ["1"]


@pytest.mark.parametrize(
    "url", ["http://", "://x", "a" * 100_000, "http://" + "." * 1000, "http://\ud7ff.é/" + "/" * 9999]
)
def test_no_url_is_an_error(url):
    """Whatever stands in the column."""
    host, _ = split_url(url)
    assert isinstance(host, str)
