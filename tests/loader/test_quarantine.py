"""Bad row groups: what stands in for them, on any topology and after any resume, and what is refused."""

from __future__ import annotations

import json
import logging
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import datapipe
from datapipe.errors import ConfigError, IntegrityError, StateError, StorageError
from datapipe.loader.quarantine import is_damage
from tests.loader.damaged_rows import GROUPS, ROWS, damage, ids_of, make, write


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, "datapipe.loader.quarantine")


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("prefetch", [0, 3])
def test_positions_and_steps_stay_and_only_bad_rows_change(tmp_path, shuffle, prefetch):
    """Every good row stands where it stood; at a bad one's place stands a row of another row group of its lane."""
    write(tmp_path)
    with make(tmp_path, shuffle=shuffle, prefetch=prefetch) as whole:
        before = ids_of(whole)
    damage(tmp_path, 7)
    with make(tmp_path, shuffle=shuffle, prefetch=prefetch) as loader:
        after = ids_of(loader)
        entries = loader.stats()["quarantined"]
    assert [len(batch) for batch in after] == [len(batch) for batch in before]
    stands_in = set()
    for old, new in zip([*chain(*before)], [*chain(*after)], strict=True):
        if old // ROWS == 7:
            stands_in.add(new // ROWS)
            assert new % ROWS == old % ROWS
        else:
            assert new == old
    assert len(stands_in) == 1
    assert stands_in < {6, 8, 9, 10, 11}  # its lane
    if not shuffle:
        assert stands_in == {8}
    (entry,) = entries
    assert (entry["epoch"], entry["block"], entry["shard"], entry["row_group"]) == (0, 7, "part-0.parquet", 7)
    assert "part-0.parquet" in entry["reason"]


def test_all_ranks_agree_without_talking(tmp_path):
    """Two ranks, and eight that share lanes, deliver together what one does."""
    write(tmp_path)
    damage(tmp_path, 7)
    damage(tmp_path, 14)
    with make(tmp_path, batch_size=16) as loader:
        one = [sorted(batch) for batch in ids_of(loader)]
    for world in (2, 8):
        ranks = [make(tmp_path, batch_size=16 // world, rank=rank, world_size=world) for rank in range(world)]
        parts = [ids_of(rank) for rank in ranks]
        assert [sorted([*chain(*batches)]) for batches in zip(*parts, strict=True)] == one
        found = {tuple(entry) for rank in ranks for entry in rank.state_dict().get("quarantined", [])}
        assert found == {(0, 7), (0, 14)}
        for rank in ranks:
            rank.close()


def test_resume_gives_the_same_rows_even_once_the_file_is_whole_again(tmp_path):
    """The state says which row groups are replaced, so what comes next does not depend on the file any more."""
    write(tmp_path)
    whole = (tmp_path / "part-0.parquet").read_bytes()
    damage(tmp_path, 7)
    with make(tmp_path) as loader:
        first, second = ids_of(loader), ids_of(loader)
    with make(tmp_path, window=6) as loader:
        wide = ids_of(loader)
    with make(tmp_path, window=6) as loader:
        iterator = iter(loader)
        for _ in range(20):
            next(iterator)
        state = json.loads(json.dumps(loader.state_dict()))
    assert state["quarantined"] == [[0, 7]]
    assert first != second
    (tmp_path / "part-0.parquet").write_bytes(whole)
    for world in (1, 2):
        ranks = [make(tmp_path, window=6, batch_size=8 // world, rank=rank, world_size=world) for rank in range(world)]
        parts = []
        for rank in ranks:
            rank.load_state_dict(state)
            assert rank.state_dict()["quarantined"] == [[0, 7]]
            parts.append(ids_of(rank))
            assert rank.stats()["quarantined"][0]["block"] == 7
            rank.close()
        assert [sorted([*chain(*batches)]) for batches in zip(*parts, strict=True)] == [sorted(b) for b in wide[20:]]


def test_nulls_that_are_refused_are_quarantined(of_tables, caplog):
    """A row group with a null where none may be is bad; the log names shard, row group and reason."""
    caplog.set_level(logging.WARNING, "datapipe.loader.quarantine")
    tables = [pa.table({"id": pa.array(np.arange(10 * i, 10 * i + 10))}) for i in range(8)]
    tables[5] = pa.table({"id": pa.array([None, *range(51, 60)], pa.int64())})
    data = of_tables(*tables)
    with datapipe.DataLoader(data, 10, shuffle=False, collate="numpy", on_error="quarantine", num_threads=1) as loader:
        assert [batch["id"][0] for batch in loader] == [0, 10, 20, 30, 40, 60, 60, 70]
    (record,) = [record for record in caplog.records if record.name == "datapipe.loader.quarantine"]
    assert "shard-0, row group 5" in record.getMessage()
    assert "null" in record.getMessage()


def test_what_is_read_well_the_second_time_is_delivered(of_tables):
    """One bad read is no bad row group: it is read again, once, and nothing is recorded."""
    data = of_tables(*(pa.table({"id": pa.array(np.arange(4 * i, 4 * i + 4))}) for i in range(8)))
    data.fails[3] = IntegrityError("a flipped bit on the way")
    anew = []

    def fetch_anew(block):
        anew.append(block)
        data.fails.pop(block)
        return data.fetch(block)

    data.fetch_anew = fetch_anew
    with datapipe.DataLoader(data, 4, shuffle=False, collate="numpy", on_error="quarantine") as loader:
        assert np.concatenate([batch["id"] for batch in loader]).tolist() == list(range(32))
        assert loader.stats()["quarantined"] == []
        assert "quarantined" not in loader.state_dict()
    assert anew == [3]


@pytest.mark.parametrize(
    "fault", [StorageError("the network"), MemoryError(), "memory within an integrity error", "a system call's error"]
)
def test_what_may_pass_is_never_quarantined(of_tables, fault):
    """The network, memory and the system say nothing about the rows: they stop the run as ever."""
    if isinstance(fault, str):
        error = IntegrityError("cannot be read")
        error.__cause__ = MemoryError() if "memory" in fault else OSError(24, "Too many open files")
        fault = error
    data = of_tables(*(pa.table({"id": pa.array(np.arange(4))}) for _ in range(8)))
    data.fails[3] = fault
    with datapipe.DataLoader(data, 4, shuffle=False, collate="numpy", on_error="quarantine") as loader:
        with pytest.raises(type(fault)) as info:
            ids_of(loader)
        assert info.value is fault
        assert loader.stats()["quarantined"] == []
    assert not is_damage(fault)


def test_a_network_error_at_the_second_read_is_not_damage(of_tables):
    """The second read decides, and it could not be made."""
    data = of_tables(*(pa.table({"id": pa.array(np.arange(4))}) for _ in range(8)))
    data.fails[3] = IntegrityError("short")

    def fetch_anew(block):
        raise StorageError("no route")

    data.fetch_anew = fetch_anew
    with datapipe.DataLoader(data, 4, shuffle=False, collate="numpy", on_error="quarantine") as loader:
        with pytest.raises(StorageError, match="no route"):
            ids_of(loader)
        assert loader.stats()["quarantined"] == []


@pytest.mark.parametrize("tail", ["pad", "partial"])
def test_tails_keep_their_shape(tmp_path, tail):
    """A padded or partial last batch is as long, and as real, as it was."""
    write(tmp_path, rows=19)
    with make(tmp_path, batch_size=32, tail=tail) as whole:
        before = [(len(b["id"]), int(b.get("mask", np.ones(0)).sum())) for b in whole]
    damage(tmp_path, 7)
    with make(tmp_path, batch_size=32, tail=tail) as loader:
        assert [(len(b["id"]), int(b.get("mask", np.ones(0)).sum())) for b in loader] == before


def test_lengths_that_cannot_be_read_are_refused_clearly(tmp_path):
    """Batches cannot be planned without them, so that no stand-in helps; the error says so and names the row group."""
    write(tmp_path, lengths=True)
    damage(tmp_path, 7, "n_tokens")
    options = {"pack": datapipe.Pack(32, columns="tokens"), "batch_size": 2}
    with make(tmp_path, **options) as loader, pytest.raises(IntegrityError) as info:
        list(loader)
    assert any("batches are planned from the lengths" in note for note in info.value.__notes__)
    assert "part-0.parquet: row group 7" in str(info.value)


def test_keys_name_the_rows_that_are_delivered(tmp_path):
    """A transform's draws are keyed by the row it gets, the stand-in, not by the one that is missing."""
    write(tmp_path)
    damage(tmp_path, 7)
    seen = []

    def note(batch, keys):
        seen.append((batch["id"].tolist(), keys.rows.tolist()))
        return batch

    with make(tmp_path, transform=note, prefetch=0) as loader:
        for _ in loader:
            pass
    assert all(ids == rows for ids, rows in seen)


def test_cached_rows_are_checked_against_the_store(tmp_path):
    """The second read goes past the cache: a row group that was never in it is found bad all the same."""
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    damage(tmp_path / "data", 7)
    data = datapipe.open_dataset(tmp_path / "data", cache=datapipe.Cache(tmp_path / "cache", 1 << 26))
    for _ in range(2):
        with datapipe.DataLoader(data, 8, lanes=4, window=2, collate="numpy", on_error="quarantine") as loader:
            assert len(ids_of(loader)) == 60
            assert [each["block"] for each in loader.stats()["quarantined"]] == [7]


def test_states_with_quarantine_are_refused_where_it_cannot_be_honoured(tmp_path):
    """A loader that raises, another dataset's blocks and nonsense are refused, with what to do."""
    write(tmp_path)
    with make(tmp_path) as loader:
        state = loader.state_dict()
    with make(tmp_path, on_error="raise") as other:
        with pytest.raises(StateError, match="in quarantine, and this loader none") as info:
            other.load_state_dict({**state, "quarantined": [[0, 7]]})
        assert 'on_error="quarantine"' in str(info.value)
        other.load_state_dict(state)
    with make(tmp_path) as other:
        for bad in ([[0, GROUPS]], [[0]], [["0", 1]], "all", [[0, -1]]):
            with pytest.raises(StateError, match="quarantine"):
                other.load_state_dict({**state, "quarantined": bad})
    with pytest.raises(ConfigError, match="on_error"):
        make(tmp_path, on_error="skip")


def test_raise_is_the_default_and_names_the_row_group(tmp_path):
    """Nothing is replaced unless asked for."""
    write(tmp_path)
    damage(tmp_path, 7)
    data = datapipe.open_dataset(tmp_path)
    with datapipe.DataLoader(data, 8, collate="numpy") as loader, pytest.raises(IntegrityError, match="row group 7"):
        ids_of(loader)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_topology_and_any_resume_give_the_same_batches(memory, data):
    """A law: with bad row groups too, ranks, threads and where a state was saved change no batch."""
    lanes = data.draw(st.integers(1, 2))
    blocks = 24 * lanes  # of which two in a lane may be bad, if it has 21 or more
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=blocks, max_size=blocks))
    shuffle, tail = data.draw(st.booleans()), data.draw(st.sampled_from(["drop", "pad", "partial"]))
    bad = data.draw(st.sets(st.integers(0, blocks - 1), max_size=3))

    def load(world, rank, threads, state=None):
        rows = memory(sizes)
        rows.fails = {block: IntegrityError("damaged") for block in bad}
        loader = datapipe.DataLoader(
            rows, 12 // world, shuffle=shuffle, lanes=lanes, window=2, tail=tail, rank=rank, world_size=world,
            collate="numpy", on_error="quarantine", prefetch=3 if threads else 0, num_threads=max(1, threads),
        )  # fmt: skip
        if state is not None:
            loader.load_state_dict(state)
        return loader

    with load(1, 0, 0) as loader:
        cut = loader._order.cut
        assume(all(sum(block in bad for block in range(a, b)) * 20 < b - a + 20 for a, b in pairwise(cut)))
        want = [sorted(batch["id"].tolist()) for batch in loader]
    world, threads = data.draw(st.sampled_from([1, 2, 3, 4])), data.draw(st.sampled_from([0, 2]))
    stop = data.draw(st.integers(0, len(want) - 1))
    found = []
    with load(world, 0, threads) as loader:
        iterator = iter(loader)
        for _ in range(stop):
            next(iterator)
        state = json.loads(json.dumps(loader.state_dict()))
    resumed = data.draw(st.sampled_from([1, 2, 3, 4]))
    for rank in range(resumed):
        with load(resumed, rank, threads, state) as loader:
            found.append([batch["id"].tolist() for batch in loader])
    assert [sorted(chain(*parts)) for parts in zip(*found, strict=True)] == want[stop:]
