"""Reading ahead across epochs: the next one is begun early, taken over or thrown away, and changes nothing."""

from __future__ import annotations

import gc
import threading
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import IntegrityError
from datapipe.loader import DataLoader
from datapipe.loader import workshop as workshop_module
from tests.loader.loader_threads import loader_threads


def ids(batches):
    return [batch["id"].tolist() for batch in batches]


def options(**more):
    return {"collate": "numpy", "num_threads": 2, "lanes": 2, "window": 2, **more}


def read_ahead(dataset, blocks, seconds=60):
    """Wait until so many blocks were read in all."""
    done = threading.Event()
    fetch = dataset.fetch

    def watched(block):
        got = fetch(block)
        if len(dataset.reads) >= blocks:
            done.set()
        return got

    dataset.fetch = watched
    return len(dataset.reads) >= blocks or done.wait(seconds)


@pytest.mark.filterwarnings("ignore:the dataset has:UserWarning")
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_is_called_between_epochs_the_batches_are_those_of_a_fresh_loader(memory, data):
    """Takeover, broken off epochs, set_epoch, states, skips: the same batches as without threads."""
    sizes = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=8))
    tail = data.draw(st.sampled_from(["drop", "pad", "partial"]))
    how = {"tail": tail, "seed": 3}
    cheap = data.draw(st.sampled_from([0, 1 << 60]))
    budget = data.draw(st.sampled_from([1, 200, 1 << 20]))
    dataset = memory(sizes)
    before, workshop_module.CHEAP_NS = workshop_module.CHEAP_NS, cheap
    try:
        ahead = DataLoader(dataset, 3, prefetch=data.draw(st.integers(1, 9)), memory_budget=budget, **options(**how))
        plain = DataLoader(dataset, 3, prefetch=0, **options(**how))
        for _ in range(data.draw(st.integers(1, 6))):
            act = data.draw(st.sampled_from(["all", "part", "counted", "set_epoch", "state", "nothing"]))
            if act == "all":
                assert ids(ahead) == ids(plain)
            elif act in {"part", "counted"}:
                steps = len(plain) if act == "counted" else data.draw(st.integers(0, max(0, len(plain) - 1)))
                assert ids(islice(ahead, steps)) == ids(islice(plain, steps))  # fewer are left after a state
            elif act == "set_epoch":
                epoch = plain.epoch + data.draw(st.integers(0, 2))
                ahead.set_epoch(epoch)
                plain.set_epoch(epoch)
            elif act == "state":
                assert ahead.state_dict() == plain.state_dict()
                state = plain.state_dict()
                ahead.load_state_dict(state)
                plain.load_state_dict(state)
        assert ids(ahead) == ids(plain)
        ahead.close()
    finally:
        workshop_module.CHEAP_NS = before


def test_the_next_epoch_is_read_before_it_is_asked_for_and_taken_over(memory):
    """Nobody calls iter(), and the next epoch's blocks come; then the same threads go on."""
    dataset = memory([10] * 8)
    loader = DataLoader(dataset, 10, prefetch=2, **options())
    list(loader)
    threads = loader_threads()
    assert read_ahead(dataset, 16)
    assert loader.stats()["blocks"] >= 15
    assert len(ids(loader)) == 8
    assert loader_threads() == threads
    loader.close()
    assert not loader_threads()


def test_batches_of_the_next_epoch_are_made_ahead(memory, monkeypatch):
    monkeypatch.setattr(workshop_module, "CHEAP_NS", 0)
    made = threading.Event()

    def counting(batch):
        counting.calls += 1
        if counting.calls > 8:
            made.set()
        return batch

    counting.calls = 0
    loader = DataLoader(memory([10] * 8), 10, prefetch=2, transform=counting, **options())
    list(loader)
    assert made.wait(60)
    loader.close()


def test_reading_ahead_stays_within_the_budget(memory):
    """Between epochs no more is held than while one goes on."""
    dataset = memory([10] * 40)
    loader = DataLoader(dataset, 10, prefetch=2, memory_budget=6 * 80, **options(window=1))
    for _ in range(5):
        list(loader)
        assert loader.stats()["held_bytes"] <= 6 * 80
    assert loader.stats()["peak_bytes"] <= 7 * 80
    loader.close()


def test_an_epoch_is_not_begun_early_while_the_one_before_goes_on(memory):
    """Half of a small dataset delivered, all of it in memory: nothing of the next epoch is read yet."""
    dataset = memory([10] * 8)
    loader = DataLoader(dataset, 10, prefetch=1, **options())
    iterator = iter(loader)
    for _ in range(4):
        next(iterator)
    assert read_ahead(dataset, 8)
    for thread in loader_threads():
        thread.join(0.05)
    assert len(dataset.reads) == 8
    loader.close()


