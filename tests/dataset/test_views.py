"""What a snapshot had, and what was added since: together every row, whichever files hold them now."""

import pytest

from datapipe.dataset import compacted, keep_snapshot, open_dataset, publish, read_snapshot, roll_back
from datapipe.dataset.views import found
from datapipe.errors import ConfigError, DatasetError


def rows(dataset):
    return dataset.take(range(len(dataset))).column("row").to_pylist()


def merge(store):
    """All shards into one, published."""
    old = read_snapshot(store)
    keep_snapshot(store, old)
    publish(store, compacted(store, old))


@pytest.mark.parametrize("merged", [False, True])
def test_old_and_new_are_everything(grown, merged):
    """At any snapshot; the old part is that snapshot by name; both read from the files of the newest."""
    store = grown((5, 4, 3))
    if merged:
        merge(store)
    whole = open_dataset(store.url)
    for number, n in enumerate((5, 9, 12)):
        old, new = whole.until(number), whole.since(number)
        assert (rows(old), rows(new)) == (list(range(n)), list(range(n, 12)))
        assert old.fingerprint == open_dataset(store.url, snapshot=number).fingerprint
        assert sum(len(part.index) for part in (old, new)) == len(whole.index)
        assert old.newer() is new.newer() is None
    between = whole.until(1).since(0)
    assert rows(between) == rows(whole.since(0).until(1)) == [5, 6, 7, 8]
    assert between.fingerprint == whole.since(0).until(1).fingerprint != whole.since(0).fingerprint
    assert between.select(["text"]).take([0]).column("text").to_pylist() == ["row 5"]
    # Chance is keyed by a row's number in the whole dataset, in a view as well.
    assert between.row_numbers(between.index.shard[:1] * 0, between.index.shard[:1] * 0).tolist() == [5]


def test_filters_hold_in_a_view(grown):
    """The same rows pass; a view's name is of its filter too."""
    store = grown((5, 4, 3))
    whole = open_dataset(store.url, filters=[("row", "in", [1, 4, 6, 11])])
    assert (rows(whole.until(0)), rows(whole.since(0))) == ([1, 4], [6, 11])
    assert whole.until(2).fingerprint == whole.fingerprint
    assert whole.since(0).fingerprint != open_dataset(store.url).since(0).fingerprint


def test_a_view_is_named_by_what_is_in_it(grown):
    """A later snapshot changes what was added since, and not what there was between two."""
    store = grown((5, 4))
    before = open_dataset(store.url)
    grown.more(store, 3)
    after = open_dataset(store.url)
    assert after.since(0).fingerprint != before.since(0).fingerprint
    assert after.since(0).until(1).fingerprint == before.since(0).fingerprint


def test_what_was_not_added_to_is_refused(grown, tmp_path):
    """A snapshot that was rolled back, one that is not there, a folder without any."""
    store = grown((5, 4))
    roll_back(store, 0)
    grown.more(store, 2)
    dataset = open_dataset(store.url)
    assert rows(dataset.since(0)) == [5, 6]
    with pytest.raises(DatasetError, match="not what snapshot 3 was added to"):
        dataset.since(1)
    with pytest.raises(DatasetError, match="no snapshot 9"):
        dataset.until(9)
    bare = open_dataset(f"{store.url}/data")
    for call in (lambda: bare.since(0), lambda: bare.at(0), lambda: open_dataset(f"{store.url}/data", follow=True)):
        with pytest.raises(DatasetError, match="no snapshots"):
            call()
    with pytest.raises(ConfigError, match="follow=3"):
        open_dataset(store.url, follow=3)


def test_a_name_finds_its_snapshot(grown):
    """The newest that has it, so that its files are there; none once it has expired."""
    store = grown((5, 4))
    merge(store)
    grown.more(store, 1)
    dataset = open_dataset(store.url, columns=["row"])
    assert found(dataset, open_dataset(store.url, snapshot=1).fingerprint).manifest.snapshot == 2
    assert found(dataset, dataset.fingerprint).schema.names == ["row"]
    assert found(dataset, "dp1-none") is None
