"""Which encoding a document that is not UTF-8 says it is in.

What enters: its first bytes and its media type. What leaves: the name of a Python codec, or None. Invariant: only names
of the table are followed, so no document chooses a codec that is no text encoding (base64, zip) or one that hides
markup (UTF-7).

Sources: the WHATWG Encoding Standard, section 4.2 (labels; "iso-8859-1" and "us-ascii" mean windows-1252, "gb2312"
means GBK, "shift_jis" its Windows superset), and HTML, section 13.2.3 (a transport's charset before a <meta>, looked
for in the first 1024 bytes). That is what browsers do, so it is what pages are written for.
"""

from __future__ import annotations

import re
from typing import Final

HEAD: Final = 1024

_CODECS: Final = {
    "cp1252": "windows-1252 cp1252 iso-8859-1 iso8859-1 latin1 latin-1 l1 us-ascii ascii",
    "cp1250": "windows-1250 cp1250",
    "cp1251": "windows-1251 cp1251",
    "cp1253": "windows-1253 cp1253",
    "cp1254": "windows-1254 cp1254 iso-8859-9 latin5",
    "cp1255": "windows-1255 cp1255",
    "cp1256": "windows-1256 cp1256",
    "cp1257": "windows-1257 cp1257",
    "cp1258": "windows-1258 cp1258",
    "cp874": "windows-874 tis-620 iso-8859-11",
    "cp866": "ibm866 cp866",
    "iso8859-2": "iso-8859-2 iso8859-2 latin2",
    "iso8859-3": "iso-8859-3",
    "iso8859-4": "iso-8859-4",
    "iso8859-5": "iso-8859-5",
    "iso8859-6": "iso-8859-6",
    "iso8859-7": "iso-8859-7",
    "iso8859-8": "iso-8859-8 iso-8859-8-i",
    "iso8859-10": "iso-8859-10",
    "iso8859-13": "iso-8859-13",
    "iso8859-14": "iso-8859-14",
    "iso8859-15": "iso-8859-15 latin9",
    "iso8859-16": "iso-8859-16",
    "koi8-r": "koi8-r koi8",
    "koi8-u": "koi8-u",
    "mac-roman": "macintosh mac",
    "gb18030": "gbk gb2312 gb18030 x-gbk chinese",
    "big5hkscs": "big5 big5-hkscs x-x-big5",
    "cp932": "shift_jis shift-jis sjis x-sjis windows-31j ms932",
    "euc-jp": "euc-jp x-euc-jp",
    "cp949": "euc-kr ks_c_5601-1987 ksc5601 windows-949 korean",
}
CODEC_OF: Final = {label: codec for codec, labels in _CODECS.items() for label in labels.split()}
"""Python's codec by label, in lower case. No UTF is here: a <meta> in UTF-16 could not have been read."""

_META: Final = re.compile(rb"""<meta\b[^>]*?\bcharset\s*=\s*["']?\s*([a-z0-9_:.-]+)""", re.IGNORECASE)
_XML: Final = re.compile(rb"""^\s*<\?xml\b[^>]*?\bencoding\s*=\s*["']([a-z0-9_:.-]+)""", re.IGNORECASE)
_PARAMETER: Final = re.compile(r""";\s*charset\s*=\s*["']?([a-z0-9_:.-]+)""", re.IGNORECASE)


def declared_codec(data: bytes, media_type: str | None = None) -> str | None:
    """The codec that a document declares, by its media type or in its first kilobyte; None: none that is known."""
    labels = _PARAMETER.findall(media_type or "")[:1]
    labels += [found[1].decode() for pattern in (_META, _XML) if (found := pattern.search(data[:HEAD]))]
    return next((CODEC_OF[label.lower()] for label in labels if label.lower() in CODEC_OF), None)