@pytest.mark.parametrize("elsewhere", ["set_epoch", "load_state_dict", "close"])
def test_going_elsewhere_throws_it_away(memory, elsewhere):
    dataset = memory([10] * 8)
    loader = DataLoader(dataset, 10, prefetch=2, **options())
    other = DataLoader(dataset, 10, prefetch=0, **options())
    list(loader)
    other.set_epoch(5)
    next(iter(other))
    if elsewhere == "set_epoch":
        loader.set_epoch(5)
    elif elsewhere == "load_state_dict":
        loader.load_state_dict(other.state_dict())
    else:
        loader.close()
    assert not loader_threads()
    assert loader.stats()["held_bytes"] == 0
    loader.close()


def test_setting_the_epoch_that_comes_next_keeps_it(memory):
    loader = DataLoader(memory([10] * 8), 10, prefetch=2, **options())
    list(loader)
    threads = loader_threads()
    loader.set_epoch(1)
    list(loader)
    assert threads
    assert loader_threads() == threads
    loader.close()


def test_what_fails_ahead_is_tried_again_when_it_is_wanted(memory):
    """A store that was away while the next epoch was read ahead strikes nobody once it is back."""
    dataset = memory([10] * 4)
    loader = DataLoader(dataset, 10, prefetch=2, **options())
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    failed = threading.Event()
    fetch = dataset.fetch

    def away(block):
        if len(dataset.reads) >= 4:
            failed.set()
            raise IntegrityError("away")
        return fetch(block)

    dataset.fetch = away
    assert len(list(iterator)) == 1
    assert failed.wait(60)
    dataset.fetch = fetch
    assert sorted(i for batch in ids(loader) for i in batch) == list(range(40))
    loader.close()


def test_a_failure_that_lasts_reaches_the_next_epoch(memory):
    dataset = memory([10] * 4)
    loader = DataLoader(dataset, 10, prefetch=2, **options())
    list(loader)
    for block in range(4):
        dataset.fails[block] = IntegrityError("gone")
    # What was read before it failed may be delivered; a whole epoch may have been read by now, so ask for two.
    with pytest.raises(IntegrityError, match="gone"):
        _ = [batch for _ in range(2) for batch in loader]
    loader.close()


def test_a_loader_that_is_gone_keeps_nothing(memory):
    """`for batch in DataLoader(...)`: the loader is collected before the epoch ends, and nothing goes on after it."""
    dataset = memory([10] * 8)
    iterator = iter(DataLoader(dataset, 10, prefetch=2, **options()))
    gc.collect()
    assert len(list(iterator)) == 8
    for thread in loader_threads():
        thread.join(60)
    assert not loader_threads()


def test_dropping_a_loader_between_epochs_ends_its_threads(memory):
    loader = DataLoader(memory([10] * 8), 10, prefetch=2, **options())
    list(loader)
    threads = loader_threads()
    assert threads
    del loader
    gc.collect()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_spans_of_an_epoch_read_ahead_bear_its_numbers(memory):
    """Blocks and batches are numbered over epochs, whoever begins them."""
    from datapipe import events

    loader = DataLoader(memory([10] * 8), 10, prefetch=2, transform=lambda batch: batch, **options())
    with events.recording(events.Recorder()) as recorder:
        for _ in range(3):
            list(loader)
        loader.close()
    spans = recorder.spans()
    for stage in ("fetch", "decode", "gather", "transform"):
        items = spans["item"][spans["stage"] == recorder.stage(stage)]
        assert len(set(items.tolist())) == len(items)
        assert set(range(24)) <= set(items.tolist()) <= set(range(32))
    assert np.all(spans["get"] <= spans["put"])


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_feeder_that_is_ahead_of_its_consumer_hands_over_the_right_epoch(memory, monkeypatch, left):
    """On a device one batch is on its way beyond those delivered: breaking off near the end gives the next epoch."""
    torch = pytest.importorskip("torch")
    from datapipe.device import transfer
    from datapipe.device.engine import CopyEngine
    from datapipe.device.pool import plain_memory

    class Direct(CopyEngine):
        def allocate(self, nbytes):
            return plain_memory(nbytes)

        def is_ready(self, tensor):
            return True

        def send(self, tensor, dtype):
            return tensor.clone() if dtype is None else tensor.to(dtype)

        def mark(self):
            return 0

        def passed(self, mark):
            return True

        def join(self, mark, tensors):
            pass

        def finish(self):
            pass

    monkeypatch.setattr(transfer, "check_device", lambda device: type("D", (), {"type": "cuda"}))
    monkeypatch.setattr(transfer, "make_engine", lambda target, pin: Direct())
    dataset = memory([10] * 6)
    how = options(collate="torch")
    loader = DataLoader(dataset, 10, prefetch=2, device="cuda", **how)
    plain = DataLoader(dataset, 10, prefetch=0, **how)
    for _ in range(3):
        one, other = iter(loader), iter(plain)
        assert ids(next(one) for _ in range(6 - left)) == ids(next(other) for _ in range(6 - left))
        assert loader.state_dict() == plain.state_dict()
        assert loader.epoch == plain.epoch
    assert isinstance(next(iter(loader))["id"], torch.Tensor)
    loader.close()
