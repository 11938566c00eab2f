"""A loader without a dataset: packed rows drawn from a seed, with the state and the epochs of the real one."""

import signal

import pytest
import torch

from datapipe.train import GPT, GPTConfig, TrainConfig, train
from datapipe.train.digests import batch_digest

VOCAB, LENGTH = 61, 24


class FakeLoader:
    """Batches of (seed, epoch, position); `iter` is an epoch, a state counts batches delivered."""

    def __init__(self, batches=5, rows=4, seed=0, change=None):
        self.batches, self.rows, self.seed, self.change = batches, rows, seed, change
        self.epoch = self.position = 0
        self._resumed = False
        self.closed = 0

    def __len__(self):
        return self.batches

    def batch(self, epoch, position):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch * 1009 + position)
        start = torch.randint(0, VOCAB, (self.rows, 1), generator=generator)
        stride = torch.randint(1, 4, (self.rows, 1), generator=generator)
        tokens = (start + stride * torch.arange(LENGTH)) % VOCAB
        border = int(torch.randint(4, LENGTH - 4, (1,), generator=generator))
        segments = torch.ones_like(tokens)
        segments[:, border:] = 2
        segments[0, LENGTH - 2 - position % 3 :] = 0  # padding, another number of targets each batch
        return {"tokens": tokens, "segment_ids": segments}

    def __iter__(self):
        if self.position and not self._resumed:
            self.epoch, self.position = self.epoch + 1, 0
        self._resumed = False
        return _Epoch(self)

    def state_dict(self):
        return {"epoch": self.epoch, "position": self.position, "seed": self.seed}

    def load_state_dict(self, state):
        assert state["seed"] == self.seed
        self.epoch, self.position, self._resumed = state["epoch"], state["position"], True
        if self.position == self.batches:
            self.epoch, self.position = self.epoch + 1, 0

    def close(self):
        self.closed += 1


class _Epoch:
    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        return self

    def __next__(self):
        loader = self.loader
        if loader.position >= loader.batches:
            raise StopIteration
        batch = loader.batch(loader.epoch, loader.position)
        loader.position += 1
        return batch if loader.change is None else loader.change(loader.position, batch)


def shape(**changes):
    return GPTConfig(**{"vocab_size": VOCAB, "seq_len": LENGTH, "layers": 2, "heads": 2, "width": 16} | changes)


def config(**changes):
    told = {"steps": 12, "model": shape(), "device": "cpu", "precision": "fp32", "warmup": 2, "checkpoint_every": 0}
    return TrainConfig(**told | changes)


@pytest.fixture(autouse=True)
def _one_thread():
    """Two cores are shared; and a handler that a test left behind would eat the next Ctrl-C."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    yield
    torch.set_num_threads(before)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.fixture
def make_loader():
    return FakeLoader


@pytest.fixture
def make_config():
    return config


@pytest.fixture
def make_shape():
    return shape


@pytest.fixture
def make_model():
    def make(seed=0, **changes):
        torch.manual_seed(seed)
        return GPT(shape(**changes))

    return make


@pytest.fixture
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda", 0)


def weights(result):
    """What a run has made of its model: a digest of the parameters."""
    return batch_digest(dict(result.model.state_dict()))


@pytest.fixture
def run(tmp_path, make_config, make_loader):
    """Train a small model; `changes` go to the config."""

    def run(loader=None, out=tmp_path / "run", *, model=None, evaluation=None, resume="auto", until=None, on_step=None,
            **changes):  # fmt: skip
        return train(
            make_config(**changes), make_loader() if loader is None else loader, out=out, model=model,
            evaluation=evaluation, resume=resume, until=until, on_step=on_step,
        )  # fmt: skip

    return run
