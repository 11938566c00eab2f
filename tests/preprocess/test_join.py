"""The step join: knowledge from other files, in memory and on disk, with every row accounted for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datapipe
from datapipe.dataset import open_dataset, verify_dataset
from datapipe.errors import ConfigError, SchemaError, StepError
from datapipe.preprocess.explaining import explain

ROWS = 300
USERS = 200


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Clicks of users, some of whom nobody knows, in three files; and what is known, in two unlike orders."""
    root = tmp_path_factory.mktemp("join")
    (root / "clicks").mkdir()
    for number in range(3):
        lines = [f"{i * 7 % 257 if i % 50 else ''},{number * ROWS + i}" for i in range(ROWS)]
        (root / "clicks" / f"{number}.csv").write_text("user,click\n" + "\n".join(lines) + "\n")
    (root / "users").mkdir()
    for number, ids in enumerate((range(0, USERS, 2), range(1, USERS, 2))):
        known = {"id": list(ids), "age": [20 + i % 50 for i in ids], "country": [f"c{i % 7}" for i in ids]}
        pq.write_table(pa.table(known), root / "users" / f"{number}.parquet")
    return root


@pytest.fixture(autouse=True)
def _several_ranges(monkeypatch):
    """Small files are cut into ranges too, some of them empty on one side."""
    monkeypatch.setattr("datapipe.preprocess.passes.join_pass.RANGE_BYTES", 1000)


def recipe(root, **options):
    join = {"files": [str(root / "users")], "key": {"user": "id"}, "columns": ["age", "country"], **options}
    return {
        "name": "clicks",
        "input": {"text_column": None, "columns": ["*"]},
        "steps": [{"exact_duplicates": {"columns": ["*"]}}, {"join": join}],
        "output": {"split_bytes": 2000},
    }


def run(root, output, workers=0, **options):
    return datapipe.preprocess(str(root / "clicks"), output, recipe=recipe(root, **options), workers=workers)


def table_of(output):
    dataset = open_dataset(str(output))
    return dataset.take(list(range(len(dataset))))


def test_on_disk_is_in_memory(corpus, tmp_path):
    """Both ways give the same rows and accounts; a row without a record is kept with nulls, and counted."""
    small = run(corpus, tmp_path / "small")
    large = run(corpus, tmp_path / "large", broadcast_bytes=0)
    assert len(large.stages) > len(small.stages)
    mine, theirs = table_of(tmp_path / "small"), table_of(tmp_path / "large")
    assert mine.equals(theirs)
    expected = [
        (20 + int(user) % 50, f"c{int(user) % 7}") if user and int(user) < USERS else (None, None)
        for user in mine["user"].to_pylist()
    ]
    assert list(zip(mine["age"].to_pylist(), mine["country"].to_pylist(), strict=True)) == expected
    missed = sum(pair == (None, None) for pair in expected)
    for summary in (small, large):
        assert summary.counters["join.unmatched"] == missed
        assert summary.counters["join.null_key"] == 3 * ROWS // 50
        assert summary.documents_in == summary.documents_out == 3 * ROWS
    assert verify_dataset(str(tmp_path / "large")).ok
    for output in ("small", "large"):
        said = {step.step: step for step in explain(str(tmp_path / output), "clicks/0.csv:1").steps}
        assert said["join"].signals == {"join.unmatched": 0, "join.null_key": 0}
        unmatched = {step.step: step for step in explain(str(tmp_path / output), "clicks/0.csv:0").steps}
        assert unmatched["join"].signals == {"join.unmatched": 1, "join.null_key": 1}
        assert "counted: join.unmatched 1, join.null_key 1" in str(explain(str(tmp_path / output), "clicks/0.csv:0"))


def test_what_becomes_of_rows_without_a_record(corpus, tmp_path):
    """Dropped and quarantined rows have their reason in the ledger, and explain names it."""
    dropped = run(corpus, tmp_path / "a", unmatched="drop", broadcast_bytes=0)
    quarantined = run(corpus, tmp_path / "b", unmatched="quarantine")
    n = dropped.counters["join.unmatched"]
    assert dropped.dropped == {"join_unmatched": n}
    assert quarantined.quarantined == {"join_unmatched": n}
    assert dropped.documents_out == quarantined.documents_out == 3 * ROWS - n
    assert table_of(tmp_path / "a")["age"].null_count == 0
    assert explain(str(tmp_path / "a"), "clicks/0.csv:0").reason == "join_unmatched"


