"""tokenize: text becomes token ids. `text` enters; `tokens: list<uint16|uint32>` and `n_tokens: int32` leave.

Invariant: a row's tokens are the begin token if there is one, those of its whole text encoded alone, then the
end-of-text token; they depend on neither the batch nor its neighbours, nor on which library encodes. Text that spells a
special token is text: it never becomes one, so no document can forge its own end. A tokenizer file's truncation and
padding are switched off, so no token is lost or invented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, final

from datapipe.errors import ConfigError, StepError
from datapipe.steps.columns import TEXT, set_column, text_of
from datapipe.steps.fast_encoding import FastEncoder, fast_encoder
from datapipe.steps.long_text import cuts_are_exact, pieces
from datapipe.steps.options import in_range, nearest
from datapipe.steps.step import StepSpec
from datapipe.steps.vocabulary import END_OF_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

TOKENS: Final = "tokens"
N_TOKENS: Final = "n_tokens"
UNKNOWN: Final = "tokenize.unknown"
_LARGEST: Final = 1 << 28
"""Bytes of a tokenizer.json; one of 262,144 tokens has 35 MB."""
_MOST_IDS: Final = 1 << 24
"""Tokens of a vocabulary, sixty times the largest in use."""


@dataclass(frozen=True, kw_only=True)
class TokenizeOptions:
    """Options of tokenize.

    Attributes:
        tokenizer: local path of a `tokenizer.json`; a recipe with the step `vocabulary` fills it in.
        begin_of_text: the special token before each document; null for none.
        end_of_text: the special token after each document; null for none.
        keep_text: keep the column `text`.
        encoder: "auto" takes the fastest library that gives the same ids, "tokenizers" that one always.
        batch_chars: characters handed to the tokenizer at a time, about; it holds some 90 bytes for each. The result
            does not depend on it.
    """

    tokenizer: str = ""
    begin_of_text: str | None = None
    end_of_text: str | None = END_OF_TEXT
    keep_text: bool = False
    encoder: Literal["auto", "tokenizers"] = "auto"
    batch_chars: int = 1 << 20

    def __post_init__(self) -> None:
        in_range("tokenize.batch_chars", self.batch_chars, 1)


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """A tokenizer as the step uses it.

    Attributes:
        tokenizer: `tokenizers.Tokenizer`. fast: the faster way, where there is one.
        begin, end: ids before and after each document, none or one.
        unknown: the id of what the vocabulary has no token for; None where it has one for everything.
        dtype: of all ids. cut: whether long texts may be cut into pieces.
    """

    tokenizer: Any
    fast: FastEncoder | None
    begin: tuple[int, ...]
    end: tuple[int, ...]
    unknown: int | None
    dtype: Any
    cut: bool

    def encode(self, texts: list[str]) -> list[npt.NDArray[np.unsignedinteger[Any]]]:
        """The ids of each text, special tokens left out."""
        import numpy as np

        found: list[Any] = [None] * len(texts) if self.fast is None else self.fast.encode(texts)
        left = [place for place, ids in enumerate(found) if ids is None]
        try:
            encodings = self.tokenizer.encode_batch_fast([texts[place] for place in left], add_special_tokens=False)
        except Exception as error:  # the library's only kind
            raise ConfigError(
                f"the tokenizer cannot encode a text: {error}",
                expected="a tokenizer.json whose vocabulary has the unknown token that its model names",
            ) from None
        for place, encoding in zip(left, encodings, strict=True):
            found[place] = np.array(encoding.ids, self.dtype)
        return found


@final
class Tokenize:
    """The step: it holds the tokenizer, loaded at the first table; a pickle of it holds the path alone."""

    def __init__(self, options: TokenizeOptions) -> None:
        self.options = options
        self._loaded: _Loaded | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self.options, "_loaded": None}

    def __call__(self, table: pa.Table, keys: Keys) -> pa.Table:
        """Text → tokens.

        Args:
            table: `text: string`; a null counts as "".
            keys: not used.

        Returns:
            The table with `tokens` (uint16 if the vocabulary has at most 65,536 ids, else uint32) and
            `n_tokens: int32`, begin and end of text included; without `text` unless it is kept. The signal
            `tokenize.unknown: int64` counts the tokens that are the tokenizer's unknown token, 0 where it has none.

        Raises:
            ConfigError: there is no tokenizer, or it has no such special token.
            StepError: the table holds 2^31 tokens or more.
        """
        del keys
        import numpy as np
        import pyarrow as pa

        loaded = self._load()
        parts: list[Any] = []
        lengths = np.full(table.num_rows, len(loaded.begin) + len(loaded.end), np.int64)
        unknown = np.zeros(table.num_rows, np.int64)
        first = np.array(loaded.begin, loaded.dtype)
        between = np.array(loaded.end + loaded.begin, loaded.dtype)
        last = -1
        for rows, texts in _batches(text_of(table), self.options.batch_chars, cut=loaded.cut):
            for row, ids in zip(rows, loaded.encode(texts), strict=True):
                if row != last:
                    parts.append(between if row else first)
                    last = row
                parts.append(ids.astype(loaded.dtype, copy=False))
                lengths[row] += len(ids)
                if loaded.unknown is not None:
                    unknown[row] += np.count_nonzero(ids == loaded.unknown)
        if table.num_rows:
            parts.append(np.array(loaded.end, loaded.dtype))
        offsets = np.zeros(table.num_rows + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        if offsets[-1] >= 1 << 31:
            raise StepError(
                f"{offsets[-1]:,} tokens in one table",
                expected="fewer than 2^31, the most that an Arrow list column holds",
                fix="make the splits smaller",
            )
        values = np.concatenate(parts) if parts else np.zeros(0, loaded.dtype)
        tokens = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
        table = set_column(table, TOKENS, tokens)
        table = set_column(table, N_TOKENS, pa.array(lengths.astype(np.int32)))
        table = set_column(table, UNKNOWN, pa.array(unknown))
        return table if self.options.keep_text else table.drop_columns([TEXT])

    def _load(self) -> _Loaded:
        """Two threads may both load, harmlessly."""
        if self._loaded is None:
            tokenizer = load_tokenizer(self.options.tokenizer)
            self._loaded = _Loaded(
                tokenizer=tokenizer,
                fast=fast_encoder(tokenizer) if self.options.encoder == "auto" else None,
                begin=self._special(tokenizer, "begin_of_text"),
                end=self._special(tokenizer, "end_of_text"),
                unknown=unknown_id(tokenizer),
                dtype=token_dtype(tokenizer.get_vocab(with_added_tokens=True)),
                cut=cuts_are_exact(tokenizer),
            )
        return self._loaded

    def _special(self, tokenizer: Any, option: str) -> tuple[int, ...]:
        """The id that an option names; () for null."""
        name = getattr(self.options, option)
        if name is None:
            return ()
        number = tokenizer.token_to_id(name)
        if number is None:
            special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
            raise ConfigError(
                f"{self.options.tokenizer} has no token {name!r}",
                expected=f"one of its special tokens: {', '.join(special) or 'it has none'}",
                fix=nearest(name, special) or f"set tokenize.{option}, or null for none",
            )
        return (number,)


def _batches(text: pa.ChunkedArray, budget: int, *, cut: bool) -> Iterator[tuple[list[int], list[str]]]:
    """Row numbers and texts, in order, about `budget` characters at a time; a long text comes in pieces if `cut`."""
    rows: list[int] = []
    texts: list[str] = []
    size = 0
    for row, whole in enumerate(value for chunk in text.chunks for value in chunk.to_pylist()):
        for piece in pieces(whole) if cut else (whole,):
            rows.append(row)
            texts.append(piece)
            size += len(piece)
            if size >= budget:
                yield rows, texts
                rows, texts, size = [], [], 0
    if rows:
        yield rows, texts


def load_tokenizer(path: str) -> Any:
    """A `tokenizers.Tokenizer` from a local `tokenizer.json`, set to encode all of a text and only what it says.

    Raises:
        ConfigError: no path, no such file, or the file is no tokenizer.
    """
    import os

    from tokenizers import Tokenizer

    fix = "set tokenize.tokenizer to a tokenizer.json, or put the step vocabulary before it"
    if not path:
        raise ConfigError("tokenize has no tokenizer", expected="a path of a tokenizer.json", fix=fix)
    if not os.path.isfile(path):  # noqa: PTH113  (a path as the recipe wrote it)
        raise ConfigError(f"there is no file {path}", expected="a tokenizer.json", fix=fix)
    try:
        check_ids(path)
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:
        raise ConfigError(
            f"{path} is no tokenizer: {error}", expected="a Hugging Face tokenizer.json", fix=fix
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a text is ten-odd ordinary characters
    return tokenizer


def check_ids(path: str) -> None:
    """Refuse ids that no vocabulary has: the library allocates a place for each up to the largest, and dies of it.

    Raises:
        ValueError, TypeError, KeyError, RecursionError: it is no tokenizer, or has such an id.
    """
    import json

    with open(path, "rb") as file:  # noqa: PTH123  (a path as the recipe wrote it)
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"it has more than {_LARGEST:,} bytes")
    found = json.loads(data)
    vocabulary = found["model"]["vocab"]
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else [len(vocabulary)]
    ids += [token["id"] for token in found.get("added_tokens") or ()]
    if any(not isinstance(each, int) or not 0 <= each < _MOST_IDS for each in ids):
        raise ValueError(f"its ids are not all whole numbers below {_MOST_IDS:,}")


def token_dtype(vocabulary: dict[str, int]) -> Any:
    """The numpy type of ids: uint16 if every id fits, else uint32."""
    import numpy as np

    return np.uint16 if max(vocabulary.values(), default=0) < 1 << 16 else np.uint32


def unknown_id(tokenizer: Any) -> int | None:
    """The id that a tokenizer gives what its vocabulary has no token for; None where it has no such id."""
    import json

    number: int | None
    name = getattr(tokenizer.model, "unk_token", None)
    if name is not None:
        number = tokenizer.token_to_id(name)
        return number

    # A Unigram model has a number, which its Python object does not show.
    model = json.loads(tokenizer.to_str())["model"]
    number = model.get("unk_id")
    return number if model["type"] == "Unigram" else None


def build(options: TokenizeOptions) -> Step:
    """The step with its options bound; the tokenizer is loaded when it is first needed."""
    return Tokenize(options)


SPEC: Final = StepSpec(
    name="tokenize",
    version=2,
    kind="map",
    options=TokenizeOptions,
    build=build,
    summary="text → token ids, an end-of-text token after each document",
    needs=("text",),
    gives=(TOKENS, N_TOKENS),
    signals=(UNKNOWN,),
    counters=(UNKNOWN,),
    resources=("tokenizer",),
)
