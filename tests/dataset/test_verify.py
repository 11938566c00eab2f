"""Verifying: every kind of damage is found and named, and none hides another."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.dataset import build_manifest, publish, put_file_entry, verify_dataset
from datapipe.storage import open_store


def rewrite(folder, change):
    """Publish a changed manifest whose fingerprint is right again: only the content can give the lie away."""
    raw = json.loads((folder / "manifest.json").read_bytes())
    change(raw)
    (folder / "manifest.json").write_text(json.dumps(raw))


def test_a_whole_dataset_passes(made):
    report = verify_dataset(str(made[0]))
    assert report.ok, report.faults
    assert (report.shards, report.rows) == (2, 17)
    assert report.fingerprint == made[1].fingerprint


def test_a_flipped_byte_is_found(made):
    path = made[0] / made[1].shards[1].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert [p for p, _ in verify_dataset(str(made[0])).faults] == [made[1].shards[1].path]


def test_every_fault_is_reported(made):
    """A missing shard, a truncated one and a changed vocabulary give three faults."""
    folder, manifest = made
    (folder / manifest.shards[0].path).unlink()
    path = folder / manifest.shards[1].path
    path.write_bytes(path.read_bytes()[:-1])
    (folder / "tokenizer.json").write_text("changed")
    report = verify_dataset(str(folder))
    assert {p for p, _ in report.faults} == {manifest.shards[0].path, manifest.shards[1].path, "tokenizer.json"}


def test_a_ledger_that_does_not_add_up_is_found(made):
    rewrite(made[0], lambda raw: raw["ledger"][0].update(duplicates=5))
    faults = verify_dataset(str(made[0])).faults
    assert [(p, "unaccounted" in f) for p, f in faults] == [("ledger of split 0", True)]


def test_documents_that_no_ledger_knows_are_found(made):
    rewrite(made[0], lambda raw: raw["ledger"].pop())
    assert any("its ledger says 0" in fault for _, fault in verify_dataset(str(made[0])).faults)


def test_wrong_tokens_per_row_group_are_found(made):
    rewrite(made[0], lambda raw: raw["shards"][0]["row_groups"].update(tokens=[16, 16, 9]))
    assert any("tokens" in fault for _, fault in verify_dataset(str(made[0])).faults)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda raw: raw["shards"][0]["row_groups"].update(offset=[999, 999, 999]), "offset|bytes"),
        (lambda raw: raw["shards"][0]["row_groups"]["bytes"].reverse(), "bytes"),
        (lambda raw: raw["shards"][0]["row_groups"].update(tokens=None), "tokens .* lists none"),
        (lambda raw: raw["vocabulary"].update(bytes=1), "the manifest says 1"),
        (lambda raw: raw["vocabulary"].update(size=7), "0 tokens, the manifest says 7"),
        (lambda raw: raw.update(fields=[]), "fields"),
        (lambda raw: raw.update(ledger=[]), "it is empty"),
        (lambda raw: [shard.update(documents=shard["documents"] + 1) for shard in raw["shards"]], "its ledger says"),
    ],
)
def test_every_figure_of_the_manifest_is_compared(made, change, says):
    """A manifest whose fingerprint is right and that says something else than the bytes does not pass."""
    rewrite(made[0], change)
    faults = verify_dataset(str(made[0])).faults
    assert any(re.search(says, fault) for _, fault in faults), faults


def test_uncompressed_sizes_of_parquet_are_compared(made):
    rewrite(made[0], lambda raw: raw["shards"][0]["row_groups"].update(uncompressed=[1, 1, 1]))
    found = any("uncompressed" in fault for _, fault in verify_dataset(made[0]).faults)
    assert found == (made[1].shards[0].format == "parquet")


def test_a_tokenizers_size_is_counted(made):
    """Tokens of the model and those added to it, each once."""
    folder, manifest = made
    data = {"model": {"vocab": {"a": 0, "b": 1, "<s>": 2}}, "added_tokens": [{"content": "<s>"}, {"content": "<e>"}]}
    entry = put_file_entry(open_store(str(folder)), "tokenizer.json", json.dumps(data).encode(), size=4)
    publish(open_store(str(folder)), manifest.model_copy(update={"vocabulary": entry}))
    assert verify_dataset(folder).ok
    rewrite(folder, lambda raw: raw["vocabulary"].update(size=5))
    assert [p for p, _ in verify_dataset(folder).faults] == ["tokenizer.json"]


def test_a_broken_manifest_is_a_fault(made):
    (made[0] / "manifest.json").write_text("{")
    report = verify_dataset(str(made[0]))
    assert report.faults[0][0] == "manifest.json"


def test_left_over_files_are_noted_and_no_fault(made):
    (made[0] / "data" / "part-00009-aaaaaaaa.parquet").write_bytes(b"left over")
    report = verify_dataset(str(made[0]))
    assert report.ok
    assert "part-00009" in report.notes[0]


def test_a_bare_folder_is_decoded(tmp_path):
    pq.write_table(pa.table({"x": range(1000)}), tmp_path / "a.parquet", row_group_size=100, use_dictionary=False)
    assert verify_dataset(str(tmp_path)).ok
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[10:60] = b"\xff" * 50
    (tmp_path / "a.parquet").write_bytes(data)
    report = verify_dataset(str(tmp_path))
    assert [p for p, _ in report.faults] == ["a.parquet"]


@pytest.mark.parametrize("rows", [0])
def test_an_empty_dataset_is_whole(tmp_path, rows):
    """Everything may have been dropped: no shard, and still a dataset that verifies."""
    store = open_store(str(tmp_path))
    publish(store, build_manifest(pa.schema([("x", pa.int64())]), ()))
    report = verify_dataset(str(tmp_path))
    assert report.ok
    assert report.rows == rows
