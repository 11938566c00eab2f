"""Encodings that documents declare: read as browsers read them, and only if they are text encodings."""

from __future__ import annotations

import codecs

import pyarrow as pa
import pytest

from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.charsets import CODEC_OF, declared_codec
from datapipe.steps.decode import decode_bytes


@pytest.mark.parametrize(
    ("head", "media_type", "codec"),
    [
        (b"<meta charset=windows-1251>", None, "cp1251"),
        (b'<html><META CHARSET="ISO-8859-1" />', "text/html", "cp1252"),
        (b"<meta http-equiv='Content-Type' content='text/html; charset=Shift_JIS'>", None, "cp932"),
        (b"<?xml version='1.0' encoding='iso-8859-2'?><html>", "application/xhtml+xml", "iso8859-2"),
        (b"<p>none", "text/html; charset=EUC-KR", "cp949"),
        (b"<meta charset=big5>", "text/html; charset=gbk", "gb18030"),  # the transport's word comes first
        (b"<meta charset=big5>", "text/html; charset=nonsense", "big5hkscs"),
        (b"<meta charset=utf-8>", None, None),
        (b"<meta charset=utf-7>", None, None),
        (b"<meta charset=base64>", None, None),
        (b"<meta name=description content='charset'>", None, None),
        (b" " * 1025 + b"<meta charset=big5>", None, None),
        (b"", None, None),
    ],
)
def test_declared(head, media_type, codec):
    """By media type, <meta> or XML declaration, in this order; unknown names are not followed."""
    assert declared_codec(head, media_type) == codec


@pytest.mark.parametrize("label", sorted(CODEC_OF))
def test_every_codec_is_a_text_encoding(label):
    """Each name of the table is a codec of this Python that keeps ASCII as it is."""
    assert codecs.lookup(CODEC_OF[label])._is_text_encoding
    assert b"<p>plain".decode(CODEC_OF[label]) == "<p>plain"


@pytest.mark.parametrize(
    ("text", "label", "codec"),
    [
        ("Привет, мир", "windows-1251", "cp1251"),
        ("日本語の文章です", "shift_jis", "cp932"),
        ("日本語の文章です", "euc-jp", "euc-jp"),
        ("中文没有空格", "gb2312", "gb18030"),
        ("“café” €", "iso-8859-1", "cp1252"),
        ("zażółć gęślą", "iso-8859-2", "iso8859-2"),
        ("한국어 문장", "euc-kr", "cp949"),
    ],
)
def test_pages_come_through(text, label, codec):
    """A page in an old encoding is read in it, without a bad byte; UTF-8 that says another name stays UTF-8."""
    page = f"<meta charset={label}><p>{text}"
    assert decode_bytes(page.encode(codec)) == (page, 0)
    assert decode_bytes(page.encode()) == (page, 0)
    raw = pa.array([page.encode(codec), b"plain"], pa.large_binary())
    table = pa.table({"row_id": ["0", "1"], "media_type": ["text/html", None], "raw": raw})
    assert run_steps(table, [bind("decode")], Keys()).table["text"].to_pylist() == [page, "plain"]


def test_bad_bytes_are_counted():
    """What the declared encoding has no character for is replaced and counted, as in UTF-8."""
    assert decode_bytes(b"<meta charset=windows-1252>\x81 caf\xe9") == ("<meta charset=windows-1252>\ufffd café", 1)
    assert decode_bytes(b"caf\xe9") == ("caf\ufffd", 1)
    assert decode_bytes(b"\xef\xbb\xbf<meta charset=big5>\xe9") == ("<meta charset=big5>\ufffd", 1)
