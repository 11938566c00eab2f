"""Secrets leave no text that was masked; what is harmless stays."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.storage import mask
from datapipe.storage.masking import mask_values, secrets_in

SECRETS = st.text(string.ascii_letters + string.digits + "/+=-_", min_size=8, max_size=40).filter(
    lambda s: s[0].isalnum() and s[-1].isalnum()
)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("s3://AKIA:sec/ret@bucket/x", "s3://***@bucket/x"),
        ("ftp://user:pw@host/x and sftp://u2:pw2@h2/y", "ftp://***@host/x and sftp://***@h2/y"),
        ("https://h/a?X-Amz-Signature=ab12&id=3", "https://h/a?X-Amz-Signature=***&id=3"),
        ("https://h/a?x=1&sig=a%2Bb%3D&se=2", "https://h/a?x=1&sig=***&se=2"),
        ("https://h/a?%73ig=abc", "https://h/a?%73ig=***"),
        ("{'key': 'AB', 'secret': 'cd', 'anon': False}", "{'key': '***', 'secret': '***', 'anon': False}"),
        ('{"aws_secret_access_key": "a b"}', '{"aws_secret_access_key": "***"}'),
        ("secret=abc token: 5", "secret=*** token: 5"),
        ("Authorization: Bearer abcdefgh123", "Authorization: ***"),
        ("s3://AKIA:p@ss@bucket/x", "s3://***@bucket/x"),
        ("s3://AKIA:pa/s@rd@bucket/x", "s3://***@bucket/x"),
        ("https://user:p@a@h:1/x@y", "https://***@h:1/x@y"),
        ("https://h/x#token=abc", "https://h/x#token=***"),
        ("aws_secret_access_key = abc/d+e=", "aws_secret_access_key = ***"),
        ("password: hunter2, user: me", "password: ***, user: me"),
        ("datapipe --token abc123 input", "datapipe --token *** input"),
        ("--token=abc123 input", "--token=*** input"),
        ("token=-abc --secret --verbose", "token=*** --secret --verbose"),
        ("pwd=abc;x", "pwd=***;x"),
        ("passphrase=abc", "passphrase=***"),
        ("failed with AKIAIOSFODNN7EXAMPLE here", "failed with *** here"),
    ],
)
def test_secrets(text, masked):
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "hf://datasets/user/repo@main/data.parquet", "s3://bucket/year=2024/part-0.parquet", "/home/a@b/c.txt",
        "n_tokens=4096 tokenizer=gpt2", "https://h:8080/x?format=json&page=2", "read 5 keys",
        "missing key: 'text'", "--tokenizer gpt2 --tokens 5", "cwd=/home token: 5", "https://h/x#part=2",
    ],
)  # fmt: skip
def test_what_is_harmless_stays(text):
    assert mask(text) == text


@given(SECRETS, st.sampled_from(["sig", "token", "X-Amz-Security-Token", "api_key", "password", "AWSAccessKeyId"]))
def test_query_values_are_gone(secret, name):
    masked = mask(f"GET https://host/a/b?part=1&{name}={secret} failed")
    assert masked == f"GET https://host/a/b?part=1&{name}=*** failed"


@given(SECRETS.map(lambda s: s.replace("/", "")), SECRETS)
def test_users_are_gone(user, password):
    assert mask(f"s3://{user}:{password}@bucket/x") == "s3://***@bucket/x"


@given(st.text())
def test_masking_twice_is_masking_once(text):
    assert mask(mask(text)) == mask(text)


@given(SECRETS, SECRETS, st.text())
def test_option_values_are_gone_wherever_they_stand(key, nested, text):
    """Values of secret options are hidden literally, quoted or not, whatever surrounds them."""
    from urllib.parse import quote

    options = {"key": key, "anon": False, "client_kwargs": {"aws_session_token": nested, "endpoint_url": "http://h"}}
    masked = mask_values(f"{text} {key} {quote(nested, safe='')} {nested} http://h", secrets_in(options))
    if "*" not in key + nested:
        assert key not in masked.replace("http://h", "") or key in text
        assert f" {nested} " not in masked
    assert "http://h" in masked or "http://h" in (key, nested)


def test_harmless_options_are_no_secrets():
    assert secrets_in({"anon": True, "endpoint_url": "http://h", "region_name": "us-east-1", "block_size": 5}) == ()
