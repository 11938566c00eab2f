"""`describe`, `verify` and `plan` on a dataset that `preprocess` made."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
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


@pytest.mark.parametrize("shape", [["--pack", "64"], ["--bucket", "20,40"], ["--max-tokens", "256"]])
def test_plan_of_documents_tells_their_padding(datapipe, tmp_path, shape):
    """Packed or bucketed: steps and padding, from lengths; boundaries that are none are wrong usage."""
    tokens = pa.array([list(range(1 + i % 60)) for i in range(400)], pa.list_(pa.int32()))
    pq.write_table(pa.table({"tokens": tokens}), tmp_path / "a.parquet", row_group_size=50)
    facts = datapipe("plan", tmp_path, *shape, "--batch-size", "4", "--json").json
    assert facts["steps_per_rank"] > 0
    assert 0 <= facts["padding"] < 0.6
    assert "padding" in datapipe("plan", tmp_path, *shape).out
    assert datapipe("plan", tmp_path, "--bucket", "short,long").code == 2
    assert datapipe("plan", tmp_path, "--bucket", "20", "--max-tokens", "5").code == 2


@pytest.mark.parametrize(
    "command",
    [["describe"], ["verify"], ["plan"], ["explain", "a:0"], ["retune", "--set", "gopher_quality.min_words=3"]],
)
@pytest.mark.parametrize("name", ["absent", "absent.parquet"])
def test_a_dataset_that_is_not_there_is_wrong_usage(datapipe, tmp_path, command, name):
    """Exit code 2, with the path."""
    ran = datapipe(command[0], tmp_path / name, *command[1:])
    assert ran.code == 2
    assert str(tmp_path / name) in ran.err


@pytest.mark.parametrize("command", [["describe"], ["verify"], ["explain", "a:0"]])
def test_what_is_there_and_damaged_is_a_fault(datapipe, tmp_path, command):
    """A manifest that is none, and a folder that lost all its files, give exit code 1."""
    assert datapipe(command[0], tmp_path, *command[1:]).code == 1
    (tmp_path / "manifest.json").write_text("{")
    assert datapipe(command[0], tmp_path, *command[1:]).code == 1
