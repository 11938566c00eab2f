"""`datapipe explain` and `datapipe retune` as they are typed."""


def test_explain_says_what_happened(datapipe, small):
    folder, _ = small
    ran = datapipe("explain", folder, f"{_input(small)}/short.txt:0")
    assert ran.code == 0, ran.err
    assert "dropped by gopher_quality@whitespace: gopher_too_few_words" in ran.out
    assert "min_words 50" in ran.out


def test_explain_names_the_survivor_and_the_shard(datapipe, small):
    folder, _ = small
    facts = datapipe("explain", folder, f"{_input(small)}/copy.txt:0", "--json").json
    assert facts["ok"]
    # Files are read in the order of their names: the copy is one of the two.
    if facts["outcome"] == "kept":
        facts = datapipe("explain", folder, f"{_input(small)}/000.txt:0", "--json").json
    assert facts["outcome"] == "duplicate"
    kept = datapipe("explain", folder, facts["survivor"]["row_id"])
    assert "kept" in kept.out
    assert "in data/part-" in kept.out


def test_an_unknown_id_is_exit_1_with_the_nearest(datapipe, small):
    folder, _ = small
    ran = datapipe("explain", folder, f"{_input(small)}/shrot.txt:0")
    assert ran.code == 1
    assert "short.txt:0" in ran.err


def test_retune_answers_and_writes_nothing(datapipe, small):
    folder, _ = small
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    ran = datapipe("retune", folder, "--set", "gopher_quality.min_words=1,50", "--set", "gopher_quality.min_words=500")
    assert ran.code == 0, ran.err
    assert all(f"min_words={value}" in ran.out for value in (1, 50, 500))
    facts = datapipe("retune", folder, "--set", "gopher_quality.min_words=500", "--json").json
    assert facts["ok"]
    assert facts["variants"][0]["kept"] == 0
    assert facts["variants"][0]["lost"] == small[1].json["documents_out"]
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_retune_of_what_is_no_threshold_is_wrong_usage(datapipe, small):
    ran = datapipe("retune", small[0], "--set", "gopher_quality.stop_words=[a, b]")
    assert ran.code == 2
    assert "decides what is measured" in ran.err
    assert datapipe("retune", small[0], "--set", "gopher_quality").code == 2
    assert datapipe("retune", small[0]).code == 2


def _input(small):
    """The name that row ids begin with: that of the input folder."""
    import json

    rejects = (small[0] / "rejects" / "gopher_too_few_words.jsonl").read_text().splitlines()
    return json.loads(rejects[0])["row_id"].rpartition("/")[0]
