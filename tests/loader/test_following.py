"""A loader that takes up newer snapshots: between epochs, the same everywhere, and on record."""

import subprocess
import sys
from pathlib import Path

import pytest

import datapipe
from datapipe.dataset import Dataset, compacted, expire, keep_snapshot, open_dataset, publish, read_snapshot
from datapipe.errors import ClosedError, ConfigError, LoaderError, SchemaError, StateError

OPTIONS = {"collate": "numpy", "seed": 3, "num_threads": 1}


def loader_of(store, size=2, follow=True, **more):
    """A loader of the rows' numbers."""
    return datapipe.DataLoader(open_dataset(store.url, columns=["row"], follow=follow), size, **{**OPTIONS, **more})


def epoch(loader):
    """The rows of one epoch, batch by batch."""
    return [batch["row"].tolist() for batch in loader]


def of(store, snapshot, number, size=2, **more):
    """Epoch `number` of a snapshot, as a loader gives it that stays there."""
    dataset = open_dataset(store.url, columns=["row"], snapshot=snapshot)
    with datapipe.DataLoader(dataset, size, **{**OPTIONS, **more}) as loader:
        loader.set_epoch(number)
        return epoch(loader)


@pytest.mark.parametrize("prefetch", [0, None])
def test_an_epoch_is_of_the_newest_snapshot(grown, prefetch):
    """Each is that epoch of the snapshot which was the newest as it began, whatever is published meanwhile."""
    store = grown((6,))
    with loader_of(store, prefetch=prefetch) as loader:
        grown.more(store, 4)
        assert epoch(loader) == of(store, 1, 0)
        batches = iter(loader)
        first = next(batches)["row"].tolist()
        grown.more(store, 6)
        assert [first, *(batch["row"].tolist() for batch in batches)] == of(store, 1, 1)
        assert (len(loader), loader.state_dict()["snapshot"]) == (5, 1)
        assert epoch(loader) == of(store, 2, 2)
        assert (len(loader), loader.epoch, loader.state_dict()["snapshot"]) == (8, 2, 2)
        assert epoch(loader) == of(store, 2, 3)
        with pytest.raises(ConfigError, match="no more than were delivered"):
            loader.last_rows(99)


def test_a_state_names_its_snapshot(grown):
    """Loaded anywhere later, what is left of the epoch comes, then the next epoch is of what is newest by then."""
    store = grown((8,))
    with loader_of(store) as loader:
        batches = iter(loader)
        next(batches)
        state = loader.state_dict()
        at_end = None
        rest = [batch["row"].tolist() for batch in batches]
        at_end = loader.state_dict()
    grown.more(store, 4)
    with loader_of(store) as loader:
        epoch(loader)  # it stands elsewhere
        loader.load_state_dict(state)
        assert loader.state_dict() == state
        assert epoch(loader) == rest
        assert epoch(loader) == of(store, 1, 1)
        # A state from between two epochs names the snapshot of the epoch that it is at the start of.
        loader.load_state_dict(at_end)
        assert epoch(loader) == of(store, 0, 1)
        assert epoch(loader) == of(store, 1, 2)
        loader.load_state_dict(at_end)
        loader.take_up(loader.dataset.newer())
        assert epoch(loader) == of(store, 1, 1)
        with pytest.raises(ConfigError):
            loader.last_rows(99)


def test_a_state_outlives_the_files_that_it_was_made_with(grown):
    """Merged shards have the content that it names, and give the batches that come next."""
    store = grown((4, 2, 2))
    with loader_of(store) as loader:
        next(iter(loader))
        state = loader.state_dict()
        loader.load_state_dict(state)
        rest = epoch(loader)
    old = read_snapshot(store)
    keep_snapshot(store, old)
    publish(store, compacted(store, old))
    grown.more(store, 2)
    assert len(expire(store, keep=2, grace=0, now=0.0).snapshots) == 3
    with loader_of(store) as loader:
        loader.load_state_dict(state)
        assert epoch(loader) == rest
    expire(store, keep=1, grace=0, now=0.0)
    with loader_of(store) as loader:
        before = loader.state_dict()
        with pytest.raises(StateError, match="does not fit"):
            loader.load_state_dict(state)
        assert loader.state_dict() == before


def test_a_state_that_does_not_fit_changes_nothing(grown):
    """Not even the snapshot."""
    store = grown((8,))
    with loader_of(store) as loader:
        next(iter(loader))
        state = loader.state_dict()
    grown.more(store, 4)
    with loader_of(store, seed=4) as loader:
        epoch(loader)
        with pytest.raises(StateError, match="seed"):
            loader.load_state_dict(state)
        assert len(loader.dataset) == 12
        assert epoch(loader) == of(store, 1, 1, seed=4)


