"""The README is true: its commands exist, its options parse, its Python runs, its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from datapipe.cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)
    for kind, block in BLOCKS
    if kind != "python"
    for line in block.splitlines()
    if line.startswith("datapipe ")
]


def test_the_readme_shows_commands():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_parses(command):
    """Parsed by the real parser: a renamed command or option fails here (nothing is run)."""
    import typer

    group = typer.main.get_command(app)
    name, *rest = command[1:]
    assert name in group.commands, f"datapipe {name} does not exist"
    context = group.commands[name].make_context(name, list(rest), resilient_parsing=False)
    assert context.params


@pytest.mark.parametrize("name", re.search(r"Commands: `([^`]+)`", README).group(1).split())
def test_every_listed_command_has_help_with_an_example(name):
    out = CliRunner().invoke(app, [name, "--help"])
    assert out.exit_code == 0
    assert "xample" in out.output
    assert "--json" in out.output


def test_no_command_is_left_out_of_the_readme():
    import typer

    listed = set(re.search(r"Commands: `([^`]+)`", README).group(1).split())
    assert set(typer.main.get_command(app).commands) == listed


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_every_link_leads_somewhere(target):
    assert (ROOT / target).exists()


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (\w[\w-]*)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target} does not exist"


def test_the_recipe_and_the_step_of_ones_own_run(tmp_path):
    """The YAML block with the function beside it, word for word: it runs, and the function's rows are counted."""
    import datapipe

    (recipe,) = [block for kind, block in BLOCKS if kind == "yaml" and "no_drafts" in block]
    (function,) = [block for kind, block in BLOCKS if kind == "python" and "def no_drafts" in block]
    (tmp_path / "mine.yaml").write_text(recipe)
    (tmp_path / "my_steps.py").write_text(function)
    docs = tmp_path / "docs"
    docs.mkdir()
    for i in range(30):
        words = " ".join(f"word{(i * 37 + k * k) % 101}" for k in range(60))
        (docs / f"{i}.txt").write_text(f"{'DRAFT ' if i < 4 else ''}the text of {words} and that is it, to be sure.")
    overrides = {"vocabulary.size": 300, "pack.seq_len": 32, "gopher_quality.max_non_alpha_words_ratio": 0.5}
    summary = datapipe.preprocess(docs, tmp_path / "out", tmp_path / "mine.yaml", workers=0, overrides=overrides)
    assert summary.dropped == {"no_drafts": 4}


def test_every_recipe_of_the_table_is_shipped():
    """And no shipped one is left out."""
    from datapipe.preprocess import shipped_recipes

    table = README[README.index("| recipe |") :].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(shipped_recipes())


