"""What `--deploy` prints runs what the user would have run, and there is none where something lacks."""

import subprocess

import pytest
from typer.main import get_command

from datapipe.cli.deploy_text import _OF_THE_FORECAST, check_deploy, words_of
from datapipe.cli.main import app
from datapipe.errors import ConfigError

FORECAST = ("--dry-run", "--workers", "64", "--deploy", "ssh", "--sample", "2", "--documents", "1000", "--json")


def parsed(*words):
    return get_command(app).commands["preprocess"].make_context("preprocess", list(words))


@pytest.mark.parametrize(
    "given",
    [
        ("in", "out"),
        ("--recipe", "web", "in's/*.gz", "more files", "out", "--set", "pack.seq_len=64", "--set", "a.b=$(x)"),
        ("in", "out", "--on-error", "stop", "--worker-memory", "0", "--batch-seconds", "1.5", "--on-poison=continue"),
        ("--recipe", "a\n#'\\é\x1b.yaml", "--", "-in", "out"),
    ],
)
def test_the_command_is_the_users_own(given):
    """A shell that runs it gives `preprocess` the same arguments and options, but the forecast's; in one line."""
    words = words_of(parsed(*FORECAST, *given))
    assert all(map(str.isprintable, words))
    read = subprocess.run(["bash", "-c", f"printf '%s\\0' {' '.join(words)}"], capture_output=True, check=True).stdout
    wanted, found = parsed(*given).params, parsed(*read.decode().split("\0")[:-1]).params
    assert found == wanted
    assert set(_OF_THE_FORECAST) < set(wanted)


def test_a_secret_is_not_printed():
    """A text that is to be saved holds no password, nor three stars in its place."""
    with pytest.raises(ConfigError, match=r"\*\*\*@h/x in the command") as raised:
        words_of(parsed(*FORECAST, "https://me:hunter2@h/x", "out"))
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"workers": None}, "no --workers"),
        ({"workers": 0}, "no --workers"),
        ({"dry_run": False}, "with --dry-run"),
        ({"sample": 0.0}, "a --sample"),
        ({"scheduler": "tls://h:1"}, "with --scheduler"),
        ({"fresh": True}, "with --fresh"),
        ({"append": True}, "with --append"),
    ],
)
def test_what_it_needs(changed, said):
    """Said before anything is read."""
    given = parsed(*FORECAST, "in", "out").params
    check_deploy("slurm", given)
    with pytest.raises(ConfigError, match=said):
        check_deploy("slurm", {**given, **changed})
