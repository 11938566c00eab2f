"""`profile`, `report` and `compare` as they are typed."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from datapipe.cli.main import app
from datapipe.profiling import load_profile
from datapipe.profiling.profile_file import save_profile

SCRIPT = """
import sys, time
import torch
from torch.utils.data import DataLoader, Dataset

class Slow(Dataset):
    def __len__(self):
        return 40
    def __getitem__(self, i):
        time.sleep(float(sys.argv[1]))
        return torch.zeros(8)

model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for batch in DataLoader(Slow(), batch_size=2):
    loss = model(batch).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
print("trained", sys.argv[1:])
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def slow(datapipe, tmp_path_factory):
    """A script that waits 20 ms a step for data, profiled: (folder, what the command printed)."""
    folder = tmp_path_factory.mktemp("profile")
    (folder / "train.py").write_text(SCRIPT)
    return folder, datapipe("profile", "-o", folder / "slow", folder / "train.py", "0.01", "0")


@pytest.fixture(scope="module")
def slower(datapipe, slow):
    """The same script, which waits eight times as long, profiled with --json: (folder, what the command printed)."""
    folder = slow[0] / "slower"
    return folder, datapipe("profile", "-o", folder, "--json", slow[0] / "train.py", "0.08", "0")


def test_an_unmodified_script_gets_a_verdict(slow):
    folder, ran = slow
    assert ran.code == 0, ran.err
    assert "trained ['0.01', '0']" in ran.out
    assert "nput-bound" in ran.out
    assert {p.name for p in (folder / "slow").iterdir()} >= {"profile.json", "report.html", "trace.json.gz"}


def test_with_json_the_scripts_output_goes_to_standard_error(slower):
    """Standard output holds the one object and nothing else."""
    _, ran = slower
    assert ran.code == 0, ran.err
    assert ran.json["ok"]
    assert "trained" in ran.err


def test_live_metrics_are_opt_in(datapipe, slow):
    """With the flags scalars are written and metrics served; the profile is what it is without; no line is drawn.

    The script's exit code is the command's.
    """
    folder, _ = slow
    out = folder / "told"
    ran = datapipe(
        "profile", "-o", out, "--prometheus", "0", "--tensorboard", out / "tb", folder / "train.py", "0.001", "3"
    )
    assert ran.code == 3, ran.err
    assert list((out / "tb").glob("events.out.tfevents.*"))
    notes = json.loads((out / "profile.json").read_text())["notes"]
    assert not [name for name in notes if name.startswith("live:")]
    assert "\x1b" not in ran.err
    assert not (folder / "slow" / "tb").exists()


def test_report_shows_it_again_and_writes_the_page_anew(datapipe, slow):
    folder, _ = slow
    (folder / "slow" / "report.html").unlink()
    ran = datapipe("report", folder / "slow")
    assert ran.code == 0, ran.err
    assert (folder / "slow" / "report.html").is_file()
    facts = datapipe("report", folder / "slow", "--json").json
    assert facts["ok"]


@pytest.mark.parametrize("missing", ["", "nosuch", "file.txt"])
def test_a_profile_that_is_not_there_is_wrong_usage(datapipe, tmp_path, missing):
    """Exit code 2, so that CI tells it from a regression, which is 1; the message says what was wanted."""
    (tmp_path / "file.txt").write_text("a file in the folder's place")
    folder = tmp_path / missing / "inside" if missing else tmp_path
    for args in (("report", folder), ("compare", folder, folder)):
        ran = datapipe(*args)
        assert ran.code == 2
        assert "profile.json" in ran.err


def steps_of(summary, wait_ms, n=60):
    """The summary with `n` steps of a wait, as far as one differs from the next, and 5 ms of forward, as told."""
    waits = [round((wait_ms + i * 37 % 11 / 10) * 1e6) for i in range(n)]
    series = replace(
        summary.series,
        count=n,
        every=1,
        number=list(range(n)),
        kind=[0] * n,
        start_ns=[i * 10**9 for i in range(n)],
        total_ns=[wait + 5 * 10**6 for wait in waits],
        parts_ns={"wait": waits, "forward": [5 * 10**6] * n, "other": [0] * n},
        waits_ns={},
    )
    return replace(summary, series=series)


