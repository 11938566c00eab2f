"""A row that does harm: found, quarantined by what it did, remembered; all other rows come through, once."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest

import datapipe
from datapipe.dataset import verify_dataset
from datapipe.errors import ConfigError, PreprocessError, StepError
from datapipe.preprocess.limits import Limits, at, memory_of, told
from datapipe.preprocess.poison import MOST, Poison, keys_with_poison, known, remember, spared, without
from datapipe.preprocess.tasks import MapTask, Place
from datapipe.preprocess.work import WorkFolder
from datapipe.storage import open_store

STEP = '''
import ctypes
import os
import re
import signal
import sys

import numpy as np

def harm(table):
    """Does what its rows say."""
    for text in table["text"].to_pylist():
        if "KILL" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        if "SEGFAULT" in text:
            ctypes.string_at(0)
        if "HANG" in text:  # in native code, with the interpreter's lock held
            re.match(r"(a+)+$", "a" * 64 + "b")
        if "GROW" in text:
            held = []
            while True:
                held.append(np.ones(4 << 20))
        if "RAISE" in text:
            raise ValueError("not this one")
        if "TERM" in text:
            os.kill(os.getpid(), signal.SIGTERM)
        if "EXIT" in text:
            sys.exit(0)
        if "HALF" in text:
            raise ValueError("half \\udcff of a pair")
    return [True] * table.num_rows

def raises(table):
    raise ZeroDivisionError("never")

def other_columns(table):
    if any("OTHER" in text for text in table["text"].to_pylist()):
        return table.append_column("surprise", table["text"])
    return table
'''
REASONS = {
    "KILL": "worker_killed",
    "SEGFAULT": "worker_killed",
    "HANG": "step_hung",
    "GROW": "out_of_memory",
    "RAISE": "step_raised",
}


def write(folder, words, *, files=3, rows=12, steps="[decode, own.py:harm]"):
    """A corpus whose rows (file, row) hold the given words, and a recipe."""
    (folder / "own.py").write_text(STEP)
    (folder / "recipe.yaml").write_text(f"steps: {steps}\n")
    (folder / "in").mkdir()
    for file in range(files):
        texts = [f"row {row} of file {file} {words.get((file, row), '')}" for row in range(rows)]
        (folder / "in" / f"{file}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


def run(folder, output="out", **options):
    options = {"workers": 1, "overrides": {"output.split_bytes": 150}, **options}
    return datapipe.preprocess(folder / "in", folder / output, folder / "recipe.yaml", **options)


def cli(folder, output, *options):
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "datapipe", "preprocess", folder / "in", folder / output]
    command += ["--recipe", folder / "recipe.yaml", "--set", "output.split_bytes=400", *options]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        pytest.param({(0, 3): "KILL", (0, 4): "RAISE", (1, 2): "SEGFAULT"}, 60, marks=pytest.mark.slow),
        ({(1, 2): "KILL"}, 60),
        pytest.param({(1, 0): "HANG"}, 4, marks=pytest.mark.slow),
        pytest.param({(2, 4): "GROW"}, 60, marks=pytest.mark.slow),
    ],
)
def test_harm_on_workers(tmp_path, tools, words, seconds):
    """Killed, crashed, raised, hung, grown: each row is quarantined by what it did, all others come through.

    A second run does nothing, and a run from the start, on another number of workers, publishes the same bytes.
    """
    folder = write(tmp_path, words, rows=5)
    limits = {"worker_memory": 700 << 20, "batch_seconds": seconds}
    summary = run(folder, **limits)
    reasons = [REASONS[word] for word in words.values()]
    assert summary.quarantined == {reason: reasons.count(reason) for reason in reasons}
    assert (summary.documents_in, summary.documents_out) == (15, 15 - len(words))
    assert [row.row_id.split(":")[0][-7:-6] for row in summary.poison] == [str(file) for file, _ in words]
    assert {row.step for row in summary.poison} == {"own.py:harm"}
    said = {
        "worker_killed": "the process was ended by SIG",
        "step_raised": "own.py:harm raised ValueError: not this one",
        "step_hung": "no end within 4 s at ",
        "out_of_memory": "more than 700 MiB",
    }
    assert all(row.detail.startswith(said[row.reason]) for row in summary.poison)
    assert {row.reason for row in summary.rejects} == set(reasons)
    assert not any(word in text for text in tools.all_texts(folder / "out") for word in REASONS)
    assert verify_dataset(str(folder / "out")).ok
    again = run(folder, workers=2, **limits)
    assert (again.tasks_run, again.poison) == (0, summary.poison)
    if "HANG" in words.values():
        return  # each run of it waits for the limit several times
    run(folder, "afresh", workers=2, **limits)
    assert tools.published(folder / "afresh") == tools.published(folder / "out")


@pytest.mark.parametrize("word", ["KILL", pytest.param("SEGFAULT", marks=pytest.mark.slow)])
def test_in_one_process_the_next_run_knows(tmp_path, word):
    """Without workers the process itself dies; the same command, run again, ends the work without the row."""
    folder = write(tmp_path, {(1, 5): word})
    first = cli(folder, "out", "--workers", "0")
    assert first.returncode in (-signal.SIGKILL, -signal.SIGSEGV)
    second = cli(folder, "out", "--workers", "0")
    assert second.returncode == 1, second.stderr
    assert "poison: 1 row" in second.stdout
    assert "worker_killed in own.py:harm" in second.stdout
    assert not list((folder / "out" / "_work" / "running").iterdir())


def test_a_step_that_raises_for_one_row(tmp_path, tools):
    """No process dies of it; every stage that runs the step leaves the row out, and it is told once."""
    steps = "[decode, own.py:harm, exact_duplicates, own.py:harm, vocabulary, tokenize]"
    folder = write(tmp_path, {(0, 0): "RAISE", (2, 11): "RAISE"}, steps=steps)
    overrides = {"output.split_bytes": 400, "vocabulary.size": 300}
    summary = run(folder, workers=0, overrides=overrides)
    assert summary.quarantined == {"step_raised": 2}
    assert len(summary.poison) == 2
    assert summary.documents_out == 34
    assert run(folder, workers=1, overrides=overrides).tasks_run == 0
    run(folder, "other", workers=1, overrides=overrides)
    assert tools.published(folder / "other") == tools.published(folder / "out")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_step_that_ends_the_program_or_cannot_be_quoted(tmp_path, workers):
    """It is a step that raises, like any other: the run is not over, least of all with success."""
    folder = write(tmp_path, {(0, 7): "EXIT", (1, 5): "HALF"})
    summary = run(folder, workers=workers)
    assert (summary.quarantined, summary.documents_out) == ({"step_raised": 2}, 34)
    half = "own.py:harm raised ValueError: half \\udcff of a pair"
    assert [row.detail for row in summary.poison] == ["SystemExit: 0", half]


def test_a_signal_ends_the_run(tmp_path):
    """What the program's own handler raises is no fault of a row."""

    def handler(number, frame):
        raise SystemExit(3)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(SystemExit):
            run(write(tmp_path, {(1, 5): "TERM"}), workers=0)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_on_error_stop(tmp_path):
    """The run ends at the first such row, which is named."""
    folder = write(tmp_path, {(1, 5): "RAISE"})
    with pytest.raises(PreprocessError, match=r"1\.jsonl:\d+: step_raised .*ValueError: not this one"):
        run(folder, workers=0, on_error="stop")


