"""`datapipe profile --apply`: the best fix, run."""

import json
import subprocess
import sys
import textwrap

import pytest

from datapipe.profiling import load_profile

pytest.importorskip("torch")

SCRIPT = """
    import sys, time
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Slow(Dataset):
        def __len__(self):
            return 80

        def __getitem__(self, i):
            time.sleep(0.004)
            return torch.ones(4)

    if __name__ == "__main__":
        model = torch.nn.Linear(4, 1)
        loader = DataLoader(Slow(), batch_size=2)
        with open(sys.argv[1], "a") as said:
            said.write(f"{loader.num_workers}\\n")
        for batch in loader:
            model(batch).sum().backward()
"""


def profile(folder, *options):
    script = folder / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    line = [sys.executable, "-m", "datapipe", "profile", "-q", "-o", folder / "run", *options, script, folder / "said"]
    return subprocess.run([str(word) for word in line], capture_output=True, text=True, check=False)


def test_the_best_fix_is_run_and_told_beside_its_prediction(tmp_path):
    """A loader that loads in the loop is run again with workers, unedited; both figures are printed and kept."""
    out = profile(tmp_path, "--apply")
    assert out.returncode == 0, out.stderr
    assert "predicted" in out.stdout
    assert "measured" in out.stdout
    first, second = (int(line) for line in (tmp_path / "said").read_text().split())
    kept = load_profile(tmp_path / "run").advice
    assert first == 0
    assert second == kept.applied[0].options["num_workers"] > 0
    measured = load_profile(tmp_path / "run" / "applied").step.mean
    assert kept.applied[0].measured_ns == pytest.approx(measured)
    assert "measured" in (tmp_path / "run" / "report.html").read_text()


def test_an_option_is_set_without_an_edit(tmp_path):
    """--loader-option alone sets it for one run; one that cannot be set is wrong usage."""
    out = profile(tmp_path, "--json", "--loader-option", "num_workers=1")
    assert json.loads(out.stdout)["notes"]["loader.num_workers"] == 1
    assert (tmp_path / "said").read_text() == "1\n"
    assert profile(tmp_path, "--loader-option", "batch_size=1").returncode == 2
