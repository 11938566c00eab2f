"""tokenize: each row's tokens are its whole text's, whatever stands beside it."""

from __future__ import annotations

import json
import pickle

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps

KEYS = Keys()


def run(texts, path, **options):
    table = pa.table({"row_id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.large_string())})
    return run_steps(table, [bind("tokenize", {"tokenizer": path, **options})], KEYS).table


def test_columns(tokenizer_path, prose):
    """`tokens: list<uint16>`, `n_tokens: int32`; the text goes, unless it is kept."""
    table = run([prose, ""], tokenizer_path)
    assert table.schema.field("tokens").type == pa.list_(pa.uint16())
    assert table.schema.field("n_tokens").type == pa.int32()
    assert table.column_names == ["row_id", "tokens", "n_tokens"]
    assert table["n_tokens"].to_pylist() == [len(row) for row in table["tokens"].to_pylist()]
    assert "text" in run([prose], tokenizer_path, keep_text=True).column_names


def test_end_of_text(tokenizer_path):
    """Id 0, once, at the end of each document, an empty one included; null leaves it out."""
    rows = run(["one", "", "two"], tokenizer_path)["tokens"].to_pylist()
    assert [row[-1] for row in rows] == [0, 0, 0]
    assert [row.count(0) for row in rows] == [1, 1, 1]
    assert rows[1] == [0]
    bare = run(["one", "", "two"], tokenizer_path, end_of_text=None)["tokens"].to_pylist()
    assert bare == [row[:-1] for row in rows]


def test_begin_of_text(tokenizer_path):
    """The special token that is named, once, before each document; without an end it is all there is."""
    rows = run(["one", "", "two"], tokenizer_path, begin_of_text="<|endoftext|>")["tokens"].to_pylist()
    bare = run(["one", "", "two"], tokenizer_path, end_of_text=None)["tokens"].to_pylist()
    assert rows == [[0, *row, 0] for row in bare]
    alone = run(["", "one"], tokenizer_path, begin_of_text="<|endoftext|>", end_of_text=None)
    assert alone["tokens"].to_pylist() == [[0], [0, *bare[0]]]
    assert alone["n_tokens"].to_pylist() == [1, 1 + len(bare[0])]
    with pytest.raises(ConfigError, match="has no token '<s>'"):
        run(["a"], tokenizer_path, begin_of_text="<s>")


def test_encoders_agree(tokenizer_path, awkward):
    """Whichever library encodes, the table is the same; texts that one of them cannot be trusted with included."""
    texts = [*awkward, "\U000323b0 new in Unicode 17", "after"]
    assert run(texts, tokenizer_path).equals(run(texts, tokenizer_path, encoder="tokenizers"))


def test_special_tokens_in_text_are_text(tokenizer_path):
    """A document that spells <|endoftext|> cannot end itself: the characters are encoded and decode back."""
    text = "before <|endoftext|> after"
    row = run([text], tokenizer_path)["tokens"].to_pylist()[0]
    assert row.count(0) == 1
    assert Tokenizer.from_file(tokenizer_path).decode(row[:-1], skip_special_tokens=False) == text


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=10),
    batch_chars=st.integers(1, 60),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_independent(texts, batch_chars, tokenizer_path):
    """A row's ids are those of its text encoded alone, for any size of batch."""
    tokenizer = Tokenizer.from_file(tokenizer_path)
    tokenizer.encode_special_tokens = True
    expected = [[*tokenizer.encode(text, add_special_tokens=False).ids, 0] for text in texts]
    assert run(texts, tokenizer_path, batch_chars=batch_chars)["tokens"].to_pylist() == expected


def test_long_document_is_not_cut(tokenizer_path):
    """2 MB in one row, over many batch budgets: it decodes back to itself."""
    text = "A long line of words, é and 中文. " * 50_000
    row = run(["a", text, "b"], tokenizer_path, batch_chars=1024)["tokens"][1].as_py()
    assert Tokenizer.from_file(tokenizer_path).decode(row[:-1]) == text


def test_truncation_and_padding_of_the_file_are_off(tokenizer_path, tmp_path, prose):
    """A tokenizer.json that truncates or pads must not lose or invent tokens here."""
    tokenizer = Tokenizer.from_file(tokenizer_path)
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    path = tmp_path / "other.json"
    tokenizer.save(str(path))
    assert json.loads(path.read_text())["truncation"] is not None
    assert run([prose, "a"], str(path)).equals(run([prose, "a"], tokenizer_path))


@pytest.mark.parametrize(("size", "kind"), [(65_536, pa.uint16()), (65_537, pa.uint32())])
def test_dtype_by_vocabulary(tmp_path, size, kind):
    """uint16 holds 65,536 ids; one more takes uint32."""
    path = tmp_path / "wide.json"
    vocabulary = {"<|endoftext|>": size - 1, **{f"w{i}": i for i in range(size - 1)}}
    Tokenizer(models.WordLevel(vocabulary, unk_token="w0")).save(str(path))
    table = run(["w7"], str(path))
    assert table.schema.field("tokens").type == pa.list_(kind)
    assert table["tokens"].to_pylist() == [[7, size - 1]]


def test_pickle_holds_the_path_alone(tokenizer_path, prose):
    """What goes to a worker is small, also after use."""
    step = bind("tokenize", {"tokenizer": tokenizer_path})
    step(pa.table({"row_id": ["a"], "text": [prose]}), KEYS)
    assert len(pickle.dumps(step)) < 1000
    assert len(pickle.dumps(step.step)) < 1000


class TestBadTokenizer:
    def test_none(self):
        """Without a path the message says which steps give one."""
        with pytest.raises(ConfigError, match="tokenize has no tokenizer") as caught:
            run(["a"], "")
        assert "vocabulary" in str(caught.value)
        assert any("tokenize" in note for note in caught.value.__notes__)

    def test_missing_file(self, tmp_path):
        with pytest.raises(ConfigError, match="there is no file"):
            run(["a"], str(tmp_path / "none.json"))

    @pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe\0", b"not json", b'{"model": {"type": "None"}}'])
    def test_damaged(self, tmp_path, content):
        path = tmp_path / "bad.json"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="is no tokenizer"):
            run(["a"], str(path))

    def test_no_such_end_token(self, tokenizer_path):
        """The special tokens there are, and the nearest of them."""
        with pytest.raises(ConfigError, match="did you mean '<|endoftext|>'"):
            run(["a"], tokenizer_path, end_of_text="<|endoftex|>")


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_unknown_tokens_are_counted(tmp_path, kind):
    """Those that the vocabulary has no token for, summed for the report; the special tokens around are none."""
    words = ["<|endoftext|>", "[UNK]", "known"]
    model = (
        models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
        if kind == "wordpiece"
        else models.Unigram([(word, -1.0) for word in words], unk_id=1, byte_fallback=False)
    )
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(tmp_path / "t.json"))
    table = pa.table({"row_id": ["a", "b"], "text": pa.array(["known", "\u4e00"], pa.large_string())})
    ran = run_steps(table, [bind("tokenize", {"tokenizer": str(tmp_path / "t.json")})], KEYS)
    assert ran.counters == {"tokenize.unknown": 1}
    assert ran.table.column_names == ["row_id", "tokens", "n_tokens"]


def test_a_tokenizer_without_an_unknown_token(tokenizer_path):
    """Bytes have a token each: nothing is unknown."""
    table = pa.table({"row_id": ["a"], "text": pa.array(["\u4e00"], pa.large_string())})
    assert run_steps(table, [bind("tokenize", {"tokenizer": tokenizer_path})], KEYS).counters == {"tokenize.unknown": 0}
