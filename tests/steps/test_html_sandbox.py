"""A page that hangs, swells or crashes the parser costs itself alone, and no process stays behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from datapipe.errors import StepError
from datapipe.steps.html_extract import LIST_BULLETS, MAIN_CONTENT, extract
from datapipe.steps.html_sandbox import MEMORY, TIMEOUT, Sandbox, sandbox

WANTED = MAIN_CONTENT | LIST_BULLETS
SLOW = "<p " + "".join(f"a{i}=b " for i in range(400_000)) + ">x"
"""Attributes are looked for among all before: minutes, by the square of their number."""


def views(pages):
    return [memoryview(page.encode("utf-8", "surrogatepass")) for page in pages]


@pytest.fixture
def make():
    """Sandboxes that are closed at the end."""
    made = []

    def of(cpu=10.0, memory=1 << 30):
        made.append(Sandbox(cpu, memory))
        return made[-1]

    yield of
    for each in made:
        each.close()


def test_pages_come_back_in_order(make):
    """Many pages of all sizes, more than the pipes hold: each has the text that the parser gives it here."""
    pages = [f"<p>page {i} {'word ' * (i * 37 % 9000)}</p>" for i in range(300)] + [""]
    assert make().extract(views(pages), WANTED) == [extract(page, WANTED) for page in pages]


def test_a_page_that_takes_too_long_is_named(make):
    """By CPU time; the pages before and after it are parsed."""
    found = make(cpu=0.3).extract(views(["<p>before", SLOW, "<p>after"]), WANTED)
    assert found == [b"before", TIMEOUT, b"after"]


@pytest.mark.parametrize(
    "limit", [64, 96, 256, *(pytest.param(n, marks=pytest.mark.slow) for n in (80, 128, 200, 384))]
)
def test_a_page_that_swells_is_named(make, limit):
    """It may not make the process larger than the limit, whichever allocation fails; others are parsed by another."""
    found = make(memory=limit << 20).extract(views(["<p>before", "<b>x</b>" * 4_000_000, "<p>after"]), WANTED)
    assert found == [b"before", MEMORY, b"after"]


def test_three_bad_of_fifty(make):
    """Each bad one by itself, wherever it is; all others come through."""
    pages = [f"<p>{i}" for i in range(50)]
    for bad in (0, 17, 49):
        pages[bad] = SLOW
    found = make(cpu=0.2).extract(views(pages), WANTED)
    assert [i for i, each in enumerate(found) if each == TIMEOUT] == [0, 17, 49]
    assert [each for i, each in enumerate(found) if i not in (0, 17, 49)] == [
        str(i).encode() for i in range(50) if i not in (0, 17, 49)
    ]


def test_a_process_killed_from_outside_loses_no_page(make):
    """What the system does to the process is not blamed on the page it was at."""
    box = make()
    box.extract(views(["<p>warm"]), WANTED)
    for _ in range(3):
        os.kill(box._process.pid, signal.SIGKILL)
        assert box.extract(views(["<p>a", "<p>b"]), WANTED) == [b"a", b"b"]


def test_killed_in_the_middle_of_a_page(make):
    """Also while it parses: the page is tried once more before it is blamed."""
    box = make(cpu=30)
    box.extract(views(["<p>warm"]), WANTED)
    first = box._process.pid
    page = "<table>" + "<tr><td>cell</td></tr>" * 60_000
    killer = threading.Timer(0.02, lambda: os.kill(first, signal.SIGKILL))
    killer.start()
    found = box.extract(views([page] * 4), WANTED)
    killer.join()
    assert box._process.pid != first
    assert found == [extract(page, WANTED)] * 4


@pytest.mark.parametrize(
    "page",
    [
        "<div>" * 100_000 + "x",
        "<b>" * 100_000 + "x",
        "<p>a\0b",
        "<p>&#xD800;",
        "<p>" + "long " * 2_000_000,
        "<" * 100_000,
    ],
    ids=["divs", "bs", "nul", "surrogate", "10 MB", "brackets"],
)
def test_hostile_pages_end_one_way_or_the_other(make, page):
    """Text or a reason, and the page after it is parsed."""
    found = make(cpu=5).extract(views([page, "<p>after"]), WANTED)
    assert len(found) == 2
    assert found[1] == b"after"


def test_a_thread_has_its_own():
    """Two threads at once get each their own answers; a thread keeps its process from call to call."""
    found: dict[int, list[object]] = {}

    def work(number):
        mine = sandbox(10, 1 << 30)
        assert sandbox(10, 1 << 30) is mine
        found[number] = mine.extract(views([f"<p>{number} {i}" for i in range(200)]), WANTED)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: [f"{n} {i}".encode() for i in range(200)] for n in range(3)}


def alive(pid):
    """Whether a process runs (one that ended and was not waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pid):
    """Wait until a process has ended."""
    for _ in range(400):
        if not alive(pid):
            return True
        time.sleep(0.025)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_no_process_is_left_behind(make):
    """Not by a sandbox that is forgotten, and not by an owner that is killed."""
    box = Sandbox(10, 1 << 30)
    box.extract(views(["<p>x"]), WANTED)
    pid = box._process.pid
    del box
    gc.collect()
    assert gone(pid)
    code = (
        "from datapipe.steps.html_sandbox import Sandbox; import time\n"
        "box = Sandbox(10, 1 << 30); box.extract([memoryview(b'<p>x')], 3)\n"
        "print(box._process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        pid = int(owner.stdout.readline())
        assert alive(pid)
        owner.kill()
    assert gone(pid)


def test_no_process_to_be_had(make, monkeypatch):
    """Where none can be started, the error says how to do without."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(StepError, match="sandbox=false"):
        make().extract(views(["<p>x"]), WANTED)


def test_modules_of_the_working_folder_are_not_the_childs(tmp_path, monkeypatch, make):
    """A file there that is named as one of the standard library's does no harm."""
    for name in ("struct", "signal", "random", "re"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    assert make().extract(views(["<p>a"]), WANTED) == [b"a"]
