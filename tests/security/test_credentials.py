"""Credentials are for the store alone: nothing that is written, said, raised or sent on holds one."""

import gzip
import json
import pickle
import traceback

import pytest

import datapipe
from datapipe.errors import DatapipeError
from datapipe.preprocess import preprocess

SECRETS = ("AKsecretkeyid123", "sEcReT/aCcEsS+kEy", "t0kenOfASession99", "env0nlySecret55")
OPTIONS = {"key": SECRETS[0], "secret": SECRETS[1], "client_kwargs": {"aws_session_token": SECRETS[2]}}


def holds_secret(data):
    """Which of the secrets the bytes hold, packed or not."""
    if data[:2] == b"\x1f\x8b":
        data += gzip.decompress(data)
    return [secret for secret in SECRETS if secret.encode() in data]


def test_nothing_that_is_written_holds_one(tmp_path, monkeypatch):
    """Manifest, shards, run.json, report, ledgers, samples, profile, trace: with options and environment that do."""
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "DATABASE_URL"):
        monkeypatch.setenv(name, SECRETS[3])
    rows = [json.dumps({"text": f"some words of row {i}"}) for i in range(30)]
    (tmp_path / "a.jsonl").write_text("\n".join([*rows, "{broken"]))
    out = tmp_path / "out"
    recipe = {"name": "x", "steps": ["decode", "exact_duplicates"]}
    summary = preprocess(str(tmp_path / "a.jsonl"), str(out), recipe=recipe, workers=0, storage_options=OPTIONS)
    assert not holds_secret(repr(summary).encode())
    ds = datapipe.open_dataset(str(out), storage_options=OPTIONS)
    loader = datapipe.DataLoader(ds, 4, rank=0, world_size=1)
    with datapipe.profile(tmp_path / "run") as prof:
        for _ in prof.steps(loader):
            pass
    for thing in (ds, loader, loader.stats(), loader.state_dict(), ds.manifest):
        assert not holds_secret(repr(thing).encode())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert [(path.name, found) for path in files if (found := holds_secret(path.read_bytes()))] == []


@pytest.mark.parametrize(
    "url",
    [
        f"s3://{SECRETS[0]}:{SECRETS[1]}@bucket/x",
        f"https://127.0.0.1:9/a/b?X-Amz-Credential={SECRETS[0]}&X-Amz-Signature={SECRETS[2]}&part=1",
        f"abfs://c@a.example/x?sv=1&sig={SECRETS[2]}",
        f"nothing://u:{SECRETS[1]}@h/x",
    ],
    ids=["user part", "signed", "sas", "unknown scheme"],
)
def test_no_error_holds_one(url, tmp_path):
    """Words, repr, notes and the chain of causes; also once the error has crossed to another process."""
    seen = []
    for attempt in (
        lambda: datapipe.open_dataset(url, storage_options={"retries": 0, **OPTIONS}),
        lambda: preprocess(url, str(tmp_path / "o"), recipe={"steps": ["decode"]}, workers=0, dry_run=True),
    ):
        with pytest.raises(DatapipeError) as raised:
            attempt()
        error = raised.value
        crossed = pickle.loads(pickle.dumps(error))
        for each in (error, crossed):
            seen += [str(each), repr(each), *getattr(each, "__notes__", [])]
        seen += traceback.format_exception(error)
    assert not holds_secret("\n".join(seen).encode())
