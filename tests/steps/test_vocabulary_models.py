"""Three models: one file format, no unknown text, special tokens first and out of reach, and sizes that are kept."""

from __future__ import annotations

import hashlib
import random

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.vocabulary_models import INSIDE, UNKNOWN, as_file, least_size, train

MODELS = ["bpe", "unigram", "wordpiece"]
END = "<|endoftext|>"
TEXTS = [" ".join(random.Random(i).choices(["the", "there", "thing", "ring", "é", "12", "##!", "\n"], k=30))
         for i in range(60)]  # fmt: skip


def made(model, texts=TEXTS, size=600, special_tokens=(END,), min_frequency=2):
    return train(model, texts, size=size, min_frequency=min_frequency, special_tokens=special_tokens)


def loaded(data):
    tokenizer = Tokenizer.from_str(as_file(data).decode())
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="module")
def tokenizers():
    return {model: loaded(made(model)) for model in MODELS}


@pytest.mark.parametrize("model", MODELS)
class TestEveryModel:
    @given(text=st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.text(f"{INSIDE}#!ath \n\u2581<|>")))
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_text_round_trips(self, tokenizers, model, text):
        """Ids decode back to the text, whatever it is; none of them is special."""
        ids = tokenizers[model].encode(text).ids
        assert tokenizers[model].decode(ids, skip_special_tokens=False) == text
        assert not {tokenizers[model].token_to_id(name) for name in (END, UNKNOWN)} & set(ids)

    def test_long_words(self, tokenizers, model):
        """A word of 50,000 letters is encoded, soon, and comes back."""
        word = "th" * 25_000
        assert tokenizers[model].decode(tokenizers[model].encode(word).ids) == word

    @pytest.mark.parametrize("size", [560, 575])
    def test_size_and_ids(self, model, size):
        """Special tokens first, ids without a gap, no more tokens than asked for."""
        tokenizer = loaded(made(model, size=size, special_tokens=(END, "<|pad|>")))
        ids = tokenizer.get_vocab()
        assert sorted(ids.values()) == list(range(len(ids)))
        assert len(ids) <= size
        assert [tokenizer.token_to_id(name) for name in (END, "<|pad|>")] == [0, 1]
        special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        assert special == [END, "<|pad|>", *([UNKNOWN] if model == "wordpiece" else [])]

    def test_it_learns(self, tokenizers, model):
        """Words that are common here take fewer tokens than bytes: the vocabulary holds more than bytes."""
        assert len(tokenizers[model].encode("the there thing").ids) <= 6

    @pytest.mark.parametrize("texts", [[], [""], ["a"], ["\0"], ["hello hello hello"]])
    def test_too_little_text(self, model, texts):
        """Fewer tokens, and every byte is one all the same."""
        data = made(model, texts, size=4000)
        assert least_size(model, [END]) <= loaded(data).get_vocab_size() < 600
        assert loaded(data).decode(loaded(data).encode("zoo é").ids) == "zoo é"

    @pytest.mark.parametrize("name", ["pad", "!", "<|>", "12"])
    def test_special_tokens_that_text_could_become(self, model, name):
        """A word, a number or a sign alone is refused: a text that holds it would hold the special token."""
        with pytest.raises(ConfigError, match="is a word that a text may hold"):
            made(model, special_tokens=(name,))


def test_wordpiece_tells_words_from_insides(tokenizers):
    """The end of a word and the word "##!" are two tokens or more: neither is taken for the other."""
    ids = tokenizers["wordpiece"].encode("##!").tokens
    assert ids[0].startswith("#")
    assert all(token.startswith(INSIDE) for token in ids[1:])
    with pytest.raises(ConfigError, match="which WordPiece uses itself"):
        made("wordpiece", special_tokens=(f"{INSIDE}<|a|>",))


def test_unigram_scores_are_log_probabilities():
    """Pieces are sorted by score, best first, and likely ones are those that the texts repeat."""
    pieces = [(piece, score) for piece, score in made("unigram")["model"]["vocab"] if piece != END]
    assert pieces == sorted(pieces, key=lambda item: (-item[1], item[0]))
    assert all(score < 0 for _, score in pieces)
    assert {"Ġthe", "Ġring"} & {piece for piece, _ in pieces[:12]}


GOLDEN = {"bpe": "6277c28e6efccaa4", "wordpiece": "6a687bd0f60104f2"}


@pytest.mark.parametrize("model", ["bpe", "wordpiece"])
def test_golden(model):
    """The bytes of a small vocabulary, as they were."""
    assert hashlib.sha256(as_file(made(model))).hexdigest()[:16] == GOLDEN[model]


@pytest.mark.parametrize("model", MODELS)
def test_the_step_tokenize_takes_it(tmp_path, model):
    """Each model's file: the text comes back, with one end of text and none forged."""
    path = tmp_path / "model.json"
    path.write_bytes(as_file(made(model)))
    texts = ["the ring", "", f"\0 é 中 {UNKNOWN} {END} {INSIDE}ing", "ab" * 999]
    table = pa.table({"row_id": list("0123"), "text": texts})
    rows = run_steps(table, [bind("tokenize", {"tokenizer": str(path)})], Keys()).table["tokens"].to_pylist()
    decoded = [loaded(made(model)).decode(row[:-1], skip_special_tokens=False) for row in rows]
    assert decoded == texts
    assert [row.count(0) for row in rows] == [1] * 4
    assert [row[-1] for row in rows] == [0] * 4
