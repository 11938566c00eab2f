"""The commands that look after a dataset that grows."""

import pytest

from datapipe.cli.snapshots import seconds
from datapipe.errors import ConfigError


def test_list_compact_roll_back_and_expire(grown, datapipe):
    """Each says what it did, to people and to machines."""
    store = grown((5, 4, 3))
    url = store.url
    listed = datapipe("snapshots", url)
    assert listed.code == 0
    assert "2 (newest)" in listed.out
    found = datapipe("snapshots", url, "--json").json["snapshots"]
    assert [(each["number"], each["rows"], each["added"]) for each in found] == [(0, 5, 5), (1, 9, 4), (2, 12, 3)]
    assert "3 shards → 1" in datapipe("compact", url).out
    done = datapipe("compact", url, "--json").json
    assert (done["changed"], done["snapshot"], done["fingerprint"]) == (False, 3, found[2]["fingerprint"])
    assert datapipe("rollback", url, "1", "--json").json == {
        "ok": True, "snapshot": 4, "content_of": 1, "rows": 9, "fingerprint": found[1]["fingerprint"],
    }  # fmt: skip
    assert "expired: 0, 1, 2, 3; kept: 4" in datapipe("expire", url, "--keep", "1").out
    assert len(datapipe("expire", url, "--grace", "0", "--json").json["removed"]) == 3
    refused = datapipe("rollback", url, "1")
    assert refused.code == 1
    assert "no snapshot 1 any more: it has expired" in refused.err
    never = datapipe("rollback", url, "99").err
    assert "any more" not in never
    assert "name one of these; 4 is the newest" in never


def test_what_is_wrong_is_said(grown, datapipe, tmp_path):
    """An age, a place that is none, a size."""
    url = grown((1,)).url
    assert "12h, 30d" in datapipe("expire", url, "--older-than", "soon").err
    assert datapipe("snapshots", str(tmp_path / "absent")).code == 2
    for size in ("0", "nan", "inf"):
        assert datapipe("compact", url, "--target-mb", size).code == 2


@pytest.mark.parametrize(("text", "found"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1w", 604800)])
def test_ages(text, found):
    """As people write them."""
    assert seconds(text) == found
    with pytest.raises(ConfigError):
        seconds(f"{text}x")