@pytest.mark.slow
def test_killed_until_it_ends(corpus, tmp_path, tools):
    """By SIGKILL at every 9th write, through cutting, matching and attaching: the same bytes in the end."""
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe(corpus, broadcast_bytes=0, unmatched="drop")))
    run(corpus, tmp_path / "whole", broadcast_bytes=0, unmatched="drop")
    program = Path(__file__).parent / "killed.py"
    deaths = 0
    while True:
        arguments = [corpus / "clicks", tmp_path / "out", 0, "before:9", "{}", path]
        done = subprocess.run([sys.executable, str(program), *map(str, arguments)], capture_output=True, timeout=120)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        if done.returncode == 0:
            break
        deaths += 1
        assert deaths < 60
    assert deaths > 3
    assert tools.published(tmp_path / "out") == tools.published(tmp_path / "whole")


@pytest.mark.slow
def test_in_worker_processes(corpus, tmp_path, tools):
    """Two processes publish the same bytes as one."""
    run(corpus, tmp_path / "one", broadcast_bytes=0)
    run(corpus, tmp_path / "two", workers=2, broadcast_bytes=0)
    assert tools.published(tmp_path / "two") == tools.published(tmp_path / "one")


class Died(BaseException):
    """What nothing catches."""


def test_a_death_at_any_write(corpus, tmp_path, tools, monkeypatch):
    """A run that dies at every 12th file goes on where it was, and publishes the same bytes."""
    from datapipe.storage.local import LocalStore

    run(corpus, tmp_path / "whole", broadcast_bytes=0)
    real, left = LocalStore.put_file, [0]

    def mortal(self, *args):
        left[0] -= 1
        if left[0] <= 0:
            raise Died
        return real(self, *args)

    monkeypatch.setattr(LocalStore, "put_file", mortal)
    deaths, done = 0, False
    while not done:
        left[0] = 12
        try:
            run(corpus, tmp_path / "out", broadcast_bytes=0)
            done = True
        except (Died, StepError):  # a task wraps what it cannot name
            deaths += 1
            assert deaths < 40
    assert deaths
    monkeypatch.undo()
    assert tools.published(tmp_path / "out") == tools.published(tmp_path / "whole")


def test_again_with_other_content(corpus, tmp_path):
    """A run again does nothing; other content of the joined files joins anew, without reading the rows again."""
    for number in (0, 1):
        (tmp_path / "users").mkdir(exist_ok=True)
        data = (corpus / "users" / f"{number}.parquet").read_bytes()
        (tmp_path / "users" / f"{number}.parquet").write_bytes(data)
    options = {"files": [str(tmp_path / "users")], "broadcast_bytes": 0}
    run(corpus, tmp_path / "one", **options)
    assert run(corpus, tmp_path / "one", **options).tasks_run == 0
    older = pq.read_table(tmp_path / "users" / "0.parquet")
    newer = older.set_column(1, "age", pa.array([99] * older.num_rows))
    pq.write_table(newer, tmp_path / "users" / "0.parquet")
    again = run(corpus, tmp_path / "one", **options)
    assert again.tasks_run > 0
    assert again.tasks_reused  # the rows were not read again
    assert {99} < set(table_of(tmp_path / "one")["age"].to_pylist())


