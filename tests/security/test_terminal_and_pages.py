"""Names and texts from data do not steer the terminal of whoever looks at them, nor the browser."""

import io
import json
import re
import unicodedata
import warnings
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.cli import console, main
from datapipe.preprocess import preprocess

EVIL = "\x1b]8;;http://evil/\x07x\x1b[2J\u202egpj\u2066\x9b31m<script>alert(1)</script>&\"'"
"""A link (OSC 8), a cleared screen, text that runs backwards, an eight-bit control sequence, a script."""


def run(*args):
    """Exit code, standard output and standard error of a command."""
    out, err = io.StringIO(), io.StringIO()
    console.out.cache_clear()
    console.err.cache_clear()
    with (
        mock.patch("sys.argv", ["datapipe", *args]),
        mock.patch("sys.stdout", out),
        mock.patch("sys.stderr", err),
        mock.patch.multiple(console, debug=False, as_json=False),
        pytest.raises(SystemExit) as left,
    ):
        main.run()
    console.out.cache_clear()
    console.err.cache_clear()
    return left.value.code, out.getvalue(), err.getvalue()


def steers(text):
    """The characters in a text that a terminal would obey, or that change what is seen."""
    return {c for c in text if unicodedata.category(c) in {"Cc", "Cf"} and c not in "\n\t"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A dataset made of a file, rows, reasons and a recipe that are all named to do harm."""
    folder = tmp_path_factory.mktemp("evil")
    name = EVIL.replace("/", "_")
    rows = [{"text": f"{EVIL} some words {i}", "u": EVIL} for i in range(20)] + [{"text": "short", "u": ""}, {"u": 1}]
    (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n{" + EVIL)
    recipe = {
        "name": EVIL,
        "input": {"columns": ["u"]},
        "steps": ["decode", "exact_duplicates", {"sample": {"rate": 0.5}}],
    }
    out = folder / "out"
    preprocess(str(folder / f"{name}.jsonl"), str(out), recipe=recipe, workers=0)
    return folder, out, f"{name}.jsonl"


def test_commands_show_and_do_not_obey(corpus, tmp_path):
    """What a command prints of a hostile corpus, dataset and profile has no control or direction marks in it."""
    folder, out, name = corpus
    bare = tmp_path / "bare"
    bare.mkdir()
    pq.write_table(pa.table({EVIL: [1, 2], "x": [EVIL, EVIL]}), bare / "a.parquet")
    commands = [
        ("describe", str(out)), ("verify", str(out)), ("explain", str(out), f"{name}:0"), ("explain", str(out), EVIL),
        ("plan", str(bare), "--batch-size", "1"), ("describe", str(bare)), ("describe", str(folder / EVIL)),
        ("plan", str(bare), "--batch-size", "1", "--columns", EVIL), ("recipe", EVIL), ("steps", EVIL),
        ("report", str(folder / EVIL)), ("preprocess", str(folder / f"{EVIL}.jsonl"), str(tmp_path / "o"), "--dry-run"),
    ]  # fmt: skip
    for command in commands:
        _, said, erred = run(*command)
        shown = said + erred
        if "Usage:" in erred:  # Click repeats what its own user typed
            continue
        assert not steers(shown), (command[0], steers(shown))
        code, said, _ = run(*command, "--json")
        assert said.isascii()
        assert not steers(said), (command[0], code)
        json.loads(said)


def test_warnings_and_tracebacks_are_shown_as_all_else():
    """A library's warning, and an error that nobody foresaw, are escaped and have no credentials, `--debug` or not."""
    secret = "https://u:hunter2@h/x?X-Amz-Signature=abcdef123"

    def bad(*_, **__):
        warnings.warn(f"{EVIL} {secret}", stacklevel=1)
        try:
            raise ValueError(f"{EVIL} {secret}")
        except ValueError as error:
            raise RuntimeError("outer") from error

    for flags in ([], ["--debug"]):
        with mock.patch("datapipe.dataset.open_dataset", bad), mock.patch("datapipe.dataset.reader.open_dataset", bad):
            code, said, erred = run(*flags, "plan", "nowhere", "--batch-size", "1")
        assert code not in (0, None)
        assert not steers(said + erred)
        assert "hunter2" not in said + erred
        assert "abcdef123" not in said + erred
    assert "warning:" in erred
    assert "Traceback" in erred


def test_pages_hold_what_they_show_as_text(corpus):
    """In the report of a run no text from outside is markup."""
    page = (corpus[1] / "report.html").read_text()
    assert "<script>alert" not in page
    assert "alert(1)" in page
    assert not re.search(r"on\w+\s*=\s*[\"']?alert", page)
