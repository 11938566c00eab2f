"""`datapipe trace merge` as it is typed."""

import gzip
import json

from datapipe.profiling import profile


def test_two_runs_become_one_trace(datapipe, tmp_path):
    for name in ("a", "b"):
        with profile(tmp_path / name) as prof:
            for _ in prof.steps(range(3)):
                pass
    ran = datapipe("trace", "merge", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "both.json.gz")
    assert ran.code == 0, ran.err
    assert "both.json.gz" in ran.out
    events = json.loads(gzip.decompress((tmp_path / "both.json.gz").read_bytes()))["traceEvents"]
    assert sum(event["name"] == "step" for event in events) == 6
    assert datapipe("trace", "merge", tmp_path / "a", "-o", tmp_path / "c.gz", "--json").json["ok"]


def test_what_is_not_there_is_said(datapipe, tmp_path):
    ran = datapipe("trace", "merge", tmp_path / "none")
    assert ran.code == 2
    assert "none" in ran.err
