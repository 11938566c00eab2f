"""Local files: durable and atomic puts, and the faults of a file system."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from datapipe.errors import AccessError, IntegrityError, NoSpaceError, NotFoundError, StorageError
from datapipe.storage import open_store
from datapipe.storage.local import LocalStore
from datapipe.storage.walking import TEMPORARY


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def store(root):
    return open_store(str(root))


def names(store):
    return [entry.path for entry in store.list()]


def everything(root):
    """Every name below a folder, hidden and temporary ones included."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_relative_root_stays_where_it_was(tmp_path, monkeypatch):
    """A store goes on meaning the same folder when the working directory changes."""
    monkeypatch.chdir(tmp_path)
    store = open_store("x")
    store.put("a", b"1")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.read("a") == b"1"


def test_file_urls_and_home(tmp_path, monkeypatch):
    """file:// URLs are unquoted and '~' is expanded."""
    monkeypatch.setenv("HOME", str(tmp_path))
    open_store(f"file://{tmp_path}/a%20b").put("x", b"1")
    assert (tmp_path / "a b" / "x").read_bytes() == b"1"
    open_store("~/home").put("x", b"2")
    assert (tmp_path / "home" / "x").read_bytes() == b"2"


def test_a_killed_put_leaves_nothing_visible(root, store):
    """A process killed between writing and renaming leaves the old object, and a temporary that no listing shows."""
    store.put("d/x", b"old")
    code = f"""
        import os, signal
        from datapipe.storage import open_store
        os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
        open_store({str(root)!r}).put("d/x", b"new")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert store.read("d/x") == b"old"
    assert names(store) == ["d/x"]
    left = [name for name in everything(root) if TEMPORARY in name]
    assert len(left) == 1
    assert store.sweep() == 1
    assert everything(root) == ["d/x"]
    assert store.sweep() == 0


def test_the_file_is_synced_before_the_rename_and_the_folder_after(store, root, monkeypatch):
    """Durability is an order: data, name, folder. New folders are synced into their parents too."""
    calls = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(fd):
        calls.append(("fsync", Path(f"/proc/self/fd/{fd}").resolve().is_dir()))
        real_fsync(fd)

    def replace(source, target):
        calls.append(("replace", False))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    store.put("x", b"1")
    assert calls[-3:] == [("fsync", False), ("replace", False), ("fsync", True)]
    calls.clear()
    store.put("new/deep/x", b"1")
    assert calls == [("fsync", True)] * 2 + [("fsync", False), ("replace", False), ("fsync", True)]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoSpaceError),
        (errno.EDQUOT, NoSpaceError),
        (errno.EACCES, AccessError),
        (errno.EROFS, AccessError),
        (errno.EIO, StorageError),
    ],
)
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_failed_put_leaves_the_old_and_no_temporary(store, root, monkeypatch, number, kind, call):
    """Whatever fails and wherever, the old object stays and nothing half-written is left beside it."""
    store.put("x", b"old")

    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(kind) as caught:
        store.put("x", b"new")
    monkeypatch.undo()
    assert type(caught.value) is kind
    assert "x" in str(caught.value)
    assert store.read("x") == b"old"
    assert everything(root) == ["x"]


@pytest.mark.parametrize("call", ["open", "mkdir"])
def test_a_folder_that_may_not_be_written(store, root, monkeypatch, call):
    """A read-only folder is an AccessError that names it (the tests may run as root, so the refusal is injected)."""
    root.mkdir()
    real = getattr(os, call)

    def refuse(path, *args, **kwargs):
        if call == "open" and not (args and args[0] & os.O_CREAT):
            return real(path, *args, **kwargs)
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(AccessError, match="root/new/x"):
        store.put("new/x", b"1")
    monkeypatch.undo()
    assert everything(root) == []


def test_a_full_disk(tmp_path):
    """On a file system that is really full a put is a NoSpaceError and leaves no bytes behind."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here; the injected ENOSPC above stands for it")
    try:
        store = open_store(str(small))
        store.put("old", b"o" * 50_000)
        with pytest.raises(NoSpaceError):
            store.put("big", b"x" * 1_000_000)
        source = tmp_path / "source"
        source.write_bytes(b"x" * 1_000_000)
        with pytest.raises(NoSpaceError):
            store.put_file("big", str(source))
        assert source.exists()
        assert everything(small) == ["old"]
        assert store.put("fits", b"y" * 50_000).size == 50_000
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_unreadable_file(store, monkeypatch):
    store.put("x", b"1")

    def refuse(path, flags, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    for action in (store.read, store.open):
        with pytest.raises(AccessError, match="x"):
            action("x")


def test_a_file_cut_while_it_is_read(store, root, monkeypatch):
    """A file that ends before the size it had when opened is an IntegrityError, not a short answer."""
    store.put("x", b"0123456789")
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: real(fd, n, at)[:4] if at == 0 else b"")
    with pytest.raises(IntegrityError):
        store.read("x", 0, 10)


