"""The model: documents packed into a row are strangers to each other."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError, TrainError
from datapipe.train import GPT, GPTConfig
from datapipe.train.model import IGNORED, attention_mask, positions, targets

LENGTH, VOCAB = 24, 61


def packed(documents, length=LENGTH):
    """One row of several documents, padded."""
    tokens, segments = torch.zeros(1, length, dtype=torch.int64), torch.zeros(1, length, dtype=torch.int64)
    place = 0
    for number, document in enumerate(documents, start=1):
        tokens[0, place : place + len(document)] = document
        segments[0, place : place + len(document)] = number
        place += len(document)
    return {"tokens": tokens, "segment_ids": segments}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = GPT(GPTConfig(vocab_size=VOCAB, seq_len=LENGTH, layers=2, heads=2, width=16))
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)  # large enough for every leak to show
    return made


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) <= LENGTH), st.integers(0))
def test_packing_changes_no_documents_loss(model, sizes, seed):
    """The loss of a packed row is the sum of its documents' losses, each alone."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    documents = [torch.randint(0, VOCAB, (n,), generator=generator) for n in sizes]
    total, count = model.loss_sum(packed(documents))
    alone = [model.loss_sum({"tokens": document.unsqueeze(0)}) for document in documents]
    assert int(count) == sum(int(n) for _, n in alone) == sum(n - 1 for n in sizes)
    torch.testing.assert_close(total, sum(loss for loss, _ in alone), rtol=1e-5, atol=1e-4)


def test_logits_do_not_see_other_documents_nor_the_future(model):
    """Changing another document, or a later token, changes no logit."""
    first, second = torch.randint(0, VOCAB, (9,)), torch.randint(0, VOCAB, (11,))
    other = (second + 7) % VOCAB
    later = first.clone()
    later[6:] = (later[6:] + 3) % VOCAB
    whole = packed([first, second])
    logits = model(**whole)
    torch.testing.assert_close(model(**packed([first, other]))[0, :9], logits[0, :9])
    torch.testing.assert_close(model(**packed([later, second]))[0, 9:20], logits[0, 9:20])
    torch.testing.assert_close(model(**packed([later, second]))[0, :6], logits[0, :6])
    assert not torch.allclose(model(**packed([later, second]))[0, 6:9], logits[0, 6:9])


def test_given_positions_are_those_it_counts_itself(model, make_loader):
    """`position_ids` from the loader and those counted from the segments are the same."""
    batch = make_loader().batch(0, 0)
    counted = positions(batch["segment_ids"])
    assert counted[0, :3].tolist() == [0, 1, 2]
    assert ((counted == 0) == (torch.nn.functional.pad(batch["segment_ids"].diff(), (1, 0), value=1) != 0)).all()
    assert torch.equal(model.loss(batch), model.loss({**batch, "position_ids": counted}))


def test_targets_stay_within_a_document():
    """Padding, the last token of a document and the end of the row have no target; a masked row has none at all."""
    tokens = torch.tensor([[5, 6, 7, 8, 9, 0], [1, 2, 3, 4, 5, 6]])
    segments = torch.tensor([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]])
    x = IGNORED
    assert targets(tokens, segments).tolist() == [[6, 7, x, 9, x, x], [2, 3, 4, 5, 6, x]]
    assert targets(tokens, None).tolist() == [[6, 7, 8, 9, 0, x], [2, 3, 4, 5, 6, x]]
    masked = targets(tokens, segments, torch.tensor([True, False]))
    assert masked.tolist() == [[6, 7, x, 9, x, x], [x] * 6]


def test_the_mask_is_block_diagonal_and_causal():
    mask = attention_mask(torch.tensor([[1, 1, 2, 0]]))
    assert mask.int().tolist() == [[[[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]]]


def test_padded_rows_count_for_nothing(model, make_loader):
    """The loss of a batch with rows masked out is that of the other rows, whatever the masked rows hold."""
    batch = make_loader().batch(0, 1)
    mask = torch.tensor([True, True, False, False])
    half = {name: value[:2] for name, value in batch.items()}
    torch.testing.assert_close(model.loss({**batch, "mask": mask}), model.loss(half))


def test_a_fresh_model_guesses_evenly(make_model, make_loader):
    """Before training, the loss is that of guessing among all tokens: log of the vocabulary."""
    assert float(make_model().loss(make_loader().batch(0, 0)).detach()) == pytest.approx(math.log(VOCAB), abs=0.1)


def test_the_parameter_count_counts_the_tied_embedding_once(make_model):
    model = make_model()
    width, hidden = 16, model.config.ffn_width
    block = width * 3 * width + width * width + width * 2 * hidden + hidden * width + 2 * width
    assert model.parameter_count() == VOCAB * width + 2 * block + width
    assert "embedding.weight" in model.state_dict()
    assert not any("head" in name for name in model.state_dict())


def test_the_same_seed_makes_the_same_model(make_model):
    a, b, c = make_model(3), make_model(3), make_model(4)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.embedding.weight, c.embedding.weight)


@pytest.mark.parametrize(
    ("batch", "match"),
    [
        ({}, "no tensor 'tokens'"),
        ([1, 2], "no tensor 'tokens'"),
        ({"tokens": torch.zeros(3, dtype=torch.int64)}, r"\(3,\)"),
        ({"tokens": torch.zeros(3, 4)}, "float32"),
        ({"tokens": torch.zeros(1, LENGTH + 1, dtype=torch.int64)}, f"seq_len={LENGTH + 1}"),
        ({"tokens": torch.full((1, 4), VOCAB)}, f"at least {VOCAB + 1}"),
        ({"tokens": torch.full((1, 4), -1)}, "token -1"),
    ],
)
def test_a_batch_that_does_not_fit_says_why(model, batch, match):
    with pytest.raises(TrainError, match=match):
        model.loss(batch)


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"width": 20, "heads": 3}, "width=18"), ({"layers": 0}, "layers=0"), ({"vocab_size": True}, "vocab_size=True"),
     ({"hidden": 0}, "hidden=0")],
)  # fmt: skip
def test_a_shape_that_cannot_be_is_refused(changes, match):
    with pytest.raises(ConfigError, match=match):
        GPTConfig(**{"vocab_size": VOCAB, "seq_len": LENGTH} | changes)


@pytest.mark.cuda
def test_packing_changes_no_documents_loss_on_cuda(cuda, make_model, make_loader):
    """On a GPU, in float32 and bf16, packed and separate documents agree."""
    model = make_model().to(cuda)
    batch = {name: value.to(cuda) for name, value in make_loader().batch(0, 0).items()}
    expected = make_model().loss(make_loader().batch(0, 0))
    torch.testing.assert_close(model.loss(batch).cpu(), expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        torch.testing.assert_close(model.loss(batch).cpu(), expected, rtol=2e-2, atol=2e-2)


def test_a_batch_without_a_row_teaches_nothing(make_model):
    """What tail="partial" may leave a rank: no loss, no target, gradients of zero, and no error."""
    model = make_model()
    none = torch.empty(0, 24, dtype=torch.int64)
    total, count = model.loss_sum({"tokens": none, "segment_ids": none})
    total.backward()
    assert (total.item(), count.item()) == (0.0, 0)
    assert all(not weight.grad.any() for weight in model.parameters())
