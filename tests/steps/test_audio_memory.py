"""Files in memory that are one sound's at a time."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.steps import audio_memory
from datapipe.steps.audio_memory import MOST_BYTES, MOST_KEPT, file_of, give_back

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="files in memory are Linux's")


@pytest.fixture(autouse=True)
def none_free(monkeypatch):
    monkeypatch.setattr(audio_memory, "_free", [])


@given(st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=20))
def test_a_file_holds_what_it_was_given(turns):
    """And nothing of the sound before it, however long that was; nor is it anybody's while somebody has it."""
    held = []
    for data, done in turns:
        held.append((file_of(data), data))
        assert len({id(file) for file, _ in held}) == len(held)
        for file, mine in held:
            assert file.tell() == 0
            assert os.pread(file.fileno(), 1000, 0) == mine
        if done:
            give_back(held.pop(0)[0])
    for file, _ in held:
        file.close()


def test_few_are_kept_and_no_large_ones():
    """What is kept is bounded: so many files, each of so many bytes."""
    files = [file_of(b"x") for _ in range(MOST_KEPT + 3)]
    for file in files:
        give_back(file)
    assert sum(not file.closed for file in files) == len(audio_memory._free) == MOST_KEPT
    large = file_of(bytes(MOST_BYTES + 1))
    give_back(large)
    assert large.closed


def test_no_room(monkeypatch):
    """Where there is no file to be had, or no room in it, the bytes are read from where they lie."""

    def refused(*_):
        raise OSError("no more")

    monkeypatch.setattr(os, "memfd_create", refused)
    assert isinstance(file_of(b"sound"), io.BytesIO)
    give_back(file_of(b"sound"))
    assert not audio_memory._free


def test_a_child_has_files_of_its_own():
    """After a fork: a file that waits in the parent is not the child's to write over."""
    give_back(file_of(b"before"))
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, bytes([len(audio_memory._free)]))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"\0"
    assert len(audio_memory._free) == 1
    os.close(reader)
    os.close(writer)