@pytest.mark.parametrize("broadcast", [0, 1 << 20])
def test_of_several_records_the_one_that_was_asked_for(tmp_path, broadcast, monkeypatch):
    """A key twice is an error that names it; or the first, the last or the newest counts, across files."""
    monkeypatch.setattr("datapipe.preprocess.passes.join_pass.RANGE_BYTES", 20)  # most ranges are empty
    (tmp_path / "clicks").mkdir()
    (tmp_path / "clicks" / "a.jsonl").write_text('{"user": "u1"}\n{"user": "u2"}\n{"user": null}\n')
    (tmp_path / "a.csv").write_text("user,town,seen\nu1,Bonn,2024-01-05\nu2,Rome,2024-01-01\nu1,Oslo,2024-03-01\n")
    (tmp_path / "b.csv").write_text("user,town,seen\nu1,Nice,2023-12-31\n,Nowhere,2025-01-01\n")
    options = {"files": [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")], "key": "user",
               "columns": {"home": "town"}, "broadcast_bytes": broadcast}  # fmt: skip

    def homes(**more):
        run(tmp_path, tmp_path / "out", **options, **more)
        return table_of(tmp_path / "out")["home"].to_pylist()

    if broadcast:
        assert homes(duplicates="first") == ["Bonn", "Rome", None]
        assert homes(duplicates="last") == ["Nice", "Rome", None]
    else:
        assert homes(duplicates="newest", newest_by="seen") == ["Oslo", "Rome", None]
    with pytest.raises(StepError, match=r"'u1' comes 3 times"):
        homes()


def test_a_misspelt_column_is_said_of_the_users_file(corpus, tmp_path):
    """While the run is planned: a worker has a copy that is named after its checksum."""
    from datapipe.preprocess.survey import plan_run

    with pytest.raises(ConfigError, match=r"users/0\.parquet has no column 'contry'") as caught:
        plan_run(str(corpus / "clicks"), tmp_path / "out", recipe(corpus, columns=["contry"]))
    assert (caught.value.expected, caught.value.fix) == ("one of id, age, country", "did you mean 'country'?")


def test_a_second_join_by_two_keys(corpus, tmp_path):
    """What one join gave is a key of the next; several columns are one key; a dataset is joined by its shards."""
    first = recipe(corpus, broadcast_bytes=0)
    run(corpus, tmp_path / "known", unmatched="drop")
    first["steps"].append(
        {"join": {"files": [str(tmp_path / "known")], "key": ["country", "click"], "columns": {"age_again": "age"}}}
    )
    with pytest.raises(ConfigError):
        datapipe.preprocess(str(corpus / "clicks"), tmp_path / "out", recipe=first, workers=0)
    first["steps"][-1]["join"]["key"] = {"country": "country", "click": "click"}
    first["steps"].append({"join": {**first["steps"][-1]["join"], "columns": {"age_once_more": "age"}}})
    first["steps"][-1]["join"]["broadcast_bytes"] = 0
    datapipe.preprocess(str(corpus / "clicks"), tmp_path / "out", recipe=first, workers=0)
    table = table_of(tmp_path / "out")
    assert table["age_again"].equals(table["age"])
    assert table["age_once_more"].equals(table["age"])
    assert "__joined" not in table.column_names


def test_what_cannot_be_joined(corpus, tmp_path):
    """Files that are not there, lack a column, or have other types; a name that is taken; keys that have no text."""
    for options, error, match in (
        ({"files": [str(tmp_path / "none.csv")]}, ConfigError, "there is no file"),
        ({"columns": ["nowhere"]}, ConfigError, "no column 'nowhere'"),
        ({"columns": {"click": "age"}}, ConfigError, "a column 'click' already"),
        ({"key": "nothing"}, Exception, "nothing"),
    ):
        with pytest.raises(error, match=match):
            run(corpus, tmp_path / "out", **{"broadcast_bytes": 0, **options})
    pq.write_table(pa.table({"id": [1.5], "age": [1], "country": ["x"]}), tmp_path / "float.parquet")
    pq.write_table(pa.table({"id": [1], "age": ["1"], "country": ["x"]}), tmp_path / "text.parquet")
    for broadcast, name, error, match in (
        (0, "float", ConfigError, "has type double"),
        (0, "text", SchemaError, "unlike types in 'age'"),
        (1 << 20, "text", SchemaError, "unlike types in 'age'"),
    ):
        files = [str(corpus / "users"), str(tmp_path / f"{name}.parquet")]
        with pytest.raises(error, match=match):
            run(corpus, tmp_path / "out", broadcast_bytes=broadcast, files=files)
    manifest = {"shards": [{"path": "../../etc/passwd"}]}
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match="within the dataset"):
        run(corpus, tmp_path / "out", files=[str(tmp_path / "evil")])
