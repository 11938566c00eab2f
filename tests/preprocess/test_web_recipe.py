"""The recipe `web`: pages go in, every page is accounted for, and what comes out is their prose."""

from __future__ import annotations

import json
import random

import pytest

import datapipe
from datapipe.preprocess import load_recipe

NOUNS = """
    bridge river orchard library harbour meadow station market forest castle keeper winter stone letter garden window
    morning people mountain village teacher doctor kitchen island summer engine railway captain journey history paper
    question answer colour music building country evening farmer field finger flower friend glass horse machine
"""
VERBS = """
    carried watched painted counted followed repaired remembered crossed described opened closed found brought kept
    answered wanted helped visited measured finished changed learned reached studied offered promised forgot
"""
JOINTS = "of with near and for from after before under like"
PLAIN = "old new quiet green early heavy narrow distant broken small bright empty careful sudden gentle"


def prose(number, paragraphs=6):
    """English words in sentences; no two numbers have many word 5-grams in common."""
    draw = random.Random(number)

    def one(words):
        return draw.choice(words.split())

    def sentence():
        words = ["The", one(PLAIN), one(NOUNS), one(VERBS)]
        for _ in range(draw.randrange(2, 6)):
            words += [one(JOINTS), "the", one(PLAIN), one(NOUNS)]
        return " ".join([*words, "that they have", one(VERBS)]) + "."

    return [" ".join(sentence() for _ in range(5)) for _ in range(paragraphs)]


def page(paragraphs, title="A story"):
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return (
        f"<html><head><title>{title}</title><script>var x = {{}};</script></head><body>"
        "<nav><ul><li><a href='/'>Home</a></li><li><a href='/about'>About</a></li></ul></nav>"
        f"<main><h1>{title}</h1>{body}</main><footer>This site uses cookies.</footer></body></html>"
    )


GERMAN = (
    "Die alte Brücke über den Fluss wurde im Jahre 1874 gebaut und ist seitdem für alle Wagen gesperrt. Niemand in der "
    "Stadt weiß noch genau, warum das so beschlossen wurde, und der Rat hat die Akten darüber längst verloren."
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The recipe over a folder of pages, one of each kind of trouble among them."""
    folder = tmp_path_factory.mktemp("pages")
    for number in range(40):
        (folder / f"good{number:02}.html").write_text(page(prose(number)), encoding="utf-8")
    (folder / "plain.txt").write_text("\n\n".join(prose(100)), encoding="utf-8")
    (folder / "twice.html").write_text(page(prose(3)), encoding="utf-8")
    near = prose(5)
    near[-1] += " This was added to the end of it later."
    (folder / "near.html").write_text(page(near), encoding="utf-8")
    (folder / "german.html").write_text(page([GERMAN]), encoding="utf-8")
    (folder / "short.html").write_text(page(["The end of the story was not told."]), encoding="utf-8")
    (folder / "empty.html").write_text("<html><body><script>1</script></body></html>", encoding="utf-8")
    mail = prose(200)
    mail[2] += " They wrote to keeper@example.org about it, and to keeper@example.org again."
    (folder / "mail.html").write_text(page(mail), encoding="utf-8")
    (folder / "mojibake.html").write_text(
        page([*prose(300), "The cafÃ© of the old library was closed in the winter and the people left it."]), "utf-8"
    )
    attributes = "".join(f" a{i}=b" for i in range(60_000))
    (folder / "hostile.html").write_text(f"<p{attributes}>x</p>", encoding="utf-8")
    out = tmp_path_factory.mktemp("out") / "set"
    overrides = {"vocabulary.size": 400, "pack.seq_len": 128, "html_to_text.time_limit_s": 0.5}
    return datapipe.preprocess(folder, out, "web", workers=0, overrides=overrides), out


def test_every_page_is_accounted_for(ran):
    """In = out + dropped + duplicates + quarantined, and each kind of trouble has its own reason."""
    summary, _ = ran
    assert summary.documents_in == 49
    assert summary.quarantined == {"html_timeout": 1}
    assert summary.dropped["html_empty"] == 1
    assert summary.dropped["language_not_kept"] == 1
    assert sum(summary.dropped.values()) == 3  # the short page too, by the first rule that it breaks
    assert summary.duplicates == 2
    assert summary.documents_out == 49 - 1 - 3 - 2


def test_rejects_show_what_the_rule_saw(ran):
    """The text of a page, not its source; of a page without any, the source."""
    _, out = ran

    def excerpt(reason):
        return json.loads((out / "rejects" / f"{reason}.jsonl").read_text(encoding="utf-8"))["excerpt"]

    assert "Die alte Brücke" in excerpt("language_not_kept")
    assert "<" not in excerpt("language_not_kept")
    assert excerpt("html_empty").startswith("<html>")


def test_what_comes_out_is_prose(ran):
    """No markup, menu, cookie line, address or mojibake reaches the tokens."""
    from tokenizers import Tokenizer

    _, out = ran
    dataset = datapipe.open_dataset(out)
    tokenizer = Tokenizer.from_file(str(out / dataset.manifest.vocabulary.path))
    rows = dataset.take(range(dataset.num_rows))["tokens"].to_pylist()
    text = tokenizer.decode([token for row in rows for token in row])
    for never in ("<p>", "Home", "uses cookies", "keeper@example", "cafÃ", "Brücke", "var x"):
        assert never not in text
    for once in ("café of the old library", "<EMAIL_1> about it, and to <EMAIL_1> again", "added to the end"):
        assert text.count(once) == 1


def test_the_recipe_needs_nothing_of_its_user():
    """Its options are all set or have defaults, and its steps are those of a crawl."""
    recipe = load_recipe("web")
    names = [step.name for step in recipe.steps]
    assert names.index("html_to_text") < names.index("unicode") < names.index("language") < names.index("pii")
    assert {"gopher_quality@datatrove", "gopher_repetition@datatrove", "c4@datatrove", "fineweb@datatrove"} <= set(
        names
    )
