"""Whose folder it is: ours, empty, or not to be touched; one run at a time."""

import errno
import os
import subprocess
import sys

import pytest

import datapipe
from datapipe.errors import AccessError, ConfigError, NoSpaceError, OutputError, StorageError
from datapipe.preprocess.output_folder import check_ours, claim, refuse_overlap
from datapipe.storage import open_store


@pytest.mark.parametrize("name", ["letter.txt", ".hidden", "data/part-0.parquet", "manifest.json", "_work/something"])
def test_a_folder_that_holds_something_else(corpus, tmp_path, name):
    """Refused before anything is written, and named; what is there stays as it was."""
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(OutputError, match="holds something else"):
        datapipe.preprocess(corpus, tmp_path / "out", workers=0)
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [path]
    assert path.read_text() == "mine"


def test_a_file_is_no_folder(corpus, tmp_path):
    """An output that is a file is refused."""
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        datapipe.preprocess(corpus, tmp_path / "out", workers=0)


def test_empty_and_our_own_folders_are_taken(tmp_path):
    """An empty folder, one that is not there, one with a claim of ours, one with a dataset of ours."""
    (tmp_path / "empty").mkdir()
    for name in ("empty", "absent", "empty"):
        with claim(open_store(str(tmp_path / name))):
            pass
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "manifest.json").write_text('{"format": "datapipe"}')
    (tmp_path / "set" / "more").write_text("x")
    check_ours(open_store(str(tmp_path / "set")))


def test_a_disk_that_is_full_is_an_error_of_ours(tmp_path):
    """Whoever holds the folder writes scratch files past the Store; a pipe that was closed is no disk."""
    store = open_store(str(tmp_path))
    for number, expected in ((errno.ENOSPC, NoSpaceError), (errno.EFBIG, StorageError), (errno.EPIPE, BrokenPipeError)):
        with pytest.raises(expected), claim(store):
            raise OSError(number, "Error writing bytes to file")
    with claim(store):
        pass


def test_two_runs_at_once(corpus, tmp_path, tools):
    """The second is told who holds the folder; the first goes on; a killed holder holds it no longer."""
    holder = (
        "import sys\nfrom datapipe.preprocess.output_folder import claim\nfrom datapipe.storage import open_store\n"
        f"with claim(open_store({str(tmp_path)!r})):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    with pytest.raises(OutputError, match=f"another run holds .*process {child.pid}"):
        datapipe.preprocess(corpus, tmp_path, workers=0, overrides=tools.overrides)
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    assert datapipe.preprocess(corpus, tmp_path, workers=0, overrides=tools.overrides).rows


def test_removing_the_work_folder_lets_nobody_in(corpus, tmp_path, tools):
    """The folder itself is locked: a run whose `_work` somebody deletes is still alone in it."""
    import shutil

    with claim(open_store(str(tmp_path))):
        shutil.rmtree(tmp_path / "_work")
        with pytest.raises(OutputError, match="another run holds"):
            datapipe.preprocess(corpus, tmp_path, workers=0, overrides=tools.overrides)


def test_a_name_that_is_no_utf8(corpus, tmp_path):
    """Arrow opens no such file: refused in words that any terminal shows, and nothing is written."""
    output = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(ConfigError, match=r"not UTF-8: .*/caf\\udce9"):
        datapipe.preprocess(corpus, output, workers=0)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_disk_that_fills_up(corpus, small_disk, tools, undisturbed, workers):
    """A real full disk, at several moments: the error names a path on it, and with space again the run goes on."""
    output = small_disk / "out"
    errors = []
    for free in (60, 150, 300, 500):
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"")
        room = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
        ballast.write_bytes(bytes(max(0, room - free * 1024)))
        try:
            datapipe.preprocess(corpus, output, workers=workers, overrides=tools.overrides)
        except NoSpaceError as error:
            errors.append(str(error))
    assert len(errors) >= 2
    assert all(str(output) in error for error in errors)
    ballast.unlink()
    datapipe.preprocess(corpus, output, workers=workers, overrides=tools.overrides)
    assert tools.published(output) == undisturbed[0]