def test_who_does_not_follow_stays(grown):
    """As ever; and can be moved by hand, also a mix, and not once closed."""
    store = grown((8,))
    with loader_of(store, follow=False) as loader:
        grown.more(store, 4)
        assert epoch(loader) == of(store, 0, 0)
        assert "snapshot" not in loader.state_dict()
        loader.take_up(loader.dataset.newer())
        assert epoch(loader) == of(store, 1, 1)
    with pytest.raises(ClosedError):
        loader.take_up(loader.dataset)
    with pytest.raises(ConfigError, match="'a' follows"):
        datapipe.mix({"a": open_dataset(store.url, follow=True)})


def test_ranks_that_cannot_agree_take_nothing_up(grown):
    """An error before any batch; with a function that agrees all take what it says, also an older one than seen."""
    store = grown((8,))
    with loader_of(store, rank=0, world_size=2) as loader, pytest.raises(ConfigError, match="no way to agree"):
        iter(loader)
    grown.more(store, 4)
    told = []

    def agree(number):
        told.append(number)
        return 0

    with loader_of(store, follow=agree, rank=1, world_size=2) as loader:
        theirs = [batch["row"].tolist() for batch in loader]
    assert told == [1]
    assert theirs == of(store, 0, 0, rank=1, world_size=2)


def test_rank_0_decides(grown, monkeypatch):
    """Its number is taken, found here or not; a rank whose snapshot of that number is another is told."""
    store = grown((8,))
    said = []

    def broadcast(numbers):
        said.append(numbers[0])
        return [0] if numbers[0] < 9 else [int(theirs.removeprefix("dp1-")[:15], 16)]

    theirs = open_dataset(store.url).fingerprint
    grown.more(store, 4)
    monkeypatch.setattr("datapipe.loader.following._distributed", lambda: True)
    monkeypatch.setattr("datapipe.loader.following._broadcast", broadcast)
    with loader_of(store, rank=1, world_size=2) as loader:
        assert epoch(loader) == of(store, 0, 0, rank=1, world_size=2)
        assert said[0] == 1
        theirs = "dp1-" + "0" * 32
        with pytest.raises(LoaderError, match="rank 0's begins with dp1-000"):
            iter(loader)


def test_a_store_that_fails_for_a_while_leaves_the_loader_where_it_is(grown, monkeypatch):
    """It says so, and goes on with the snapshot that it has."""
    store = grown((4,))
    with loader_of(store) as loader:
        path = Path(store.url) / "manifest.json"
        kept = path.read_bytes()
        path.write_bytes(b"{")
        with pytest.warns(UserWarning, match="no newer snapshot can be looked for"):
            assert epoch(loader) == epoch(loader_of(grown((4,))))
        path.write_bytes(kept)


def test_a_snapshot_without_our_columns_leaves_no_rank_waiting(grown, monkeypatch):
    """Alone it is an error; of several ranks, one that raised before they agree would leave the others in there."""
    store = grown((8,))

    def newer(self):
        raise SchemaError("there is no column 'row'")

    monkeypatch.setattr(Dataset, "newer", newer)
    with loader_of(store) as loader, pytest.raises(SchemaError):
        iter(loader)
    told = []
    mine, theirs = {"rank": 1, "world_size": 2}, of(store, 0, 0, rank=1, world_size=2)
    with (
        loader_of(store, follow=lambda n: told.append(n) or n, **mine) as loader,
        pytest.warns(UserWarning, match="no column 'row'"),
    ):
        assert epoch(loader) == theirs
    assert told == [0]


@pytest.mark.slow
def test_ranks_agree_by_torch_distributed(grown, tmp_path):
    """Two processes, one of which sees a snapshot later than the other: the same batches as one process has."""
    pytest.importorskip("torch")
    store = grown((8,))
    job = Path(__file__).parent / "following_job.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(job)]
    done = subprocess.run(
        [*command, store.url, str(tmp_path)], capture_output=True, text=True, timeout=240, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    epochs = [(tmp_path / f"rank-{rank}.txt").read_text().split("\n") for rank in range(2)]
    for number, snapshot in enumerate((0, 1, 1)):
        for rank in range(2):
            assert epochs[rank][number] == str(of(store, snapshot, number, rank=rank, world_size=2))


def test_new_and_old_rows_are_mixed_in_a_fixed_share(grown):
    """Continual training: of every stretch the same share is replayed from before, and a state resumes the mix."""
    store = grown((40, 20))
    dataset = open_dataset(store.url, columns=["row"])

    def loader():
        sources = {"new": dataset.since(0), "old": dataset.until(0)}
        return datapipe.DataLoader(
            datapipe.mix(sources, weights={"new": 0.75, "old": 0.25}, until=40), 8, **OPTIONS, shuffle=False
        )

    with loader() as whole:
        batches = iter(whole)
        first = [next(batches)["row"].tolist() for _ in range(2)]
        state = whole.state_dict()
        rest = [batch["row"].tolist() for batch in batches]
    replayed = [sum(row < 40 for row in batch) for batch in first + rest]
    assert replayed == [2] * 5
    new = [row for batch in first + rest for row in batch if row >= 40]
    assert new == [*range(40, 60), *range(40, 50)]
    with loader() as resumed:
        resumed.load_state_dict(state)
        assert epoch(resumed) == rest
