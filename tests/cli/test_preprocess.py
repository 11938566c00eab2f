"""`datapipe preprocess` as it is typed."""

import pytest

SMALL = ["--set", "vocabulary.size=300", "--set", "pack.seq_len=64", "--workers", "0"]


def test_the_result_is_one_json_object_and_the_ledger_adds_up(small):
    folder, ran = small
    assert ran.code == 0, ran.err
    facts = ran.json
    assert facts["ok"]
    assert facts["documents_in"] == 62
    gone = sum(facts["dropped"].values()) + facts["duplicates"] + sum(facts["quarantined"].values())
    assert facts["documents_in"] == facts["documents_out"] + gone
    assert facts["duplicates"] == 1
    assert (folder / "manifest.json").is_file()


def test_run_again_it_finds_everything_done(datapipe, docs, small):
    from_first = small[1].json
    ran = datapipe("preprocess", docs, small[0], *SMALL)
    assert ran.code == 0, ran.err
    assert "0 tasks run" in ran.out
    assert from_first["fingerprint"] in ran.out


def test_a_dry_run_prints_the_plan_and_writes_nothing(datapipe, docs, tmp_path):
    ran = datapipe("preprocess", docs, tmp_path / "out", "--dry-run", "--sample", 0)
    assert ran.code == 0, ran.err
    assert "exact_duplicates" in ran.out
    assert "cost of" not in ran.out
    assert not (tmp_path / "out").exists()
    assert datapipe("preprocess", docs, tmp_path / "out", "--dry-run", "--json", "--sample", 0).json["plan"]


def test_a_dry_run_says_what_it_will_cost(datapipe, docs, tmp_path):
    """For the workers and documents that are asked about, from a sample; what a sample's steps print is no result."""
    many = ("--dry-run", "--workers", 10_000, "--documents", 10**9)
    (tmp_path / "own.py").write_text("def says(table):\n    print('said')\n    return table\n")
    (tmp_path / "own.yaml").write_text("steps: [decode, 'own.py:says', exact_duplicates]\n")
    ran = datapipe("preprocess", docs, tmp_path / "out", *many, "--recipe", tmp_path / "own.yaml")
    assert ran.code == 0, ran.err
    assert "cost of 1,000,000,000 documents" in ran.out
    assert "on 10,000 workers of one core" in ran.out
    assert "scheduler " in ran.out
    assert "said" not in ran.out
    cost = datapipe("preprocess", docs, tmp_path / "out", *many, "--json", "--recipe", tmp_path / "own.yaml").json[
        "cost"
    ]
    assert cost["tasks"] == sum(stage["tasks"] for stage in cost["stages"])
    assert cost["hours"] > 0
    few = ("--dry-run", "--workers", 48, "--recipe", tmp_path / "own.yaml")
    script = datapipe("preprocess", docs, tmp_path / "out", *few, "--deploy", "slurm").out
    assert "#SBATCH --ntasks=49" in script
    assert f"--tls-key tls.key {docs} {tmp_path / 'out'} --recipe {tmp_path / 'own.yaml'}\n" in script
    assert datapipe("preprocess", docs, tmp_path / "out", "--deploy", "slurm", refused=True).code == 2
    assert not (tmp_path / "out").exists()


def test_a_scheduler_elsewhere_wants_tls(datapipe, docs, tmp_path):
    """A plain one is refused before anything is read, by exit code 2, and options of none are too."""
    ran = datapipe("preprocess", docs, tmp_path / "out", "--scheduler", "tcp://10.0.0.1:8786", refused=True)
    assert ran.code == 2
    assert "--insecure" in ran.err
    assert not (tmp_path / "out").exists()
    ran = datapipe("preprocess", docs, tmp_path / "out", "--insecure", refused=True)
    assert ran.code == 2
    assert "--scheduler" in ran.err