def test_what_a_dead_worker_left(corpus, tmp_path, tools, undisturbed):
    """A file that was half written when its worker was killed, in a folder that is published: swept at the end."""

    def leave(_):
        (tmp_path / "index").mkdir(exist_ok=True)
        (tmp_path / "index" / ".datapipe-tmp-0123").write_bytes(b"half")

    datapipe.preprocess(corpus, tmp_path, workers=0, overrides=tools.overrides, on_progress=leave)
    assert tools.published(tmp_path) == undisturbed[0]


@pytest.mark.parametrize("where", [".", "out", "deep/er/out"])
def test_an_output_inside_the_input(tmp_path, where):
    """… would be the next run's input: refused, also through a link."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for inputs in (tmp_path / "in", f"named={tmp_path / 'in'}"):
        for output in (tmp_path / "in" / where, tmp_path / "link" / where):
            with pytest.raises((ConfigError, OutputError), match=r"lies inside the input|holds something else: a\.txt"):
                datapipe.preprocess([inputs], output, workers=0)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.txt"]


def test_files_found_in_the_output(tmp_path):
    """A pattern that reaches into the output is refused as well."""
    from datapipe.corpus import discover

    (tmp_path / "out" / "data").mkdir(parents=True)
    (tmp_path / "out" / "data" / "a.txt").write_text("x")
    files = discover([str(tmp_path / "*" / "data" / "*.txt")]).files
    with pytest.raises(ConfigError, match="lies inside the input"):
        refuse_overlap([], open_store(str(tmp_path / "out")), files)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(corpus, tmp_path):
    """AccessError, not a traceback."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o500)
    with pytest.raises(AccessError):
        datapipe.preprocess(corpus, tmp_path / "out", workers=0)


@pytest.mark.parametrize("after", [0, 3, 9, 20, 24, 27])
def test_no_space_left(corpus, tmp_path, tools, monkeypatch, after):
    """A disk that is full at any write: NoSpaceError; the dataset of before verifies; space made, the run goes on."""
    from datapipe.dataset import verify_dataset
    from datapipe.storage.local import LocalStore

    output = tmp_path / "out"
    datapipe.preprocess(corpus, output, workers=0, overrides={**tools.overrides, "pack.seq_len": 32})
    before = tools.published(output)
    count = 0
    for name in ("put", "put_file"):
        real = getattr(LocalStore, name)

        def full(self, path, data, real=real):
            nonlocal count
            count += 1
            if count > after:
                raise NoSpaceError("no space left")
            return real(self, path, data)

        monkeypatch.setattr(LocalStore, name, full)
    overrides = {**tools.overrides, "unicode.zero_width": True, "vocabulary.size": 350}
    with pytest.raises(NoSpaceError):
        datapipe.preprocess(corpus, output, workers=0, overrides=overrides)
    assert verify_dataset(str(output)).ok
    assert {path: data for path, data in tools.published(output).items() if path in before} == before
    monkeypatch.undo()
    datapipe.preprocess(corpus, output, workers=0, overrides=overrides)
    datapipe.preprocess(corpus, tmp_path / "afresh", workers=0, overrides=overrides)
    assert tools.published(output) == tools.published(tmp_path / "afresh")


def test_a_full_scratch_disk(corpus, tmp_path, tools, monkeypatch):
    """Arrow's own files run out of space too: the same error."""
    import errno

    from datapipe.preprocess.rows_file import RowsWriter

    def full(self, table):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RowsWriter, "write", full)
    with pytest.raises(NoSpaceError, match="no space left"):
        datapipe.preprocess(corpus, tmp_path, workers=0, overrides=tools.overrides)
    assert not list((tmp_path / "_work" / "scratch").iterdir())
