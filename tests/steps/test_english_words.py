"""split_chunk: words of chunks as spaCy 3.8's blank English has them, golden; and what must hold of any chunk."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.steps.english_words import LONGEST_URL, split_chunk

# Written down from spaCy 3.8.18, `spacy.blank("en")`; words divided by spaces.
GOLDEN = {
    "don't": "do n't",
    "cannot": "can not",
    "I'm": "I 'm",
    "it's": "it 's",
    "its": "its",
    "Its": "Its",
    "won't": "wo n't",
    "ain't": "ai n't",
    "y'all": "y' all",
    "o'clock": "o'clock",
    "U.S.": "U.S.",
    "U.S.A.": "U.S.A.",
    "e.g.": "e.g.",
    "e.g.,": "e.g. ,",
    "Mr.": "Mr.",
    "Dr.Smith": "Dr. Smith",
    "end.": "end .",
    "end...": "end ...",
    "...end": "... end",
    "..": "..",
    ".": ".",
    "(word)": "( word )",
    "((word))": "( ( word ) )",
    '"quoted,"': '" quoted , "',
    "'single'": "' single '",
    "``latex''": "` ` latex ''",
    "''": "''",
    "foo''": "foo ''",
    ":)": ":)",
    ":-)": ":-)",
    "word:)": "word :)",
    "(:": "(:",
    "8)": "8)",
    "=D": "=D",
    "x=y": "x = y",
    "a=b": "a = b",
    "key=value": "key = value",
    "10km": "10 km",
    "10km.": "10 km .",
    "5kg,": "5 kg ,",
    "50%": "50 %",
    "$5": "$ 5",
    "US$5": "US$ 5",
    "5US$": "5 US$",
    "C$3.50": "C$ 3.50",
    "°C": "° C",
    "20°C.": "20 ° C .",
    "+5": "+5",
    "+x": "+ x",
    "5+": "5 +",
    "C++": "C++",
    "C++,": "C++ ,",
    "a/b": "a / b",
    "and/or": "and/or",
    "km/h": "km / h",
    "100km/h": "100 km/h",
    "1-2": "1 - 2",
    "1--2": "1 - -2",
    "a-b": "a - b",
    "a--b": "a -- b",
    "a---b": "a --- b",
    "a----b": "a----b",
    "well-known": "well - known",
    "3-year-old": "3 - year - old",
    "A-1": "A-1",
    "end-of-line-hyphen-": "end - of - line - hyphen-",
    "http://example.com/a-b": "http://example.com/a-b",
    "www.example.com.": "www.example.com .",
    "user@example.com": "user@example.com",
    "example.com/path?q=1": "example.com/path?q=1",
    "192.168.1.1": "192.168.1.1",
    "8.8.8.8": "8.8.8.8",
    "foo.bar": "foo.bar",
    "foo.Bar": "foo . Bar",
    "self.name()": "self.name ( )",
    "x,y": "x , y",
    "1,000": "1,000",
    "1,000.50": "1,000.50",
    "a:b": "a : b",
    "::1": ": :1",
    "std::vector<int>": "std::vector < int >",
    "foo_bar": "foo_bar",
    "__init__": "_ _ init _ _",
    "#hash": "# hash",
    "@user": "@user",
    "<tag>": "< tag >",
    "</tag>": "< /tag >",
    "[…]": "[ … ]",
    "wait…": "wait …",
    "……": "… …",
    "“curly”": "“ curly ”",
    "it’s": "it ’s",
    "James'": "James '",
    "James's": "James 's",
    "THEY'S": "THEY 'S",
    "12am": "12 am",
    "12:30pm": "12:30pm",
    "3p.m.": "3 p.m.",
    "J.R.R.": "J.R.R.",
    "Ph.D.": "Ph.D.",
    "étude": "étude",
    "café,": "café ,",
    "naïve.": "naïve .",
    "Привет,": "Привет ,",
    "мир.": "мир .",
    "км": "км",
    "5км": "5 км",
    "你好，世界。": "你好，世界 。",
    "日本語": "日本語",
    "☃snow": "☃ snow",
    "snow☃": "snow ☃",
    "a☃b": "a ☃ b",
    "->": "- >",
    "<-": "< -",
    "=>": "= >",
    "\\t": "\\t",
    "\\n": "\\n",
    "1.5": "1.5",
    "1.": "1 .",
    "x.": "x.",
    "X.": "X.",
    "XY.": "XY .",
    "xY.": "xY.",
    "+.5": "+ .5",
    "*bold*": "* bold *",
    "1*2": "1 * 2",
    "2^3": "2 ^ 3",
    "--option": "--option",
    "--option=value": "--option = value",
    "-x": "-x",
    "–": "–",
    "—": "—",
    "word—word": "word — word",
    "word–word": "word – word",
    "~tilde": "~tilde",
    "a~b": "a ~ b",
    "tab|pipe": "tab|pipe",
    "^": "^",
    "=": "=",
    "§": "§",
    "%x": "% x",
    "x%": "x%",
    "{a}": "{ a }",
    "{a,b}": "{ a , b }",
    "[1]": "[ 1 ]",
    ",,": ", ,",
    ";;": "; ;",
    "?!": "? !",
    "!?": "! ?",
    "...!": "... !",
    '"..."': '" ... "',
    "(c)": "( c )",
    "'em": "'em",
    "'Twas": "' Twas",
    "rock'n'roll": "rock'n'roll",
    "l'eau": "l'eau",
    "Inc.,": "Inc. ,",
    "vs.": "vs.",
    "No.": "No .",
    "i.": "i.",
    "J.": "J.",
    "a.m.": "a.m.",
    "IS_ALPHA": "IS_ALPHA",
}


@pytest.mark.parametrize("chunk", list(GOLDEN))
def test_golden(chunk):
    """The words are spaCy's."""
    assert " ".join(split_chunk(chunk)) == GOLDEN[chunk]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).map(lambda s: "".join(s.split())))
@settings(deadline=None)
def test_words_are_the_chunk(chunk):
    """Joined, the words are the chunk; none is empty."""
    if chunk:
        words = split_chunk(chunk)
        assert "".join(words) == chunk
        assert all(words)


@pytest.mark.parametrize(
    "unit", ["(", ")", "a.", ".", "-", "a:", "a@", ":@.", "[[", "'s", "a,", "☃", "/a.b", "—", "…", "1-", ":)", "I'm"]
)
def test_cost_grows_with_the_length(unit):
    """A chunk of 200,000 characters is split at once, whatever it is made of: on copies of it, this takes for ever."""
    long = unit * (200_000 // len(unit))
    assert "".join(split_chunk(long)) == long


def test_no_url_beyond_the_limit():
    """A URL of 4,096 characters is one word; a longer one is divided at its infixes, as the docstring says."""
    url = "http://example.com/" + "a-b/" * 2000
    assert len(split_chunk(url[:LONGEST_URL])) == 1
    assert len(split_chunk(url[: LONGEST_URL + 4])) > 100
