"""The command's frame: help, versions, errors and exit codes."""

import json
import os

import pytest

import datapipe as package
from datapipe.cli import console

COMMANDS = [
    "demo",
    "preprocess",
    "recipe",
    "steps",
    "describe",
    "verify",
    "plan",
    "vocabulary",
    "profile",
    "report",
    "compare",
]


def test_help_lists_every_command(datapipe):
    ran = datapipe("--help")
    assert ran.code == 0
    assert all(name in ran.out for name in COMMANDS)


def test_version(datapipe):
    assert datapipe("--version").out.strip() == f"datapipe {package.__version__}"


@pytest.mark.parametrize(
    "args",
    [["no-such-command"], ["describe"], ["describe", "x", "--no-such-option"], ["plan", "x", "--batch-size", "0"]],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(datapipe, args):
    ran = datapipe(*args)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err


def test_an_error_is_one_message_and_no_traceback(datapipe, tmp_path):
    ran = datapipe("describe", tmp_path / "missing")
    assert ran.code == 2
    assert "missing" in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""


def test_debug_shows_the_traceback(datapipe, tmp_path):
    assert "Traceback" in datapipe("--debug", "describe", tmp_path / "missing").err


def test_with_json_an_error_is_one_object(datapipe, tmp_path):
    ran = datapipe("describe", tmp_path / "missing", "--json")
    assert ran.code == 2
    assert ran.json["ok"] is False
    assert "missing" in ran.json["error"]["message"]


def test_an_unforeseen_error_is_readable(datapipe, tmp_path):
    """A bug of ours says so, on one line, and how to get the traceback."""
    code = (
        "import sys; sys.argv = ['datapipe', 'verify', 'x']\n"
        "import datapipe.dataset as d\n"
        "def boom(*a, **k): raise RuntimeError('unforeseen')\n"
        "d.verify_dataset = boom\n"
        "from datapipe.cli.main import run\nrun()"
    )
    import subprocess
    import sys

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "RuntimeError: unforeseen" in ran.stderr
    assert "--debug" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_closed_pipe_is_no_error(small):
    """`datapipe describe … | head -0` ends quietly."""
    import subprocess
    import sys

    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "datapipe", "describe", str(small[0])], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert b"Traceback" not in done.stderr


def test_control_codes_in_data_do_not_reach_the_terminal():
    """A file name that holds an escape sequence is shown, not obeyed."""
    assert console.printable("a\x1b[31mb\tc\n") == "a\\x1b[31mb\tc\n"


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (24_000_000, "24.0 MB"), (5e15, "5000.0 TB")]
)
def test_sizes_for_people(n, text):
    assert console.size(n) == text


def test_json_emits_one_line(capsys):
    console.emit({"a": "ä"})
    assert json.loads(capsys.readouterr().out) == {"a": "ä"}


@pytest.mark.parametrize(
    "args", [["describe", "--json"], ["plan", "x", "--batch-size", "many", "--json"]], ids=" ".join
)
def test_with_json_a_usage_error_is_one_object_too(datapipe, args):
    ran = datapipe(*args)
    assert ran.code == 2
    assert ran.json["ok"] is False
    assert "Usage" in ran.err


def test_a_name_that_is_no_text_is_shown_escaped(datapipe):
    """A path of bytes that are not UTF-8 gives an error, in words and in JSON, and no traceback."""
    for extra in ([], ["--json"]):
        ran = datapipe("describe", b"/nowhere/\xff".decode(errors="surrogateescape"), *extra)
        assert ran.code == 2
        assert "Traceback" not in ran.err
    assert ran.json["ok"] is False


def test_a_terminal_that_lacks_a_character_gets_an_escape(datapipe, small):
    ran = datapipe("plan", small[0], env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert ran.code == 0, ran.err
    assert "\\xd7" in ran.out


def test_one_path_with_credentials_is_masked(datapipe):
    ran = datapipe("preprocess", "s3://KEYID:hunter2@bucket/x")
    assert ran.code == 2
    assert "hunter2" not in ran.err
