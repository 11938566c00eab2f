"""The exception tree."""

import inspect
import pickle

import pytest

from datapipe import errors


class Unreadable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


KINDS = [k for _, k in inspect.getmembers(errors, inspect.isclass) if issubclass(k, Exception)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_in_the_tree_and_in_its_drawing(kind):
    assert issubclass(kind, errors.DatapipeError)
    assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_a_process_boundary(kind):
    """A worker's error arrives whole: what was got, expected, what to do, and the notes."""
    error = kind("got this", expected="that", fix="do so")
    error.add_note("shard 3")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == "got this\n  expected: that\n  to do: do so"
    assert back.__notes__ == ["shard 3"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (ValueError("half \udcff"), "ValueError: half \\udcff"),
        (Unreadable(), "Unreadable: (its message cannot be read)"),
        (ValueError("z" * 10_000_000), "ValueError: " + "z" * (errors.MOST_WORDS - 12)),
    ],
)
def test_anybodys_error_in_words(error, said):
    """Whatever it says can be stored and shown."""
    assert errors.in_words(error) == said
    said.encode()