def test_windows_of_sounds_are_a_step_to_add(tmp_path):
    """The shipped recipe has the line, as a comment until somebody wants it, where a run takes it."""
    from datapipe.preprocess import load_recipe
    from datapipe.preprocess.step_order import check_order

    (line,) = [each for each in README.splitlines() if each.startswith("| `audio` |")]
    assert "once the step `audio_windows` is added to the recipe" in line
    assert "audio_windows" not in [step.name for step in load_recipe("audio").steps]
    text = (ROOT / "datapipe" / "preprocess" / "recipes" / "audio.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("# - audio_windows", "- audio_windows"))
    mine = load_recipe(tmp_path / "mine.yaml")
    assert mine.steps[-1].name == "audio_windows"
    assert "audio" in check_order(mine)


def test_the_training_loop_runs(tmp_path, monkeypatch):
    """The Python block, word for word, on a dataset called corpus."""
    import torch

    import datapipe

    docs = tmp_path / "docs"
    docs.mkdir()
    for i in range(80):
        (docs / f"{i}.txt").write_text(
            f"document {i}: " + "the words of this text have been put to good use and that is it. " * 20
        )
    datapipe.preprocess(
        [str(docs)], str(tmp_path / "corpus"), workers=0, overrides={"vocabulary.size": 300, "pack.seq_len": 32}
    )
    monkeypatch.chdir(tmp_path)
    weight = torch.nn.Parameter(torch.ones(()))
    saved = []
    names = {
        "model": lambda tokens: weight * tokens.float().mean(),
        "optimizer": torch.optim.SGD([weight], lr=1e-6),
        "save": lambda model, state: saved.append(state),
        "step_is_due": lambda: True,
    }
    (code,) = [block for kind, block in BLOCKS if kind == "python" and "datapipe.profile(" in block]
    exec(code, names)
    assert len(saved) == len(names["loader"]) > 0
    assert [(s["epoch"], s["position"]) for s in saved[-2:]] == [(0, len(saved) - 1), (1, 0)]
    assert (tmp_path / "runs" / "a" / "report.html").is_file()


def test_the_training_file_trains(tmp_path, monkeypatch):
    """The YAML block, but for its size, on datasets of the names it has."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.chdir(tmp_path)
    (run,) = [block for kind, block in BLOCKS if kind == "yaml" and "model:" in block]
    (tmp_path / "run.yaml").write_text(run)
    for name in ("corpus", "corpus-valid"):
        (tmp_path / name).mkdir()
        tokens = pa.array(np.arange(64 * 16) % 50, pa.uint16())
        columns = {"tokens": tokens, "segment_ids": pa.array(np.ones(64 * 16), pa.uint16())}
        rows = {column: pa.FixedSizeListArray.from_arrays(values, 16) for column, values in columns.items()}
        pq.write_table(pa.table(rows), tmp_path / name / "a.parquet")
    small = {"train.steps": 6, "train.eval_every": 2, "model.layers": 1, "model.width": 16, "model.vocab_size": 64}
    options = [part for name, value in small.items() for part in ("--set", f"{name}={value}")]
    done = CliRunner().invoke(app, ["train", "run.yaml", *options, "--json"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "runs" / "gpt" / "metrics.jsonl").is_file()


def test_the_shaped_loader_runs(tmp_path, monkeypatch):
    """The Python block of filters, cache, mix and packing, word for word, on folders of Parquet called web and code."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    import datapipe

    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for name in ("web", "code"):
        (tmp_path / name).mkdir()
        tokens = [draw.integers(1, 999, size) for size in draw.integers(50, 900, 600)]
        table = pa.table(
            {
                "tokens": pa.array(tokens, pa.list_(pa.uint16())),
                "n_tokens": pa.array([len(row) for row in tokens], pa.int32()),
                "lang": pa.array(["en", "de", "en"] * 200),
                "score": pa.array(draw.random(600)),
            }
        )
        pq.write_table(table, tmp_path / name / "part.parquet", row_group_size=100)
    (code,) = [block for kind, block in BLOCKS if kind == "python" and "datapipe.mix(" in block]
    names = {"datapipe": datapipe}
    exec(code, names)
    assert names["batch"]["tokens"].shape == (8, 2048)
    assert 0 < len(names["web"]) < 300 < len(names["code"])
    assert names["loader"].stats()["cache"]["misses"] > 0
    names["loader"].close()


def block(kind, word):
    """The one block of a kind that holds a word."""
    (found,) = [text for given, text in BLOCKS if given == kind and word in text]
    return found


def test_the_pictures_reach_the_loop(tmp_path, monkeypatch):
    """The command and the Python block, word for word, on a folder of pictures called photos."""
    import numpy as np

    import datapipe

    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for i in range(34):
        folder = tmp_path / "photos" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(draw.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    datapipe.preprocess("photos/", "dataset", "images", workers=0)
    names = {"datapipe": datapipe}
    exec(block("python", "datapipe.Images("), names)
    assert names["pixels"].shape == (32, 3, 224, 224)
    assert names["batch"]["label_share"].shape == (32,)
    names["loader"].close()


def test_the_sounds_reach_the_loop(tmp_path, monkeypatch):
    """The command and the Python block, word for word, on a folder of sounds called sounds."""
    import numpy as np

    import datapipe

    soundfile = pytest.importorskip("soundfile")
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for i in range(18):
        folder = tmp_path / "sounds" / ("high", "low")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{i}.wav", 0.3 * draw.standard_normal((8000 + 400 * i, 2)), 8000)
    line = next(line for line in block("", "--recipe audio").splitlines() if "--recipe audio" in line)
    options = shlex.split(line)[shlex.split(line).index("--recipe") + 2 :]
    overrides = {
        name: yaml.safe_load(value) for name, value in (part.split("=") for part in options if part != "--set")
    }
    datapipe.preprocess("sounds/", "sounds-ds", "audio", workers=0, overrides=overrides)
    names = {"datapipe": datapipe}
    exec(block("python", "datapipe.Sounds("), names)
    mel, lengths = names["batch"]["mel"], names["batch"]["mel_lengths"]
    assert mel.shape == (16, int(lengths.max()), 80)
    names["loader"].close()


def test_the_recipe_of_a_table_is_measured_on_its_training_part(tmp_path, monkeypatch):
    """The YAML block, word for word; then the two expressions below it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    import datapipe

    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.yaml").write_text(block("yaml", "name: clicks"))
    (tmp_path / "sites.csv").write_text("site,topic\n" + "".join(f"s{i},t{i % 3}\n" for i in range(40)))
    (tmp_path / "clicks").mkdir()
    rows = [
        {"site": f"s{i % 50}", "i0": i % 17, "i1": i % 5, "c0": f"c{i % 4}", "click": i % 9 == 0} for i in range(600)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "clicks" / "a.parquet")
    made = datapipe.preprocess("clicks/", "dataset", "table.yaml", workers=0)
    assert made.documents_out == 600
    train = datapipe.encode(datapipe.open_dataset("dataset", filters=[("split", "==", "train")]))
    measured = train.manifest.statistics
    scale, vocabulary = measured["normalise"]["columns"]["i1"], measured["categories"]["columns"]["c0"]
    told = sum(vocabulary["counts"]) + vocabulary["other"] + vocabulary["nulls"]
    assert scale["count"] == told == len(train) < 600
    shares = datapipe.balance(train, "click", 0.5, most_repeats=4)
    loader = datapipe.DataLoader(shares, 32, num_threads=1)
    batch = next(iter(loader))
    assert abs(float(batch["i1"].mean())) < 2
    assert {"i0", "c0", "topic"} <= set(batch)
    loader.close()
