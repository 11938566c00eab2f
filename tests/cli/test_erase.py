"""`datapipe erase`, and `describe` with its page, as a user types them."""

import json

import pytest

import datapipe as toolkit


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "in").mkdir()
    lines = [json.dumps({"text": f"PLANTED{i}x and some words"}) + "\n" for i in range(6)]
    (folder / "in" / "a.jsonl").write_text("".join(lines))
    toolkit.preprocess(folder / "in", folder / "out", {"steps": ["decode", "language"]}, workers=0)
    return folder / "out", [f"in/a.jsonl:{sum(map(len, lines[:i]))}" for i in range(6)]


def test_ids_from_the_command_and_from_a_file(datapipe, dataset, tmp_path):
    folder, ids = dataset
    (tmp_path / "ids").write_text(f"{ids[1]}\n{ids[2]}\n\n")
    ran = datapipe("erase", folder, ids[0], "--from", tmp_path / "ids", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["ok"], ran.json["erased"], ran.json["snapshot"]) == (True, 3, 1)
    ran = datapipe("erase", folder, ids[0])
    assert "had been erased before" in ran.out
    assert datapipe("erase", folder).code == 2
    ran = datapipe("erase", folder, "in/a.jsonl:7", "--json")
    assert ran.code == 2
    assert "nothing was erased" in ran.json["error"]["message"]
    assert datapipe("erase", folder, "--from", tmp_path / "none").code == 2
    assert datapipe("erase", tmp_path / "none", "x").code == 2


def test_a_file_of_ids_as_other_programs_write_it(datapipe, tmp_path):
    """A byte order mark and CRLF are none of an id's; what is no end of a line to an editor is one of its letters."""
    ids = ["ada", "bo\u2028b", "eve"]
    rows = [json.dumps({"text": f"what {name} said", "id": name}) + "\n" for name in ids]
    (tmp_path / "a.jsonl").write_text("".join(rows))
    recipe = {"input": {"id_column": "id"}, "steps": ["decode"]}
    toolkit.preprocess(tmp_path / "a.jsonl", tmp_path / "out", recipe, workers=0)
    (tmp_path / "ids").write_bytes("\ufeffada\r\nbo\u2028b\r\n".encode())
    ran = datapipe("erase", tmp_path / "out", "--from", tmp_path / "ids", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["erased"] == 2


def test_describe_counts_and_writes_a_page(datapipe, dataset, tmp_path):
    folder, _ = dataset
    ran = datapipe("describe", folder, "--representation", "--html", tmp_path / "x.html", "--json")
    assert ran.code == 0, ran.err
    assert {each["name"] for each in ran.json["representation"]["dimensions"]} >= {"language", "source", "length"}
    page = (tmp_path / "x.html").read_text()
    assert "Sample rows" in page
    assert "Representation" in page
    assert "representation of" in datapipe("describe", folder, "--representation").out
    assert datapipe("describe", folder, "--html", tmp_path / "none" / "x.html").code == 2
