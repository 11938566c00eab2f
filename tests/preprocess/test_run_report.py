"""report.html and run.json: what a run tells of itself; hostile text is inert."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

import datapipe
from datapipe.preprocess.run_report import breakable, duration, in_bytes, in_thousands, plain

HOSTILE = [
    "<script>alert(1)</script>",
    "</pre></details><img src=x onerror=alert(1)>",
    "\u202ereversed\u202c \x1b[31mred\x1b[0m \x00nul",
    "{{ 7*7 }} {% raw %}",
    "&lt;b&gt; \"quotes\" 'single' `back`",
    "]]><!--",
]


class Tags(HTMLParser):
    """Every tag with its attributes; text by itself."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


def parsed(path):
    found = Tags()
    found.feed(path.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("report") / "out"
    recipe = {"name": "mine", "steps": ["decode", "html_to_text", "unicode", "gopher_quality@whitespace",
                                        "exact_duplicates"]}  # fmt: skip
    summary = datapipe.preprocess(corpus, output, recipe=recipe, workers=0, overrides={"output.split_bytes": 12_000})
    return output, summary, recipe


def test_the_report_holds_the_ledger(made):
    """Every reason with its count, in and out, the steps, the stages and an example of each reason."""
    output, summary, _ = made
    text = " ".join(" ".join(parsed(output / "report.html").text).split())
    assert f"{summary.documents_out} of {summary.documents_in} documents came through the recipe mine" in text
    squeezed = text.replace(" ", "")
    for reason, n in {**summary.dropped, **summary.quarantined, "duplicate": summary.duplicates}.items():
        assert f"{reason}" in squeezed
        assert f"−{n}" in squeezed
    assert "too short" in text
    for step in summary.steps:
        assert step.name.replace(" ", "") in squeezed
    assert text.index("not_") < text.index("few_") < text.index("exact_"), "in the order of the steps"


def test_it_asks_the_network_for_nothing(made):
    """No script, no address of anything, one style that the content security policy allows by its hash."""
    output, _, _ = made
    found = parsed(output / "report.html")
    assert "script" not in {tag for tag, _ in found.tags}
    for tag, attributes in found.tags:
        assert not {"src", "style", "srcset", "action"} & set(attributes), (tag, attributes)
        assert attributes.get("href", "data:,") == "data:,"
        assert not any(name.startswith("on") for name in attributes)
    html = (output / "report.html").read_text("utf-8")
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy


def test_hostile_text_is_inert(tmp_path):
    """Text, file names and column values from the input are shown as text: no tag, no control, no direction change."""
    folder = tmp_path / "in<u>put"
    folder.mkdir()
    lines = [json.dumps({"text": text}) for text in HOSTILE]
    (folder / "<img src=x onerror=alert(1)>.jsonl").write_text("\n".join(lines) + "\nnot json <script>\n")
    good = "the word and of to be that have with " * 20
    (folder / "good.jsonl").write_text(json.dumps({"text": good}) + "\n")
    recipe = {"name": "<i>r</i>", "steps": ["decode", "gopher_quality@whitespace"]}
    datapipe.preprocess(folder, tmp_path / "out", recipe=recipe, workers=0)
    html = (tmp_path / "out" / "report.html").read_text("utf-8")
    found = parsed(tmp_path / "out" / "report.html")
    assert not {"script", "img", "u", "i"} & {tag for tag, _ in found.tags}
    text = "".join(found.text)
    assert "<script>alert(1)</script>" in text
    assert "\\u202ereversed" in text
    assert "{{ 7*7 }}" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)


def test_nothing_of_this_machine(made, tmp_path):
    """No path of the input or output is in the report."""
    output, _, _ = made
    html = (output / "report.html").read_text("utf-8")
    assert str(output) not in html
    assert str(output.parent) not in html


def test_run_json_keeps_every_run(corpus, made):
    """Timings of each run, the newest last and on top; a run that finds all done leaves the report as it was."""
    output, _, recipe = made
    before = (output / "report.html").read_bytes()
    known = len(json.loads((output / "run.json").read_text())["runs"])
    again = datapipe.preprocess(corpus, output, recipe=recipe, workers=0, overrides={"output.split_bytes": 12_000})
    assert again.tasks_run == 0
    told = json.loads((output / "run.json").read_text())
    assert len(told["runs"]) == known + 1
    assert told["runs"][0]["tasks_run"] > 0
    assert told["runs"][-1]["tasks_run"] == told["tasks_run"] == 0
    assert all({"ended", "seconds", "stages", "steps", "docs_per_s"} <= set(run) for run in told["runs"])
    assert (output / "report.html").read_bytes() == before


def test_a_run_json_that_is_no_json(corpus, made):
    """What somebody wrote over it is no reason to fail."""
    output, _, recipe = made
    (output / "run.json").write_text("{oops")
    datapipe.preprocess(corpus, output, recipe=recipe, workers=0, overrides={"output.split_bytes": 12_000})
    assert len(json.loads((output / "run.json").read_text())["runs"]) == 1


def test_words_and_figures():
    """Formats of figures; names break at their joints alone, escaped."""
    assert plain("a\tb\n\x07\u202e😀") == "a\tb\n\\u0007\\u202e😀"
    assert breakable("a_b<c") == "a_<wbr>b&lt;c"
    assert [in_bytes(n) for n in (0, 1023, 1024, 1536, 1 << 30)] == ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 GiB"]
    assert [in_thousands(n) for n in (9_999, 12_345, 1_500_000)] == ["9,999", "12.3k", "1.5M"]
    assert [duration(s) for s in (0.05, 59.96, 125, 7384)] == ["50 ms", "60.0 s", "2 min 5 s", "2 h 3 min"]
