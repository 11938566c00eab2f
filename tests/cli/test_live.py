"""The live view of a run: figures, shares and time left, as text; quiet when asked to be."""

import io
import json
import sys

import pytest
from rich.console import Console

from datapipe.cli import console
from datapipe.cli.live import RunView, clock_of, line_of
from datapipe.preprocess import Progress, preprocess


def progress(**values):
    base = {
        "stage": "clean", "number": 1, "stages": 3, "done": 4, "total": 10, "reused": 1, "documents": 4000,
        "bytes": 40_000_000, "elapsed": 10.0, "bytes_total": 100_000_000, "documents_now": 3000,
        "bytes_now": 30_000_000, "dropped": {"too_short": 400, "rare": 4}, "duplicates": 40, "quarantined": {"bad": 4},
    }  # fmt: skip
    return Progress(**{**base, **values})


@pytest.fixture
def terminal(monkeypatch):
    """Standard error as a terminal of 100 columns, and what was drawn on it."""
    screen = io.StringIO()
    monkeypatch.setattr(console, "err", lambda: Console(file=screen, force_terminal=True, width=100, highlight=False))
    return screen


def test_a_line_has_rates_shares_and_what_is_left():
    """Rates are of what this run did; the time left is that of the bytes to come at this speed."""
    line = line_of(progress())
    assert line.startswith("clean: 4 of 10, 4,000 documents, 300/s, 3.0 MB/s, 1 done before")
    assert "11.2% out (too_short 10.0%, duplicates 1.0%, bad 0.1%, rare 0.1%)" in line
    assert line.endswith("0:20 left")
    assert ", 1.2 kB/s, " in line_of(progress(bytes_now=12_000))


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ({}, 20.0),
        ({"done": 10}, 0.0),
        ({"bytes_now": 0, "bytes_total": 0}, 20.0),
        ({"bytes_now": 0, "done": 1}, None),
    ],
)
def test_time_left(values, left):
    """By bytes; by tasks where there are none; unknown before the first task of this run; nothing at the end."""
    assert progress(**values).remaining == left


@pytest.fixture
def no_terminal(monkeypatch):
    """Standard error as a file."""
    monkeypatch.setattr(console, "err", lambda: Console(file=sys.stderr, width=200))


def said(capsys):
    """Stage and tasks of each line."""
    return [line.split(",")[0].strip() for line in capsys.readouterr().err.splitlines()]


def test_plain_lines_come_at_a_modest_rate(capsys, no_terminal, monkeypatch):
    """Without a terminal: one every few seconds; the dashboard once."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with RunView(every=5) as view:
        for done in range(1, 10):
            now += 2
            view.update(progress(done=done, elapsed=2.0 * done, dashboard="http://127.0.0.1:8787/status"))
    first, *lines = said(capsys)
    assert first == "dashboard: http://127.0.0.1:8787/status"
    assert lines == ["clean: 3 of 10", "clean: 6 of 10", "clean: 9 of 10"]


def test_the_end_of_a_long_stage_is_said(capsys, no_terminal):
    """With its rates; stages that were over at once are not, and of a short run the summary alone."""
    with RunView(every=5) as view:
        view.update(progress(stage="clean", done=10, elapsed=5.1))
        view.update(progress(stage="sample", done=1, elapsed=0.1))
        view.update(progress(stage="write", done=10, elapsed=4.9))
    assert said(capsys) == ["clean: 10 of 10"]


def test_quiet(capsys):
    """Nothing at all."""
    with RunView(quiet=True) as view:
        view.update(progress())
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_the_newest(terminal):
    """Stage, bar, clock, rates and reasons; names from the data are neither markup nor control codes."""
    with RunView() as view:
        view.update(progress(stage="[bold]clean\x1b[2J", dropped={"[red]odd": 400}, dashboard="http://x/[y]"))
        Console(file=terminal, width=100).print(view._shown())
    drawn = terminal.getvalue()
    for text in (
        "[bold]clean\\x1b[2J",
        "[red]odd 10.0%",
        "4/10",
        "stage 1 of 3",
        "3.0 MB/s",
        "0:20 left",
        "http://x/[y]",
    ):
        assert text in drawn, text


def test_before_the_first_event(terminal):
    """It says that it reads, and for how long: of a large file the first task may take a while."""
    with RunView() as view:
        Console(file=terminal, width=100).print(view._shown())
    assert "reading the input …  0:00" in terminal.getvalue()


def test_clocks():
    """Minutes and seconds; hours where there are any."""
    assert [clock_of(s) for s in (0, 41.6, 725, 3725)] == ["0:00", "0:42", "12:05", "1:02:05"]


def test_what_a_stage_counts(tmp_path):
    """Hashes and pairs are not called documents, in each stage of a run that compares them."""
    texts = ["the quick brown fox jumps over the lazy dog and runs away " * 3 + "\n\n" + str(n) for n in range(5)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    lines = {}
    recipe = {"name": "r", "steps": ["decode", "repeated_lines", "near_duplicates"]}
    preprocess(
        tmp_path / "in.jsonl", tmp_path / "out", recipe, workers=0,
        on_progress=lambda told: lines.setdefault(told.stage, []).append(line_of(told)),
    )  # fmt: skip
    words = {stage: " ".join(shown) for stage, shown in lines.items()}
    assert " band hash" in words["pairs"]
    assert " candidate pair" in words["verify"]
    assert " pieces of text" in words["repeated lines"]
    assert " document" in words["clusters"]
    assert not any(" document" in words[stage] for stage in ("pairs", "verify", "repeated lines"))
    assert console.count(2, "band hash") == "2 band hashes"
