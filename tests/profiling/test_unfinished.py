"""What a folder says of the run that is recorded in it: that it can be written, that it lasts or was killed."""

from __future__ import annotations

import pytest

from datapipe.errors import ConfigError, ProfileError
from datapipe.profiling import load_profile
from datapipe.profiling.unfinished import begin, end, left


def test_a_killed_run_is_told_where_its_profile_is_looked_for(tmp_path):
    """The file stays after SIGKILL, so that `report` says what came of the run; after any other end it is gone."""
    folder = tmp_path / "new" / "run"
    begin(folder)
    assert "killed" in left(folder)
    with pytest.raises(ProfileError, match="killed"):
        load_profile(folder)
    end(folder)
    assert left(folder) is None
    with pytest.raises(ProfileError, match="record one"):
        load_profile(folder)


@pytest.mark.parametrize("inside", ["", "run"])
def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path, inside):
    """A file in its place, or in its parent's: the error says so before anything has run."""
    (tmp_path / "afile").write_text("mine")
    with pytest.raises(ConfigError, match="afile"):
        begin(tmp_path / "afile" / inside)
    assert (tmp_path / "afile").read_text() == "mine"
