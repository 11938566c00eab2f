"""boilerplate: repeated lines, policy lines and menus go and are counted; all else stays as it was."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.boilerplate_phrases import POLICY_PHRASES

PROSE = "The bridge was built in the year 1874 and has been closed since."
MORE = "It was never opened again, although the town asked for it twice."

HAN = "这座桥建于一八七四年，从那以后就一直关闭着。"


def run(texts, **options):
    table = pa.table({"row_id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.large_string())})
    return run_steps(table, [bind("boilerplate", options)], Keys())


def counts(ran):
    return [ran.counters[f"boilerplate.{kind}_lines"] for kind in ("repeated", "policy", "menu")]


def test_golden():
    """A page's text with all three kinds, by hand."""
    page = "\n".join(
        [
            "Home",
            "About us",
            "Products & Services",
            "Contact",
            "",
            "News",
            "Search",
            "The old bridge",  # the heading stays
            PROSE,
            "This site uses cookies to improve your experience.",
            MORE,
            PROSE,
            "  " + PROSE,
            "",
            "Share on Facebook",
            "All rights reserved © 2024",
            "Imprint",
            "Sitemap",
            "Log in",
            "Register",
            "Jobs",
            "Press",
        ]
    )
    ran = run([page])
    assert ran.table["text"].to_pylist() == [f"The old bridge\n{PROSE}\n{MORE}"]
    assert counts(ran) == [2, 3, 12]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{PROSE}\n{PROSE}\n{PROSE}", PROSE),
        (f"{PROSE}\n{PROSE}", None),  # twice may be meant
        (f"{PROSE}\n\n\n{PROSE}\n\n\n{MORE}\n{PROSE}", f"{PROSE}\n\n{MORE}"),
        (f"{PROSE}\n" + "if (state === NULL) {\n" * 5 + MORE, None),  # code
        (f"{PROSE}\n{PROSE}\n{PROSE.upper()}", None),  # another line
        ("}\n" * 9 + PROSE, "}\n" * 9 + PROSE),  # short lines may repeat
        (f"Wir verwenden Cookies.\n{PROSE}", PROSE),
        (f"PRIVACY POLICY\n{PROSE}", PROSE),
        (f"本网站隐私政策\n{PROSE}", PROSE),
        (f"{PROSE} Our privacy policy was " + "long " * 40 + ".", None),  # too long for a footer
        (f"{PROSE}\n1\n2\n3\n4\n5", None),  # five lines are no menu
        (f"{PROSE}\n1\n2\n3\n4\n5\n6", PROSE),
        (f"1\n2\n3\n4\n5\nHeading\n{PROSE}", None),  # nor with the heading
        (f"1\n2\n3\n\n\n4\n5\n6\n\nHeading\n{PROSE}", f"Heading\n{PROSE}"),
        (f"1\n2\n3\nis this prose?\n4\n5\n6\n{PROSE}", None),
        (f"{PROSE}\n1\n2\n3\n4\n5\n6\n{MORE}", None),  # within the text it is the author's list
        (f"{PROSE}\n• one\n• two\n- three\n* four\n· five\n– six", PROSE),
        ("1\n2\n3\n4\n5\n6\n7", None),  # around nothing
        (f"{PROSE}\nint x;\nint y;\nreturn x;\nf(y);\ng();\nh();", None),  # code is no menu
        (f"首页\n关于我们\n产品\n联系\n新闻\n搜索\n这座桥\n{HAN}", f"这座桥\n{HAN}"),
        ("", None),
        ("\n\n", None),
        ("  keeps \t its blanks  \n\n\n\nand blank lines", None),
    ],
)
def test_rules(text, expected):
    """Each rule and its limits; a text that loses nothing is unchanged, byte for byte (None)."""
    assert run([text]).table["text"].to_pylist() == [text if expected is None else expected]