def test_compare_finds_a_regression_and_exits_with_1(datapipe, slow, tmp_path):
    """Waiting made eight times as long is a regression; a run beside itself is none; too few steps are no proof."""
    kept = load_profile(slow[0] / "slow")
    for name, profile in {"a": steps_of(kept, 20), "b": steps_of(kept, 160), "few": steps_of(kept, 160, n=4)}.items():
        save_profile(profile, tmp_path / name)
    worse = datapipe("compare", tmp_path / "a", tmp_path / "b", "--json")
    assert (worse.code, worse.json["regressed"], worse.json["unsure"]) == (1, True, False)
    same = datapipe("compare", tmp_path / "a", tmp_path / "a")
    assert same.code == 0, same.err
    assert "no regression" in same.out
    few = datapipe("compare", tmp_path / "a", tmp_path / "few", "--json")
    assert (few.code, few.json["regressed"], few.json["unsure"]) == (1, False, True)


def test_compare_takes_what_was_recorded(datapipe, slow):
    """A recorded run beside itself: nothing differs, however unevenly the machine let it go."""
    found = datapipe("compare", slow[0] / "slow", slow[0] / "slow", "--json")
    assert (found.code, found.json["regressed"], found.json["step"]["difference"]) == (0, False, 0)
    assert found.json["step"]["before"] > 20e6
    assert {"wait", "forward", "backward"} <= {part["name"] for part in found.json["parts"]}


def test_a_missing_script_is_a_readable_error(datapipe, tmp_path):
    ran = datapipe("profile", "-o", tmp_path / "p", tmp_path / "none.py", refused=True)
    assert ran.code != 0
    assert "none.py" in ran.err


@pytest.mark.parametrize("other", ["--brief", "--differential"])
def test_options_that_contradict_each_other_are_refused(tmp_path, other):
    """Before the script runs: a brief profile has no advice to apply, and one of two second runs would be lost."""
    (tmp_path / "train.py").write_text("raise SystemExit(7)")
    line = ["profile", "--apply", other, "-o", str(tmp_path / "p"), str(tmp_path / "train.py")]
    assert CliRunner().invoke(app, line).exit_code == 2
    assert not (tmp_path / "p").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_the_script_runs(tmp_path):
    (tmp_path / "afile").write_text("mine")
    (tmp_path / "train.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    done = CliRunner().invoke(app, ["profile", "-q", "-o", str(tmp_path / "afile"), str(tmp_path / "train.py")])
    assert done.exit_code == 2
    assert not (tmp_path / "ran").exists()
    folder = CliRunner().invoke(app, ["profile", "-q", "-o", str(tmp_path / "p"), str(tmp_path)])
    assert (folder.exit_code, (tmp_path / "p").exists()) == (2, False)


@pytest.mark.parametrize("code", [0, 3])
def test_what_cannot_be_written_at_the_end_is_printed(tmp_path, code):
    """The verdict and the ledger, where the script took its profile's folder away; its exit code stays its own."""
    pytest.importorskip("torch")
    folder = tmp_path / "p"
    (tmp_path / "train.py").write_text(
        f"import shutil\nshutil.rmtree({str(folder)!r})\nopen({str(folder)!r}, 'w')\nraise SystemExit({code})"
    )
    done = CliRunner().invoke(app, ["profile", "-q", "-o", str(folder), str(tmp_path / "train.py")])
    assert done.exit_code == (code or 1)
    assert "No steps were recorded" in done.output
    assert "the whole run" in done.output


def test_the_profile_file_is_plain_json(slow):
    json.loads((slow[0] / "slow" / "profile.json").read_text())