@pytest.mark.parametrize("rows", [2, 12, 60])
def test_a_step_that_raises_for_all_rows(tmp_path, rows):
    """That is the step's fault: its own error ends the run, and no row is blamed."""
    folder = write(tmp_path, {}, files=1, rows=rows, steps="[decode, own.py:raises]")
    with pytest.raises(StepError, match="ZeroDivisionError: never"):
        run(folder, workers=0, overrides={})
    assert not list((folder / "out" / "_work").glob("poison/*"))


def test_more_poison_than_a_task_may_have(tmp_path):
    """Half of the rows: it is the step, or the machine; the run ends and says so."""
    folder = write(tmp_path, {(0, row): "RAISE" for row in range(0, 4 * MOST, 2)}, files=1, rows=4 * MOST)
    with pytest.raises(StepError, match="not this one") as caught:
        run(folder, workers=0, overrides={})
    assert any(f"more than {MOST} rows" in note for note in caught.value.__notes__)


def test_a_step_that_returns_other_columns(tmp_path):
    """For one row: the row is quarantined, and the undeclared column named."""
    folder = write(tmp_path, {(1, 2): "OTHER"}, steps="[decode, own.py:other_columns]")
    summary = run(folder, workers=0)
    assert summary.quarantined == {"step_raised": 1}
    assert "surprise" in summary.poison[0].detail


