"""`datapipe sample`: the same seed, the same text."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from datapipe.cli import console
from datapipe.cli import sample as command
from datapipe.errors import ConfigError, InputError
from datapipe.train import GPT, GPTConfig

LETTERS = "abcdefghijklmnop"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An exported model of letters, and its tokenizer."""
    names = ["<|endoftext|>", *LETTERS]
    words = Tokenizer(models.WordLevel({name: n for n, name in enumerate(names)}, unk_token="<|endoftext|>"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    words.decoder = decoders.Fuse()
    words.save(str(tmp_path / "tokenizer.json"))
    torch.manual_seed(0)
    shape = {"vocab_size": 17, "seq_len": 12, "layers": 1, "heads": 2, "width": 8, "hidden": None}
    weights = GPT(GPTConfig(**shape)).state_dict()
    save_file(weights, tmp_path / "m.safetensors", metadata={"step": "3", "model": json.dumps(shape)})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here, monkeypatch):
    said = []
    monkeypatch.setattr(console, "emit", said.append)

    def call(prompt="abc", **told):
        command.sample(here / "m.safetensors", prompt, "tokenizer.json", device="cpu", json=True, **told)
        return said.pop()

    return call


def test_text_from_a_seed(run):
    """The prompt and what follows it; the same for the same seed; at the row's end it stops, and says so."""
    found = run(seed=4, new_tokens=5)
    assert found["text"].startswith("abc")
    assert len(found["text"]) == 3 + len(found["tokens"])
    assert (found["prompt_tokens"], found["step"]) == ([1, 2, 3], 3)
    again = run(seed=4, new_tokens=5)
    assert again | {"tokens_per_s": 0} == found | {"tokens_per_s": 0}
    assert len({run(seed=seed, new_tokens=5)["text"] for seed in range(6)}) > 2
    texts = {run(seed=seed, new_tokens=5, temperature=0.0)["text"] for seed in range(3)}
    assert len(texts) == 1
    ends = {run(seed=seed, new_tokens=99)["ended"] for seed in range(12)}
    assert ends == {"full row", "end of text"}
    assert run("", new_tokens=1)["prompt_tokens"] == [0]


def test_people_get_the_text(here, capfd):
    """On standard output the text alone."""
    command.sample(here / "m.safetensors", "ab", "tokenizer.json", new_tokens=3, device="cpu", seed=1)
    out, err = capfd.readouterr()
    assert out.startswith("ab")
    assert "step 3" in err


def test_tokenizers_that_are_none(here, tmp_path):
    """No file, no dataset, a file of something else."""
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"bad\.json"):
        command.sample(here / "m.safetensors", "a", "bad.json")
    with pytest.raises(InputError, match="nothing by that name"):
        command.sample(here / "m.safetensors", "a", "nowhere")
