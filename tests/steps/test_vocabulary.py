"""vocabulary: a sample that is a function of seed and row id, and a tokenizer that is a function of its texts."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.vocabulary import (
    END_OF_TEXT,
    VocabularyOptions,
    sample_keys,
    sample_rate,
    sampled,
    train_vocabulary,
)

IDS = [f"src/a.jsonl:{i}" for i in range(20_000)]

# Words of many frequencies, with ties on purpose: pairs of equal count are where an order could show.
TEXTS = [
    " ".join("".join(random.Random(i * 31 + j).choices("abcdeé ", k=6)) for j in range(12)) + f" <|endoftext|> {i % 7}"
    for i in range(300)
]

TRAIN = """
import sys, random
from datapipe.steps.vocabulary import VocabularyOptions, train_vocabulary
texts = sys.stdin.buffer.read().decode().split("\\0")
random.Random(int(sys.argv[1])).shuffle(texts)
sys.stdout.buffer.write(train_vocabulary(iter(texts), VocabularyOptions(size=700, model=sys.argv[2])))
"""
MODELS = ["bpe", "unigram", "wordpiece"]


class TestSample:
    def test_uniform_and_seeded(self):
        """Keys spread evenly, each seed draws its own sample, and the same seed the same one."""
        keys = sample_keys(IDS, Keys(seed=1))
        assert keys.dtype == np.uint64
        assert np.array_equal(keys, sample_keys(IDS, Keys(seed=1)))
        for rate in (0.01, 0.1, 0.5):
            # 4 standard deviations of a binomial
            slack = 4 * (len(IDS) * rate * (1 - rate)) ** 0.5
            assert abs(sampled(keys, rate).sum() - rate * len(IDS)) < slack
        other = sampled(sample_keys(IDS, Keys(seed=2)), 0.5)
        assert 0.4 < (other == sampled(keys, 0.5)).mean() < 0.6

    def test_golden_keys(self):
        """The draw is fixed: another platform or version gives these keys (xxh3_64 of the id, seeded)."""
        assert sample_keys(["", "a:0"], Keys(seed=0)).tolist()[0] == 0x2D06800538D394C2  # a published test vector
        assert sample_keys(["a:0"], Keys(seed=-1)).tolist() == sample_keys(["a:0"], Keys(seed=2**64 - 1)).tolist()

    @given(st.permutations(IDS[:50]), st.integers(0, 2**63))
    @settings(deadline=None, max_examples=20)
    def test_depends_on_the_id_alone(self, ids, seed):
        """Order, neighbours and epoch do not enter."""
        keys = dict(zip(ids, sample_keys(ids, Keys(seed=seed, epoch=3)).tolist(), strict=True))
        assert [keys[each] for each in IDS[:50]] == sample_keys(IDS[:50], Keys(seed=seed)).tolist()

    @given(st.lists(st.integers(0, 2**64 - 1)), st.floats(0, 1), st.floats(0, 1))
    @settings(deadline=None)
    def test_nested(self, keys, one, other):
        """A larger rate keeps what a smaller one has; 0 keeps none, 1 all."""
        keys = np.array(keys, np.uint64)
        less, more = (sampled(keys, rate) for rate in sorted((one, other)))
        assert not (less & ~more).any()
        assert not sampled(keys, 0.0).any()
        assert sampled(keys, 1.0).all()

    def test_step(self):
        """The row half adds `sample_key: uint64` and marks nothing."""
        table = pa.table({"row_id": IDS[:5], "text": ["x"] * 5})
        ran = run_steps(table, [bind("vocabulary")], Keys(seed=7))
        assert ran.table["sample_key"].to_numpy().tolist() == sample_keys(IDS[:5], Keys(seed=7)).tolist()
        assert ran.table.schema.field("sample_key").type == pa.uint64()

    def test_rate(self):
        """About sample_bytes of a larger corpus, all of a smaller one."""
        options = VocabularyOptions(sample_bytes=100)
        assert sample_rate(1000, options) == 0.1
        assert sample_rate(100, options) == sample_rate(0, options) == 1.0
        assert sample_rate(10**12, VocabularyOptions(sample_bytes=0)) == 1.0

    @pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
    def test_bad_rate(self, rate):
        with pytest.raises(ConfigError, match="sample rate"):
            sampled(np.zeros(1, np.uint64), rate)


class TestTraining:
    @pytest.mark.parametrize("model", MODELS)
    def test_deterministic_across_processes(self, model):
        """Other processes, thread counts, hash seeds and orders of the texts: the same bytes."""
        expected = train_vocabulary(TEXTS, VocabularyOptions(size=700, model=model))
        settings_ = [
            {"TOKENIZERS_PARALLELISM": "false"},
            {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "1"},
            {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "7", "PYTHONHASHSEED": "2"},
        ]
        for order, variables in enumerate(settings_):
            done = subprocess.run(
                [sys.executable, "-c", TRAIN, str(order), model],
                input="\0".join(TEXTS).encode(),
                capture_output=True,
                check=True,
                env={**os.environ, **variables},
            )
            assert done.stdout == expected, variables

    def test_special_tokens_first_then_bytes(self):
        """Special tokens have the first ids, the 256 bytes follow, merges come last; the size is kept."""
        data = train_vocabulary(TEXTS, VocabularyOptions(size=400, special_tokens=(END_OF_TEXT, "<|pad|>")))
        tokenizer = Tokenizer.from_str(data.decode())
        assert tokenizer.get_vocab_size() == 400
        assert tokenizer.token_to_id(END_OF_TEXT) == 0
        assert tokenizer.token_to_id("<|pad|>") == 1
        by_id = {number: token for token, number in tokenizer.get_vocab().items()}
        assert sorted(by_id) == list(range(400))
        assert all(len(by_id[i]) == 1 for i in range(2, 258))

    @pytest.mark.parametrize("texts", [[], [""], ["a"], ["hello hello hello"]])
    def test_too_little_text(self, texts):
        """Text that does not hold so many tokens gives fewer, and no error."""
        tokenizer = Tokenizer.from_str(train_vocabulary(texts, VocabularyOptions(size=32_768)).decode())
        assert 257 <= tokenizer.get_vocab_size() < 300

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    @settings(deadline=None, max_examples=50)
    def test_any_text_round_trips(self, text):
        """Byte-level: whatever the text, ids decode back to it; there is no unknown token."""
        tokenizer = Tokenizer.from_str(SMALL.decode())
        tokenizer.encode_special_tokens = True
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text

    def test_is_json_of_the_library(self):
        """The bytes are a tokenizer.json that the library reads, without a prefix space."""
        data = json.loads(SMALL)
        assert data["model"]["type"] == "BPE"
        assert data["pre_tokenizer"]["add_prefix_space"] is False
        assert data["truncation"] is None
        assert data["padding"] is None


SMALL = train_vocabulary(TEXTS[:20], VocabularyOptions(size=300))


@pytest.mark.parametrize(
    "options",
    [
        {"size": 256},
        {"size": 1 << 25},
        {"special_tokens": ["a", "a"]},
        {"special_tokens": [""]},
        {"min_frequency": 0},
        {"sample_bytes": -1},
        {"size": 300, "special_tokens": [f"<{i}>" for i in range(45)]},
        {"size": "300"},
        {"model": "words"},
        {"model": "wordpiece", "size": 513},
        {"model": "unigram", "size": 256},
    ],
)
def test_bad_options(options):
    """Sizes that cannot hold the bytes and the special tokens, and nonsense, are refused."""
    with pytest.raises(ConfigError, match="vocabulary"):
        bind("vocabulary", options)
