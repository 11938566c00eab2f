"""The demo: the whole way on a small corpus, and the search for one."""

import os

import pytest

from datapipe.cli.demo.corpus import gather
from datapipe.errors import CorpusError


@pytest.fixture(scope="module")
def ran(datapipe, docs, tmp_path_factory):
    """`datapipe demo` on the small corpus: (out folder, result)."""
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, datapipe("demo", "--input", docs, "--out", out, "--steps", "12", "--json")


def test_the_demo_keeps_its_promises(ran):
    """The ledger adds up, the loss falls, the fresh process has the batches it should have had, a verdict is given."""
    out, result = ran
    assert result.code == 0, result.err
    facts = result.json
    made = facts["preprocess"]
    gone = sum(made["dropped"].values()) + made["duplicates"] + sum(made["quarantined"].values())
    assert made["documents_in"] == made["documents_out"] + gone == 62
    assert facts["train"]["last_loss"] < facts["train"]["first_loss"]
    assert facts["resumed_same"] is True
    assert facts["profile"]["verdict"]["sentence"]
    assert {p.name for p in (out / "profile").iterdir()} >= {"profile.json", "report.html", "trace.json.gz"}


def test_the_ledger_of_the_training_run_adds_up(ran):
    """On CPU the remainder is at most 0.5% of the wall."""
    profile = ran[1].json["profile"]
    assert abs(profile["remainder_ns"]) <= 0.005 * profile["wall_ns"]


@pytest.mark.slow
def test_run_again_it_goes_on(datapipe, docs, ran):
    """What is preprocessed is not preprocessed again; the story is told to its end."""
    out, _ = ran
    again = datapipe("demo", "--input", docs, "--out", out, "--steps", "10")
    assert again.code == 0, again.err
    assert "nothing left to do" in again.out
    for part in ("1/5", "5/5", "the same", "report.html", "datapipe preprocess"):
        assert part in again.out


def test_wrong_usage(datapipe):
    assert datapipe("demo", "--device", "abacus", refused=True).code == 2
    assert datapipe("demo", "--steps", "1", refused=True).code == 2


def test_a_corpus_is_gathered_from_known_kinds_alone(tmp_path):
    """Documentation and sources, no binaries, no links, no huge files; the same files a second time."""
    root = tmp_path / "share"
    root.mkdir()
    for i in range(30):
        (root / f"{i}.md").write_text("words of documentation " * 50)
    (root / "module.py").write_text("x = 1  # a source file\n" * 50)
    (root / "image.png").write_bytes(os.urandom(1000))
    (root / "huge.txt").write_bytes(b"x" * 2_000_000)
    (root / "link.md").symlink_to("/etc/passwd")
    found = gather(tmp_path / "out" / "corpus", roots=[root], target=20_000)
    names = {p.name for p in found.folder.rglob("*") if p.is_file()}
    assert "module.py" not in names or len(names) > 10
    assert not names & {"image.png", "huge.txt", "link.md"}
    assert found.bytes == sum(p.stat().st_size for p in found.folder.rglob("*") if p.is_file())
    (root / "new.md").write_text("later")
    again = gather(tmp_path / "out" / "corpus", roots=[root], target=20_000)
    assert (again.files, again.bytes) == (found.files, found.bytes)


def test_a_machine_without_text_says_what_to_do(tmp_path):
    with pytest.raises(CorpusError, match="--input"):
        gather(tmp_path / "corpus", roots=[tmp_path])


def test_a_folder_of_somebody_elses_is_left_alone(datapipe, docs, tmp_path):
    """The demo replaces what lies in its folder, so it takes only a new one or its own."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "thesis.txt").write_text("mine")
    ran = datapipe("demo", "--input", docs, "--out", tmp_path, refused=True)
    assert ran.code == 1
    assert "something else" in ran.err
    assert [p.name for p in tmp_path.iterdir()] == ["corpus"]
    assert (tmp_path / "corpus" / "thesis.txt").read_text() == "mine"


def test_credentials_in_an_input_are_not_repeated(datapipe, tmp_path):
    ran = datapipe("demo", "--input", "http://user:hunter2@127.0.0.1:1/x.txt", "--out", tmp_path / "out", refused=True)
    assert ran.code == 1
    assert "hunter2" not in ran.out + ran.err


@pytest.mark.slow
def test_ctrl_c_says_that_it_goes_on(docs, tmp_path):
    """Interrupted in the training, it leaves with 130 and one line; the next run starts from there."""
    import signal
    import subprocess
    import sys

    command = [sys.executable, "-m", "datapipe", "demo", "--input", str(docs), "--out", str(tmp_path / "o"), "--steps"]
    with subprocess.Popen([*command, "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        for line in running.stdout:
            if "step   20" in line:
                break
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "run the same command to go on" in err
    assert "Traceback" not in err
    done = subprocess.run([*command, "30"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "step    1 " not in done.stdout
