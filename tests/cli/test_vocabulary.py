"""`datapipe vocabulary`: a table for people, one object for programs, and wrong usage told."""

import json
import os

import pytest


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    with (folder / "a.jsonl").open("w") as file:
        file.writelines(
            json.dumps({"text": f"the {i * 7} words of document {i} and {i * i} others"}) + "\n" for i in range(200)
        )
    return folder


@pytest.mark.parametrize("model", ["bpe", "unigram", "wordpiece"])
def test_json(datapipe, docs, model):
    """A line for each size, smallest first; fewer tokens with each."""
    ran = datapipe("vocabulary", docs, "--sizes", "600,530", "--model", model, "--json")
    assert ran.code == 0, ran.err
    sizes = ran.json["sizes"]
    assert [each["size"] for each in sizes] == [530, 600]
    assert sizes[0]["tokens_per_byte"] >= sizes[1]["tokens_per_byte"] > 0
    assert ran.json["held_out"]["documents"] + ran.json["trained_on"]["documents"] == 200
    assert ran.json == datapipe("vocabulary", docs, "--sizes", "600,530", "--model", model, "--json").json


def test_table(datapipe, docs):
    """Sizes that the text does not fill are told."""
    ran = datapipe("vocabulary", docs, "--sizes", "300,8192")
    assert ran.code == 0, ran.err
    assert "bytes/token" in ran.out
    assert "8,192 (has " in ran.out
    assert "uint16" in ran.out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--sizes", "many"], "numbers with commas"),
        (["--sizes", "10"], "vocabulary.size = 10"),
        (["--sizes", "300", "--model", "words"], "words"),
        (["--sizes", "300", "--held-out", "1"], "held_out"),
    ],
)
def test_wrong_usage(datapipe, docs, args, message):
    ran = datapipe("vocabulary", docs, *args)
    assert ran.code == 2
    assert message in ran.err
    assert "Traceback" not in ran.err


def test_what_is_printed_on_the_way_is_no_result(docs, capfd, monkeypatch):
    """A library that prints while it trains does not break the JSON object."""
    from datapipe.cli import vocabulary
    from datapipe.steps import vocabulary_sweep

    def loud(*args):
        os.write(1, b"progress\n")
        return sweep(*args)

    sweep = vocabulary_sweep.sweep
    monkeypatch.setattr(vocabulary_sweep, "sweep", loud)
    vocabulary.vocabulary(
        [str(docs)], sizes="530", model="bpe", sample_mb=1, held_out=0.1, seed=0, text_column="text", json=True
    )  # fmt: skip
    said = capfd.readouterr()
    assert json.loads(said.out)["ok"]
    assert "progress" in said.err
