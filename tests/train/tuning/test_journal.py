"""The file that a search is kept in."""

import optuna

from datapipe.train.tuning.journal import open_journal


def test_a_line_cut_short_is_as_if_it_had_not_been_written(tmp_path):
    """Cut anywhere, the journal opens, tells what whole lines tell, and takes new lines; a lock left behind is none."""
    path = tmp_path / "search.journal"
    study = optuna.create_study(storage=open_journal(path), study_name="s")
    for value in (1.0, 2.0):
        study.tell(study.ask(), value)
    data = path.read_bytes()
    (tmp_path / "search.journal.lock").symlink_to(path)
    for cut in range(data.rindex(b"\n", 0, -1), len(data) + 1, 7):
        path.write_bytes(data[:cut])
        again = optuna.create_study(storage=open_journal(path), study_name="s", load_if_exists=True)
        again.tell(again.ask(), 3.0)
        values = [trial.value for trial in optuna.load_study(study_name="s", storage=open_journal(path)).trials]
        assert values[0] == 1.0
        assert values[-1] == 3.0
