"""What the step tests share: awkward strings, a small tokenizer, and a good input table for every step."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pytest

from datapipe.steps import REGISTRY, Keys, bind, run_steps

# Tests share small_pictures.py and sounds.py.
sys.path.insert(0, str(Path(__file__).parent))
from small_pictures import encoded, scene
from sounds import of_texts

AUDIO_STEPS = {
    "audio_check": (),
    "audio_convert": (),
    "audio_decode": (),
    "audio_windows": ("audio_check",),
    "augment_audio": ("audio_decode",),
    "log_mel": ("audio_decode",),
    "spec_augment": ("audio_decode", "log_mel"),
}
"""The audio steps, and what runs before each."""
IMAGE_STEPS = ("image_check", "image_duplicates", "image_resize", "image_pixels")
PROSE = "The cat sat with the dog and that was the end of it, to be sure. "

AWKWARD = (
    "",
    " ",
    "\n\n\n",
    "a",
    "\0",
    "nul\0in\0side",
    "\x01\x02\x1f\x7f\x85\x9f",
    "tab\tand\r\nCRLF\rand CR",
    "cafe\u0301 \u212b \ufb01",  # NFC composes the first two and leaves the ligature
    "e\0\u0301",  # composes only once the NUL is gone
    "👩\u200d👩\u200d👧\u200d👦 🇩🇪 🏳\ufe0f\u200d🌈",
    "中文没有空格的一句话。第二句。",
    "שלום עולם مرحبا بالعالم",
    "\u202eright to left override\u202c",
    "\ufeffmark",
    "\ufffd\ufffd",
    "\U0010ffff\uffff\ufdd0",
    "a\u0300\u0301\u0302\u0303" * 50,
    "<|endoftext|> text that spells it <|endoftext|>",
    "<html><body><p>markup</p></body></html>",
    "# " * 200,
    "..." * 200,
    "• a\n- b\n" * 100,
    PROSE * 10,
    PROSE * 3000,
    "x" * (1 << 20),
)


def picture(text):
    """A small picture that depends on the text; of an odd length, its bytes cut."""
    data = encoded(scene(8 + len(text) % 13, 9 + len(text) % 7), "PNG" if len(text) % 3 else "JPEG")
    return data[: len(data) // 2] if len(text) % 2 else data


def documents(texts, media_type="text/plain"):
    """A table as the corpus gives it: row_id, media_type, text, bad_bytes."""
    n = len(texts)
    return pa.table(
        {
            "row_id": pa.array([f"src/file.jsonl:{i * 7}" for i in range(n)], pa.string()),
            "media_type": pa.array([media_type] * n, pa.string()),
            "text": pa.array(texts, pa.large_string()),
            "bad_bytes": pa.array([0] * n, pa.int32()),
        }
    )


@pytest.fixture(scope="session")
def awkward():
    return AWKWARD


@pytest.fixture(scope="session")
def prose():
    return PROSE


@pytest.fixture(scope="session")
def make_documents():
    return documents


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory):
    """A tokenizer of 400 tokens, trained on a few sentences."""
    from datapipe.steps.vocabulary import VocabularyOptions, train_vocabulary

    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_bytes(train_vocabulary([PROSE * 20, "other words entirely " * 20], VocabularyOptions(size=400)))
    return str(path)


@pytest.fixture(scope="session")
def known_path(tmp_path_factory):
    """What is known of two texts, to be joined."""
    path = tmp_path_factory.mktemp("known") / "known.jsonl"
    path.write_text('{"text": "a", "known": "1"}\n{"text": " ", "known": "2"}\n')
    return str(path)


@pytest.fixture(scope="session")
def bound(tokenizer_path, known_path):
    """Bind a step by name, with what it cannot do without."""

    def of(name, **options):
        if name == "tokenize":
            options.setdefault("tokenizer", tokenizer_path)
        if name == "pack":
            options.setdefault("seq_len", 64)
        if name == "join":
            options = {"files": [known_path], "key": "text", "columns": ["known"], "unmatched": "drop", **options}
        if name == "split":
            options.setdefault("parts", {"train": 1, "test": 1})
        return bind(name, options)

    return of


@pytest.fixture(scope="session")
def input_of(bound):
    """A table of `texts` as the step `name` would meet it; half of the rows are HTML for html_to_text."""

    def of(name, texts):
        table = documents(texts)
        if name == "decode":
            raw = pa.array([text.encode() for text in texts], pa.large_binary())
            return table.drop_columns(["text", "bad_bytes"]).append_column("raw", raw)
        if name == "html_to_text":
            kinds = ["text/html" if i % 2 else "text/plain" for i in range(len(texts))]
            return table.set_column(1, "media_type", pa.array(kinds, pa.string()))
        if name == "url_filter":
            urls = [f"https://www.{'bad' if i % 3 else 'good'}.example/{text[:20]}" for i, text in enumerate(texts)]
            return table.append_column("url", pa.array(urls, pa.string()))
        if name in AUDIO_STEPS:
            table = of_texts(texts, broken=not AUDIO_STEPS[name])
            for before in AUDIO_STEPS[name]:
                table = run_steps(table, [bound(before)], Keys()).table
            return table
        if name in IMAGE_STEPS:
            return table.append_column("image", pa.array(map(picture, texts), pa.large_binary()))
        if name == "pack":
            return run_steps(table, [bound("tokenize")], Keys()).table
        return table

    return of


@pytest.fixture(params=list(REGISTRY))
def step_name(request):
    return request.param


@pytest.fixture
def signals_of():
    """The signals of one text, as a dict."""
    from datapipe.steps.gopher_quality import gopher_signals

    def of(text):
        return gopher_signals(pa.chunked_array([pa.array([text], pa.large_string())])).to_pylist()[0]

    return of
