"""Any module as a learner: columns in, a loss by name, summed over its targets."""

import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datapipe.errors import ConfigError, TrainError
from datapipe.train import Supervised


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(0, 256, (6, 5), generator=generator),
        "a": torch.randn(6, generator=generator),
        "b": torch.randint(0, 9, (6,), generator=generator),
        "label": torch.tensor([0, 2, 1, 1, 0, 2]),
        "price": torch.randn(6, generator=generator),
        "name": ["x"] * 6,
    }


class Keeps(nn.Module):
    """Gives back what it was told to, and keeps what it got."""

    def __init__(self, *, wrap=lambda logits: logits, shape=(3,)):
        super().__init__()
        self.wrap, self.shape = wrap, shape
        self.logits = torch.randn(6, *shape, generator=torch.Generator().manual_seed(1))

    def forward(self, *got, **named):
        self.got = (*got, named)
        return self.wrap(self.logits)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: types.SimpleNamespace(logits=x, loss=None),
        lambda x: {"logits": x},
        lambda x: (x, "state"),
    ],
    ids=["tensor", "output", "dict", "tuple"],
)
def test_cross_entropy_is_torchs_summed(batch, wrap):
    """Whatever form the module returns its logits in."""
    inner = Keeps(wrap=wrap)
    total, count = Supervised(inner, inputs="image", targets="label").loss_sum(batch)
    assert total == F.cross_entropy(inner.logits, batch["label"], reduction="sum")
    assert count == 6


def test_labels_that_were_mixed_share_the_loss(batch):
    """As soft targets would have it: each row's own label by its share, the other by the rest; padding counts not."""
    batch |= {"label_mixed": batch["label"].flip(0), "label_share": torch.linspace(0, 1, 6)}
    inner = Keeps()
    learner = Supervised(inner, inputs="image", targets="label")
    share = batch["label_share"][:, None]
    soft = share * F.one_hot(batch["label"], 3) + (1 - share) * F.one_hot(batch["label_mixed"], 3)
    total, count = learner.loss_sum(batch)
    assert torch.isclose(total, F.cross_entropy(inner.logits, soft, reduction="sum"))
    assert count == 6
    real = torch.tensor([True] * 4 + [False] * 2)
    total, count = learner.loss_sum({**batch, "mask": real})
    assert torch.isclose(total, F.cross_entropy(inner.logits[:4], soft[:4], reduction="sum"))
    assert count == 4


def test_columns_go_in_as_told(batch):
    """One; several of a table as float32 [B, n]; several that are no table, in turn; by name. Bytes are scaled."""
    inner = Keeps()
    Supervised(inner, inputs="image", targets="label", scale=1 / 255).loss_sum(batch)
    assert torch.equal(inner.got[0], batch["image"].float() * (1 / 255))
    Supervised(inner, inputs=["b", "a"], targets="label").loss_sum(batch)
    assert torch.equal(inner.got[0], torch.stack([batch["b"].float(), batch["a"]], dim=1))
    Supervised(inner, inputs=["image", "a"], targets="label").loss_sum(batch)
    assert [part.shape for part in inner.got[:2]] == [(6, 5), (6,)]
    Supervised(inner, inputs={"pixels": "image"}, targets="label").loss_sum(batch)
    assert inner.got[0]["pixels"] is batch["image"]


def test_padding_rows_and_ignored_targets_count_in_nothing(batch):
    """The loss of a padded batch is that of its real rows, in each loss."""
    real = torch.tensor([True, True, False, True, False, True])
    for targets, loss, shape in (
        ("label", "cross_entropy", (3,)), ("price", "mse", (1,)), ("flag", "binary_cross_entropy", ()),
    ):  # fmt: skip
        batch["flag"] = batch["label"] > 0
        learner = Supervised(Keeps(shape=shape), inputs="image", targets=targets, loss=loss)
        padded = learner.loss_sum({**batch, "mask": real})
        learner.model.logits = learner.model.logits[real]
        alone = learner.loss_sum({name: value[real] for name, value in batch.items() if name != "name"})
        assert padded[0] == pytest.approx(alone[0].item())
        assert padded[1] == alone[1] == 4
    learner = Supervised(Keeps(), inputs="image", targets="label")
    _, count = learner.loss_sum(
        {**batch, "label": batch["label"].clone().fill_(-100).index_fill_(0, torch.tensor(0), 1)}
    )
    assert count == 1


def test_classes_may_be_last_or_second(batch):
    """[B, T, classes], as a language model's, and [B, classes, T], as torch's."""
    labels = torch.randint(0, 3, (6, 4), generator=torch.Generator().manual_seed(2))
    last = Keeps(shape=(4, 3))
    a = Supervised(last, inputs="image", targets="l").loss_sum({**batch, "l": labels})
    second = Keeps(shape=(3, 4))
    second.logits = last.logits.movedim(-1, 1)
    b = Supervised(second, inputs="image", targets="l").loss_sum({**batch, "l": labels})
    assert a == b
    assert a[1] == 24


def test_labels_are_smoothed_in_training_alone(batch):
    inner = Keeps()
    learner = Supervised(inner, inputs="image", targets="label")
    learner.label_smoothing = 0.1
    expected = F.cross_entropy(inner.logits, batch["label"], reduction="sum", label_smoothing=0.1)
    assert learner.train().loss_sum(batch)[0] == expected
    assert learner.eval().loss_sum(batch)[0] == F.cross_entropy(inner.logits, batch["label"], reduction="sum")


@pytest.mark.parametrize(
    ("told", "shape", "match"),
    [({"inputs": "imag"}, (3,), "no column 'imag'"), ({"inputs": "name"}, (3,), "a list, not a tensor"),
     ({}, (2,), "a target of 2 for 2 classes"), ({}, (), "for targets"), ({"loss": "mse"}, (4,), "for targets")],
)  # fmt: skip
def test_a_batch_that_does_not_fit_is_refused(batch, told, shape, match):
    learner = Supervised(Keeps(shape=shape), **({"inputs": "image", "targets": "label"} | told))
    with pytest.raises(TrainError, match=match):
        learner.loss_sum(batch)


@pytest.mark.parametrize("told", [{"loss": "cross-entropy"}, {"inputs": []}, {"targets": ""}])
def test_wrong_arguments_are_refused(told):
    with pytest.raises(ConfigError):
        Supervised(nn.Linear(2, 2), **({"inputs": "x", "targets": "y"} | told))


def test_labels_that_are_texts_are_to_be_listed(batch):
    """The loader gives a text's place among those that `dtypes` lists: the error says so, with texts of the batch."""
    model = Supervised(nn.Linear(1, 3), inputs="a", targets="label")
    with pytest.raises(TrainError, match="a list, not a tensor, as column 'label'") as caught:
        model.loss_sum({**batch, "label": ["dog", "cat", "dog", "cat", "cat", "cat"]})
    assert 'dtypes={"label": ["cat", "dog", …]}' in caught.value.fix
