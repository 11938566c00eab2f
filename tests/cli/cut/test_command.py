"""`datapipe cut` on a small corpus."""

import json

import pytest

from datapipe.cli.cut.measuring import decoding
from datapipe.cli.cut.sample import Sample, first_movable, take_sample
from datapipe.errors import ConfigError
from datapipe.preprocess import load_recipe
from datapipe.steps import bind

RECIPE = """
name: small
steps: [decode, unicode, exact_duplicates, pii, {augment_text: {delete_rate: 0.1}}]
output: {row_group_rows: 64}
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    texts = [f"Write to person{i}@example.org or call, number {i}, about the lazy dog. " * 5 for i in range(300)]
    (folder / "in").mkdir()
    with (folder / "in" / "a.jsonl").open("w") as out:
        out.writelines(json.dumps({"text": text}) + "\n" for text in [*texts, *texts[:60]])
    (folder / "r.yaml").write_text(RECIPE)
    return folder


def test_steps_that_see_the_corpus_or_drop_rows_stay_ahead(corpus):
    """A row may be empty after unicode (dropped), duplicates are a matter of the corpus; what follows can move."""
    steps = load_recipe(corpus / "r.yaml").steps
    assert first_movable(steps) == 3
    assert first_movable(steps[:3]) == 3
    assert first_movable(()) == 0


def test_every_cut_is_priced_and_one_is_best(datapipe, corpus):
    """Three cuts of two steps that can move; duplicates are gone from the rows of the corpus."""
    line = ("--recipe", corpus / "r.yaml", "--epochs", 2, "--step-ms", 5, "--sample-rows", 360, "--json")
    ran = datapipe("cut", corpus / "in", *line)
    assert ran.code == 0, ran.err
    found = ran.json
    assert found["fixed"] == ["decode", "unicode", "exact_duplicates"]
    assert [one["cut"]["after"] for one in found["cuts"]] == ["", "pii", "augment_text"]
    assert [one["cut"]["online"] for one in found["cuts"]] == [["pii", "augment_text"], ["augment_text"], []]
    assert found["best"] in {"", "pii", "augment_text"}
    assert all(one["cut"]["rate"] > 0 and one["stored"] > 0 for one in found["cuts"])
    assert found["terms"]["rows"] == pytest.approx(300, rel=0.2)
    assert [step["name"] for step in found["steps"]] == ["pii", "augment_text"]


def test_a_recipe_whose_last_step_drops_rows_has_no_cut(corpus, tmp_path):
    """It says why; `pack` is the loader's own, and is not counted."""
    recipe = load_recipe({"name": "r", "steps": ["decode", "unicode"]})
    with pytest.raises(ConfigError, match="unicode"):
        take_sample([str(corpus / "in")], recipe, tmp_path, rows=100)


OWN = """
import pyarrow as pa
import pyarrow.compute as pc

def short(table: pa.Table, keys):
    return pc.less(pc.utf8_length(table["text"]), 345)

def loud(table: pa.Table, keys):
    return table.set_column(table.column_names.index("text"), "text", pc.utf8_upper(table["text"]))
"""


def test_a_step_of_ones_own_moves_if_it_dropped_nothing(corpus, tmp_path):
    """Of two, the one that drops rows of the sample stays ahead; the other can move."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "r.yaml").write_text("name: r\nsteps: [decode, own.py:short, own.py:loud]\n")
    sample = take_sample([str(corpus / "in")], load_recipe(tmp_path / "r.yaml"), tmp_path, rows=100)
    assert len(sample.fixed) == 2
    assert [step.name.rpartition(":")[2] for step in sample.movable] == ["loud"]
    assert 0 < sample.table.num_rows < 100


def test_pictures_are_made_smaller_ahead_or_not_at_all(datapipe, tmp_path):
    """Without the resize ahead the loader decodes what is there; it never resizes and encodes what it then decodes."""
    import io

    import numpy as np
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for n in range(70):
        out = io.BytesIO()
        noise = np.random.default_rng(n).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((160, 120)).save(out, "JPEG")
        (tmp_path / "photos" / f"{n}.jpg").write_bytes(out.getvalue())
    recipe = tmp_path / "photos.yaml"
    recipe.write_text(
        "input: {text_column: null, media: image}\n"
        "steps: [image_check, {image_resize: {shorter: 40}}, {image_pixels: {size: 32}}]\n"
    )
    told = datapipe("cut", tmp_path / "photos", "--recipe", recipe, "--sample-rows", 64, "--json").json
    cuts = [one["cut"] for one in told["cuts"]]
    assert told["fixed"] == ["image_check"]
    assert [cut["online"] for cut in cuts] == [["image_pixels"], ["image_pixels"], []]
    assert told["terms"]["rows"] == 70
    assert cuts[1]["stored"] < cuts[0]["stored"]


def test_decoding_counts_where_the_loader_does_it(tmp_path):
    """Rows of encoded pictures are decoded, to the size of the resize; texts and undecodable ones are not."""
    import io

    import pyarrow as pa
    from PIL import Image

    def sample(column, kind, value, *movable):
        table = pa.table({"row_id": ["a:0"], column: pa.array([value], kind)})
        return Sample(table=table, movable=movable, fixed=(), cost=0.1, rows=1, packed=False)

    out = io.BytesIO()
    Image.new("RGB", (40, 30)).save(out, "JPEG")
    resize, pixels = bind("image_resize", {"shorter": 16}), bind("image_pixels", {"size": 8})
    assert decoding(sample("image", pa.large_binary(), out.getvalue(), resize)).options.size == 16
    assert decoding(sample("image", pa.large_binary(), out.getvalue())).options.size == 224
    assert decoding(sample("image", pa.large_binary(), out.getvalue(), pixels)) is None
    assert decoding(sample("image", pa.large_binary(), b"no picture", resize)) is None
    assert decoding(sample("image", pa.large_string(), "a.jpg")) is None
    assert decoding(sample("text", pa.large_string(), "a")) is None