def test_reads_in_parts(store, monkeypatch):
    """The operating system may give less than it was asked for: the rest is asked for again."""
    store.put("x", b"0123456789")
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: real(fd, min(n, 3), at))
    assert store.read("x", 1, 9) == b"12345678"


def test_writes_in_parts(store, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    store.put("x", b"0123456789")
    monkeypatch.undo()
    assert store.read("x") == b"0123456789"


def test_an_end_from_a_damaged_index_allocates_nothing(store):
    """A range of an exabyte is refused by the file's size."""
    store.put("x", b"1")
    with pytest.raises(IntegrityError):
        store.read("x", 0, 1 << 60)


def test_put_file_moves_within_a_file_system(store, root, tmp_path):
    """Within a file system no byte is copied, and the file is open to those whom a new one would be open to."""
    import tempfile

    handle, source = tempfile.mkstemp(dir=tmp_path)
    os.write(handle, b"1")
    os.close(handle)
    inode = Path(source).stat().st_ino
    store.put_file("x", source)
    store.put("y", b"1")
    assert not Path(source).exists()
    assert (root / "x").stat().st_ino == inode
    assert (root / "x").stat().st_mode == (root / "y").stat().st_mode
    assert everything(root) == ["x", "y"]


def test_put_file_copies_across_file_systems(store, root, tmp_path):
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    source = shm / f"datapipe-test-{os.getpid()}"
    source.write_bytes(b"abc")
    try:
        store.put_file("x", str(source))
        assert source.read_bytes() == b"abc"
    finally:
        source.unlink()
    assert store.read("x") == b"abc"
    assert everything(root) == ["x"]


def test_put_file_leaves_what_others_hold(store, tmp_path):
    """A link is copied from, and so is a file with a second name: neither is taken from its owner."""
    kept = tmp_path / "kept"
    kept.write_bytes(b"abc")
    link, second = tmp_path / "link", tmp_path / "second"
    link.symlink_to(kept)
    os.link(kept, second)
    store.put_file("x", str(link))
    store.put_file("y", str(second))
    assert kept.read_bytes() == b"abc"
    assert not (tmp_path / "root" / "x").is_symlink()
    (tmp_path / "root" / "y").write_bytes(b"other")
    assert kept.read_bytes() == b"abc"


def test_put_file_onto_itself(store, root):
    store.put("x", b"abc")
    store.put_file("x", str(root / "x"))
    assert store.read("x") == b"abc"
    assert everything(root) == ["x"]


def test_what_is_no_file(store, root):
    """Folders and pipes are not objects; opening a pipe does not wait for somebody to write into it."""
    (root / "folder").mkdir(parents=True)
    os.mkfifo(root / "pipe")
    for path in ("folder", "pipe"):
        for action in (store.info, store.read, store.open):
            with pytest.raises(NotFoundError):
                action(path)
    assert names(store) == []
    assert store.survey() == ([], [("pipe", "not_regular_file")])


def test_a_put_onto_a_folder(store, root):
    """A folder in the way is a StorageError, and so is a file where a folder should be."""
    store.put("a/b", b"1")
    for path in ("a", "a/b/c"):
        with pytest.raises(StorageError):
            store.put(path, b"2")
    assert everything(root) == ["a/b"]


def test_names_that_are_not_unicode(store, root):
    """A file whose name is no UTF-8 is listed and read like any other."""
    root.mkdir()
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9")).write_bytes(b"1")
    (name,) = names(store)
    assert store.read(name) == b"1"


def test_touching_changes_the_etag(store, root):
    """Etags are of size, time and inode: a file rewritten in place has another."""
    before = store.put("x", b"abc")
    os.utime(root / "x", ns=(1, 1))
    assert store.info("x").etag != before.etag


def test_local_options_of_remote_stores_are_left_alone(tmp_path):
    """One mapping of storage_options serves remote inputs and a local output."""
    store = open_store(str(tmp_path), storage_options={"key": "k", "secret": "s"})
    assert isinstance(store, LocalStore)
    assert "s3cr" not in repr(store)
