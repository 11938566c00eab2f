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


def test_run_again_it_goes_on(datapipe, docs, ran):
    """What is preprocessed is not preprocessed again; the story is told to its end."""
    out, _ = ran
    again = datapipe("demo", "--input", docs, "--out", out, "--steps", "12")
    assert again.code == 0, again.err
    assert "nothing left to do" in again.out
    for part in ("1/5", "5/5", "the same", "report.html", "datapipe preprocess"):
        assert part in again.out


def test_wrong_usage(datapipe):
    assert datapipe("demo", "--device", "abacus").code == 2
    assert datapipe("demo", "--steps", "1").code == 2


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
