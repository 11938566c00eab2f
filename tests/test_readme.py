"""The README is true: its commands exist, its options parse, its Python runs, its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from datapipe.cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)
    for kind, block in BLOCKS
    if kind != "python"
    for line in block.splitlines()
    if line.startswith("datapipe ")
]


def test_the_readme_shows_commands():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_parses(command):
    """Parsed by the real parser: a renamed command or option fails here (nothing is run)."""
    import typer

    group = typer.main.get_command(app)
    name, *rest = command[1:]
    assert name in group.commands, f"datapipe {name} does not exist"
    context = group.commands[name].make_context(name, list(rest), resilient_parsing=False)
    assert context.params


@pytest.mark.parametrize("name", re.search(r"Commands: `([^`]+)`", README).group(1).split())
def test_every_listed_command_has_help_with_an_example(name):
    out = CliRunner().invoke(app, [name, "--help"])
    assert out.exit_code == 0
    assert "xample" in out.output
    assert "--json" in out.output


def test_no_command_is_left_out_of_the_readme():
    import typer

    listed = set(re.search(r"Commands: `([^`]+)`", README).group(1).split())
    assert set(typer.main.get_command(app).commands) == listed


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_every_link_leads_somewhere(target):
    assert (ROOT / target).exists()


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (\w[\w-]*)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target} does not exist"
