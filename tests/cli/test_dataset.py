"""`describe`, `verify` and `plan` on a dataset that `preprocess` made."""

import shutil

import pytest


def test_describe_says_what_is_there(datapipe, small):
    folder, made = small
    ran = datapipe("describe", folder, "--json")
    assert ran.code == 0, ran.err
    facts = ran.json
    assert facts["fingerprint"] == made.json["fingerprint"]
    assert facts["ledger"]["documents_in"] == 62
    assert facts["ledger"]["unaccounted"] == 0
    assert {f["name"] for f in facts["schema"]} >= {"tokens", "segment_ids", "n_tokens"}
    text = datapipe("describe", folder).out
    for expected in (facts["fingerprint"], "tokens", "recipe", "duplicates", "exact_duplicates"):
        assert expected in text


def test_verify_passes_and_then_finds_a_flipped_byte(datapipe, small, tmp_path):
    folder = shutil.copytree(small[0], tmp_path / "copy")
    assert datapipe("verify", folder).code == 0
    shard = next((folder / "data").iterdir())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    ran = datapipe("verify", folder, "--json")
    assert ran.code == 1
    assert ran.json["ok"] is False
    assert shard.name in ran.json["faults"][0]["path"]
    assert "FAULT" in datapipe("verify", folder).out


@pytest.mark.parametrize("extra", [[], ["--world-size", "3"], ["--tail", "pad"], ["--no-shuffle"]])
def test_plan_reads_no_row(datapipe, small, tmp_path, extra):
    """A plan needs the manifest alone: it works where the shards are gone."""
    folder = tmp_path / "only-manifest"
    folder.mkdir()
    shutil.copy(small[0] / "manifest.json", folder)
    ran = datapipe("plan", folder, "--batch-size", "4", *extra, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["steps_per_rank"] > 0
    assert datapipe("plan", folder, "--batch-size", "4", *extra).out.strip()