def test_the_exit_code_is_the_users_word(tmp_path):
    """Poison is exit code 1 and named, unless it is to go on; the dataset is there in both cases."""
    folder = write(tmp_path, {(0, 1): "RAISE"})
    done = cli(folder, "out", "--workers", "0", "--json")
    assert done.returncode == 1, done.stderr
    told_of = json.loads(done.stdout)
    assert told_of["ok"] is False
    assert [row["reason"] for row in told_of["poison"]] == ["step_raised"]
    assert cli(folder, "out", "--workers", "0", "--on-poison", "continue").returncode == 0
    assert cli(folder, "out", "--workers", "0").returncode == 1
    assert cli(folder, "out", "--on-poison", "ignore").returncode == 2


def test_a_single_document_that_kills(tmp_path):
    """A file of one row is all that its task has: it is quarantined all the same."""
    folder = write(tmp_path, {(1, 0): "KILL"}, rows=1)
    assert run(folder).quarantined == {"worker_killed": 1}


def map_task(tmp_path, **values):
    return MapTask(
        key="k", stage=0, name="n", split=0, output=Place(url=str(tmp_path)), seed=0, steps=(), writes=(), **values
    )


ROW = Poison(position=3, row_id="a:3", step="s", reason="worker_killed", detail="d")


def test_a_task_without_poison_is_the_task_it_was(tmp_path):
    """Its key changes with the poison, in no order, and with nothing else."""
    task = map_task(tmp_path)
    assert without(task, []) is task
    other = dataclasses.replace(ROW, position=5)
    assert without(task, [ROW]).key != task.key
    assert without(task, [ROW, other]) == without(task, [other, ROW])


def test_what_is_known_is_kept_and_checked(tmp_path):
    """Written and read; a file that was cut or changed counts as none."""
    work = WorkFolder(open_store(str(tmp_path)))
    assert known(work, "k") == ()
    remember(work, "k", [ROW])
    assert known(work, "k") == (ROW,)
    assert keys_with_poison(work) == {"k"}
    file = tmp_path / "_work" / "poison" / "k.json"
    whole = file.read_bytes()
    for damaged in (whole[:-9], whole.replace(b"a:3", b"a:4"), b"", b"[]"):
        file.write_bytes(damaged)
        assert known(work, "k") == ()


def test_spared_rows():
    """Rows are told by number, whatever the batch; marks are as steps give them."""
    import pyarrow as pa

    table = pa.table({"row_id": ["x", "y", "z"]})
    others = [dataclasses.replace(ROW, position=position) for position in (-1, 1, 5)]
    left, marks, gone = spared(table, 2, [*others, ROW])
    assert left["row_id"].to_pylist() == ["x", "z"]
    assert spared(table, 2, [ROW], (2, 4))[0]["row_id"].to_pylist() == ["x"]
    assert spared(table, 2, [ROW], (9, 10))[0].num_rows == 0
    assert gone["row_id"].to_pylist() == ["y"]
    assert marks.to_pylist() == [
        {"row_id": "y", "step": "s", "kind": "quarantine", "reason": "worker_killed", "detail": "d"}
    ]


def test_limits():
    """Time grows with the bytes beyond a batch; what cannot be is refused; a process's memory is known."""
    assert Limits(batch_seconds=10).seconds(1) == 10
    assert Limits(batch_seconds=10).seconds(80 << 20) == 100
    for wrong in ({"memory": 5}, {"batch_seconds": -1.0}):
        with pytest.raises(ConfigError):
            Limits(**wrong)
    assert 10 << 20 < memory_of(os.getpid()) < 1 << 40
    assert memory_of(2**22 + 1) == 0


def test_places_are_told_to_the_listener_of_the_thread():
    """… and to nobody where there is none."""
    seen = []
    at("rows", 1, 2)
    with told(seen.append):
        at("rows", 3, 4, size=5, name="x")
    at("end")
    assert [(place.kind, place.low, place.high, place.bytes, place.name) for place in seen] == [("rows", 3, 4, 5, "x")]
