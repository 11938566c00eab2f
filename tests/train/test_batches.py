"""The loop's side of a loader: nothing ahead, epoch after epoch."""

import time

import pytest
import torch

from datapipe.errors import ConfigError
from datapipe.train.batches import Batches, check_loader, moved, needs_moving
from datapipe.train.digests import batch_digest
from datapipe.train.phases import Phases

CPU = torch.device("cpu")


def test_nothing_is_taken_ahead(make_loader):
    """After each batch the loader stands exactly behind it, over the ends of epochs."""
    loader = make_loader(batches=3)
    phases = Phases(CPU)
    batches = Batches(loader, CPU, phases)
    for n in range(8):
        batches.begin_step(n, time.perf_counter_ns())
        batch = batches.next()
        assert batch_digest(batch) == batch_digest(loader.batch(n // 3, n % 3))
        assert (loader.epoch, loader.position) == (n // 3, n % 3 + 1)
        assert batches.epoch == n // 3
    batches.close()
    batches.close()


def test_a_loader_that_counts_no_epochs_is_counted(make_loader):
    class Silent:
        def __init__(self, inner):
            self._inner = inner
            self.state_dict, self.load_state_dict = inner.state_dict, inner.load_state_dict

        def __iter__(self):
            return iter(self._inner)

    batches = Batches(Silent(make_loader(batches=2)), CPU, Phases(CPU))
    seen = []
    for n in range(5):
        batches.begin_step(n, 0)
        batches.next()
        seen.append(batches.epoch)
    assert seen == [0, 0, 1, 1, 2]


def test_what_is_on_the_device_stays(make_loader):
    """No copy, the very same batch; elsewhere all its tensors move and the rest is passed on."""
    batch = {**make_loader().batch(0, 0), "names": ["a"], "inner": {"x": torch.zeros(1)}}
    assert not needs_moving(batch, CPU)
    meta = torch.device("meta")
    assert needs_moving(batch, meta)
    there = moved(batch, meta)
    assert {there["tokens"].device, there["segment_ids"].device, there["inner"]["x"].device} == {meta}
    assert there["names"] == ["a"]


def test_a_loader_that_cannot_say_where_it_stands_is_refused(make_loader):
    check_loader(make_loader())
    with pytest.raises(ConfigError, match="generator without state_dict and load_state_dict"):
        check_loader(x for x in ())
    with pytest.raises(ConfigError, match="without __iter__"):
        check_loader(None)


def test_tensors_are_moved_however_deep_they_lie():
    """In tuples and lists as in dicts; what is no tensor, and what is there already, stays."""
    meta = torch.device("meta")
    there = torch.ones(2, device=meta)
    batch = {"pair": (torch.ones(3), ["text"]), "deep": [{"x": torch.ones(1)}], "there": there}
    assert needs_moving(batch, meta)
    assert not needs_moving({"there": [there], "text": "a"}, meta)
    got = moved(batch, meta)
    assert got["pair"][0].device == got["deep"][0]["x"].device == meta
    assert got["pair"][1] == ["text"]
    assert got["there"] is there