def test_a_dry_run_foretells_what_a_dataset_will_lose(datapipe, docs, small, tmp_path):
    """Files that are there and no input of the run: said before, as it would be after; nothing where it appends."""
    one = docs / "000.txt"
    ran = datapipe("preprocess", one, small[0], "--dry-run", "--sample", 0)
    assert ran.code == 0, ran.err
    assert "warning: 62 files (" in ran.out
    assert "made anew, the dataset is without their rows" in ran.out
    assert datapipe("preprocess", one, small[0], "--dry-run", "--json", "--sample", 0).json["warnings"]
    assert datapipe("preprocess", docs, small[0], "--dry-run", "--json", "--sample", 0).json["warnings"] == []


def test_one_path_is_wrong_usage(datapipe, docs):
    ran = datapipe("preprocess", docs, refused=True)
    assert ran.code == 2
    assert "INPUT... OUTPUT" in ran.err


def test_an_unknown_step_option_names_the_nearest(datapipe, docs, tmp_path):
    ran = datapipe("preprocess", docs, tmp_path / "out", "--set", "pack.seq_length=64", refused=True)
    assert ran.code == 2
    assert "seq_len" in ran.err
    assert not (tmp_path / "out").exists()


def test_a_recipe_with_an_unknown_step_names_line_and_step(datapipe, docs, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\nsteps:\n  - decode\n  - unicod\n")
    ran = datapipe("preprocess", docs, tmp_path / "out", "--recipe", recipe, refused=True)
    assert ran.code == 2
    assert "mine.yaml:4" in ran.err
    assert "unicode" in ran.err


def test_an_output_folder_that_holds_something_else_is_left_alone(datapipe, docs, tmp_path):
    (tmp_path / "thesis.doc").write_text("mine")
    ran = datapipe("preprocess", docs, tmp_path, "--workers", "0")
    assert ran.code == 1
    assert (tmp_path / "thesis.doc").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.doc"]


def test_an_empty_folder_says_what_to_do(datapipe, tmp_path):
    (tmp_path / "empty").mkdir()
    ran = datapipe("preprocess", tmp_path / "empty", tmp_path / "out", refused=True)
    assert ran.code == 1
    assert "empty" in ran.err
    assert "to do" in ran.err


@pytest.mark.parametrize("missing", ["absent", "absent/", "*.nothing"])
def test_an_input_that_is_not_there_is_wrong_usage(datapipe, tmp_path, missing):
    """Exit code 2, with the path, and nothing is written."""
    ran = datapipe("preprocess", tmp_path / missing, tmp_path / "out", refused=True)
    assert ran.code == 2
    assert str(tmp_path / missing) in ran.err
    assert not (tmp_path / "out").exists()


def test_what_packing_cost_is_told(datapipe, docs, tmp_path):
    """Padding, long documents and cuts: in words, and as the numbers that the shards add up to."""
    args = ("--workers", "0", "--set", "pack.seq_len=16", "--set", "vocabulary.size=300")
    told = datapipe("preprocess", docs, tmp_path / "a", *args)
    assert told.code == 0, told.err
    assert " of padding (" in told.out
    assert " times a document goes on in another row" in told.out
    summary = datapipe("preprocess", docs, tmp_path / "b", *args, "--json").json
    counters = summary["counters"]
    assert counters["pack.row_tokens"] == summary["rows"] * 16
    assert counters["pack.padding_tokens"] == summary["rows"] * 16 - summary["tokens"]
    assert counters["pack.cuts"] >= counters["pack.long_documents"] > 0


@pytest.mark.parametrize("workers", ["0", "1"])
def test_what_a_step_prints_is_no_result(datapipe, docs, tmp_path, workers):
    """It goes to standard error, from this process and from a worker: standard output stays one JSON object."""
    (tmp_path / "loud.py").write_text(
        "import os\n\n\ndef loud(table):\n    print('from Python', flush=True)\n"
        "    os.write(1, b'from C\\n')\n    return table\n"
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: loud\nsteps: [decode, 'loud.py:loud']\n")
    args = ("--recipe", recipe, "--workers", workers, "--json")
    ran = datapipe("preprocess", docs, tmp_path / "out", *args, fresh=True)
    assert ran.code == 0, ran.err
    assert ran.json["ok"]
    assert "from Python" in ran.err
    assert "from C" in ran.err
