from __future__ import annotations

import getpass
import json
import os
import socket

import pytest

from datapipe.profiling.environment import describe_environment, plain_facts, plain_text


def test_no_user_host_or_variable_is_in_it(monkeypatch):
    monkeypatch.setenv("SOME_SECRET_VALUE", "hunter2hunter2")
    text = json.dumps(describe_environment())
    assert "hunter2" not in text
    assert socket.gethostname() not in text
    assert os.path.expanduser("~") not in text  # noqa: PTH111  (compared as text)
    if getpass.getuser() not in ("", "linux"):
        assert getpass.getuser() not in text
    assert json.loads(text)["cpus"] == os.cpu_count()


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("s3://key:secret@bucket/x", "s3://***@bucket/x"),
        ("https://host/p?X-Amz-Signature=abc&y=1", "https://host/p?***"),
        ("plain words", "plain words"),
        ("bad \ud800 surrogate", "bad ? surrogate"),
        ("x" * 600, "x" * 499 + "…"),
    ],
)
def test_texts_are_made_fit_to_publish(text, plain):
    assert plain_text(text) == plain


def test_the_home_folder_is_not_named(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert plain_text("/home/somebody/data") == "~/data"


def test_notes_become_flat_facts():
    facts = plain_facts({"lr": 0.1, "n": 3, "ok": True, "none": None, "nan": float("nan"), "list": [1, 2],
                         "hf_token": "abc", "path": "s3://k:s@b/c"})  # fmt: skip
    assert facts == {"lr": 0.1, "n": 3, "ok": True, "none": None, "nan": "nan", "list": "[1, 2]",
                     "hf_token": "***", "path": "s3://***@b/c"}  # fmt: skip