def test_rows_are_apart():
    """A line is repeated within its own text only, and a menu does not reach over two."""
    texts = [PROSE, PROSE, PROSE, f"{PROSE}\n1\n2\n3", f"4\n5\n6\n7\n{PROSE}"]
    assert run(texts).table["text"].to_pylist() == texts


def test_nothing_left_is_dropped():
    """A text of such lines alone is dropped; an empty one is not this step's business."""
    ran = run(["Privacy policy\nAll rights reserved", "", PROSE])
    assert [(row["row_id"], row["reason"]) for row in ran.marked.to_pylist()] == [("0", "boilerplate_only")]
    assert ran.table["text"].to_pylist() == ["", PROSE]


@pytest.mark.parametrize(("off", "stays"), [("repeated", PROSE), ("policy", "It uses cookies."), ("menus", "four")])
def test_each_rule_can_be_switched_off(off, stays):
    """Without its rule a line stays, and the others still go."""
    text = f"{PROSE}\n{PROSE}\n{PROSE}\nIt uses cookies.\none\ntwo\nthree\nfour\nfive\nsix"
    assert run([text]).table["text"].to_pylist() == [PROSE]
    got = run([text], **{off: False}).table["text"][0].as_py().split("\n")
    assert stays in got[1:]
    assert len(got) < 10
    assert run([text], repeated=False, policy=False, menus=False).table["text"].to_pylist() == [text]


@pytest.mark.parametrize("phrase", POLICY_PHRASES)
def test_every_phrase(phrase):
    """Each phrase of the list is found, in any case, and no phrase is there twice."""
    assert (
        run([f"— {phrase if 'ı' in phrase else phrase.upper()} —\n{PROSE}", f"{phrase}\n{PROSE}"])
        .table["text"]
        .to_pylist()
        == [PROSE] * 2
    )
    assert POLICY_PHRASES.count(phrase) == 1


LINES = st.sampled_from([PROSE, MORE, "one", "two", "Privacy policy", "", "  ", "x;", "• item", "a\tb", "末尾。"])


def plain(text):
    """The three rules for one text, as one would write them without columns. (text, counts)."""
    import re

    lines = text.split("\n")
    bare = [line.strip() for line in lines]
    prose = [i for i, line in enumerate(bare) if len(line) >= 40 and line.endswith(".")]
    short = [bool(re.fullmatch(r"(?:• )?\w[\w \t]{0,29}", line)) for line in bare]
    menu, run_of = set(), []
    for i, line in enumerate([*bare, None]):
        if line == "":
            continue
        heading = line is not None and prose and i < prose[0] and not any(bare[i + 1 : prose[0]])
        if line is not None and short[i] and prose and not heading and not prose[0] <= i <= prose[-1]:
            run_of.append(i)
            continue
        menu |= set(run_of) if len(run_of) >= 6 else set()
        run_of = []
    kept, seen, count = [], set(), [0, 0, 0]
    for i, line in enumerate(lines):
        kind = (
            0
            if len(bare[i]) >= 20 and bare[i] in seen and bare.count(bare[i]) >= 3
            else 1
            if bare[i] == "Privacy policy"
            else 2
            if i in menu
            else None
        )
        seen.add(bare[i])
        if kind is None:
            kept.append(line)
        else:
            count[kind] += 1
    if not any(count):
        return text, count
    return re.sub(r"\n(?:[^\S\n]*\n){2,}", "\n\n", "\n".join(kept)).strip("\n"), count


@given(st.lists(st.lists(LINES, max_size=20).map("\n".join), min_size=1, max_size=5))
@settings(deadline=None, max_examples=200)
def test_as_the_plain_reading(texts):
    """Columns give what the rules say, written out for one text."""
    table = pa.table({"row_id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.large_string())})
    got = bind("boilerplate")(table, Keys())
    expected = [plain(text) for text in texts]
    assert got["text"].to_pylist() == [text for text, _ in expected]
    for place, kind in enumerate(("repeated", "policy", "menu")):
        assert got[f"boilerplate.{kind}_lines"].to_pylist() == [count[place] for _, count in expected]
