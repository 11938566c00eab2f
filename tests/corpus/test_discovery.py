"""Discovery: names that do not depend on the place, everything accounted for, nothing twice."""

import os
import pickle
import random

import pytest

from datapipe.corpus import discover, format_of
from datapipe.errors import AccessError, ConfigError, CorpusError, StorageError
from datapipe.storage import open_store
from datapipe.storage.retry import Retry


def names(found):
    return [file.name for file in found.files]


@pytest.fixture
def tree(tmp_path):
    """A folder "data" with files of many kinds."""
    for name in (
        "a.jsonl", "b/c.jsonl.gz", "b/d.parquet", "b/e/README", "b/e/f.py", "g.md", "h.bin", "i.png", "b/.hidden.txt",
        ".git/config.txt", "LICENSE-MIT", "noext",
    ):  # fmt: skip
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "data"


def test_a_folder(tree):
    """All known files below a folder, called after it, sorted; the rest skipped, each with its reason."""
    found = discover(tree)
    assert [(file.name, file.format) for file in found.files] == [
        ("data/LICENSE-MIT", "text"), ("data/a.jsonl", "jsonl"), ("data/b/c.jsonl.gz", "jsonl"),
        ("data/b/d.parquet", "parquet"), ("data/b/e/README", "text"), ("data/b/e/f.py", "text"), ("data/g.md", "text"),
    ]  # fmt: skip
    assert found.skipped == (
        ("data/.git/config.txt", "hidden"), ("data/b/.hidden.txt", "hidden"), ("data/h.bin", "unknown_format"),
        ("data/i.png", "unknown_format"), ("data/noext", "unknown_format"),
    )  # fmt: skip
    assert found.skipped_counts == {"hidden": 2, "unknown_format": 3}
    assert found.bytes == sum(file.size for file in found.files)


def test_names_move_with_the_corpus(tree, tmp_path):
    """A corpus that is moved, or reached by another path, has the same names."""
    expected = names(discover(tree))
    (tmp_path / "far" / "away").mkdir(parents=True)
    tree.rename(tmp_path / "far" / "away" / "data")
    moved = tmp_path / "far" / "away" / "data"
    assert names(discover(f"{moved}/")) == expected
    assert names(discover(f"{moved}/../data/./")) == expected
    assert names(discover(f"file://{moved}")) == expected


def test_relative_inputs(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert names(discover(".")) == names(discover(str(tree)))
    assert names(discover("a.jsonl")) == ["a.jsonl"]
    assert names(discover("b/e/../c.jsonl.gz")) == ["c.jsonl.gz"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jsonl", ["data/a.jsonl"]),
        ("*", ["data/LICENSE-MIT", "data/a.jsonl", "data/b/c.jsonl.gz", "data/b/d.parquet", "data/b/e/README",
               "data/b/e/f.py", "data/g.md"]),
        ("**/*.py", ["data/b/e/f.py"]),
        ("**/*.jsonl*", ["data/a.jsonl", "data/b/c.jsonl.gz"]),
        ("b/**", ["b/c.jsonl.gz", "b/d.parquet", "b/e/README", "b/e/f.py"]),
        ("?/[cd].*", ["data/b/c.jsonl.gz", "data/b/d.parquet"]),
        ("b/[!c].*", ["b/d.parquet"]),
        ("*/e", ["data/b/e/README", "data/b/e/f.py"]),
        ("b/*/README", ["b/e/README"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("remote", [False, True])
def test_patterns(tree, pattern, expected, remote):
    """Patterns match as in a shell, here and on a remote store alike; names start at their fixed part."""
    top = str(tree)
    if remote:
        store = open_store("memory://patterns/data")
        for entry in open_store(top).list():
            store.put(entry.path, open_store(top).read(entry.path))
        top = "memory://patterns/data"
    assert names(discover(f"{top}/{pattern}")) == expected


def test_a_name_that_looks_like_a_pattern(tmp_path):
    (tmp_path / "a[1].txt").write_text("x")
    assert names(discover(str(tmp_path / "a[1].txt"))) == ["a[1].txt"]


def test_a_pattern_does_not_walk_what_it_cannot_match(tree, monkeypatch):
    """A pattern without ** lists only the folders of its own depth."""
    listed = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or real(path))
    discover(str(tree / "*.jsonl"))
    assert not any(str(path).endswith("/e") for path in listed)


def test_named_inputs(tree):
    """NAME=INPUT calls a file NAME, and what a folder or a pattern holds NAME/…."""
    assert names(discover(f"web={tree}/b")) == [
        "web/c.jsonl.gz", "web/d.parquet", "web/e/README", "web/e/f.py",
    ]  # fmt: skip
    assert names(discover(f"one={tree}/a.jsonl")) == ["one"]
    assert names(discover(f"p={tree}/*.md")) == ["p/g.md"]
    assert discover(f"one={tree}/a.jsonl").files[0].format == "jsonl"


def test_an_equals_sign_in_a_path(tmp_path, monkeypatch):
    """Folders called year=2024 are folders, not names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "year=2024").mkdir()
    (tmp_path / "year=2024" / "a.txt").write_text("x")
    for text in ("year=2024", "year=2024/a.txt", "year=*/a.txt", f"{tmp_path}/year=2024"):
        assert len(discover(text).files) == 1
    assert names(discover("year=2024")) == ["year=2024/a.txt"]


def test_the_same_file_is_taken_once(tree, tmp_path):
    """However many inputs lead to a file, and by whatever path or link, it is read once; the first names it."""
    (tree / "z-link.jsonl").symlink_to(tree / "a.jsonl")
    found = discover([str(tree / "a.jsonl"), tree, f"{tree}/*.jsonl", f"x={tree}"])
    assert names(found).count("a.jsonl") == 1
    assert not any(name.endswith(("data/a.jsonl", "link.jsonl")) for name in names(found))
    assert len(found.files) == 7


def test_two_files_of_one_name(tmp_path):
    """Row ids would mix: the message names both and the way out."""
    for folder in ("x", "y"):
        (tmp_path / folder / "data").mkdir(parents=True)
        (tmp_path / folder / "data" / "a.txt").write_text(folder)
    inputs = [str(tmp_path / "x" / "data"), str(tmp_path / "y" / "data")]
    with pytest.raises(ConfigError, match="NAME=") as caught:
        discover(inputs)
    assert all(text in str(caught.value) for text in inputs)
    assert names(discover([inputs[0], f"other={inputs[1]}"])) == ["data/a.txt", "other/a.txt"]


def test_the_order_of_the_file_system_does_not_show(tree, monkeypatch):
    expected = discover(tree)
    real = os.scandir

    class Shuffled:
        def __init__(self, path):
            with real(path) as found:
                self.items = list(found)
            random.shuffle(self.items)

        def __enter__(self):
            return iter(self.items)

        def __exit__(self, *args):
            pass

    monkeypatch.setattr(os, "scandir", Shuffled)
    assert discover(tree) == expected


def test_links(tree, tmp_path):
    """Loops end; links out of the folder are skipped and counted, or followed on request."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "o.txt").write_text("o")
    (tree / "out.txt").symlink_to(tmp_path / "other" / "o.txt")
    (tree / "b" / "up").symlink_to(tree)
    found = discover(tree)
    assert ("data/out.txt", "link_out_of_folder") in found.skipped
    assert ("data/b/up", "link_to_folder") in found.skipped
    followed = discover(tree, storage_options={"follow_symlinks": True})
    assert set(names(followed)) == {*names(found), "data/out.txt"}
    assert ("data/out.txt", "link_out_of_folder") in discover(f"{tree}/*").skipped


def test_only_links(tmp_path):
    """A folder of nothing but links says how to follow them."""
    (tmp_path / "data").mkdir()
    (tmp_path / "o.txt").write_text("o")
    (tmp_path / "data" / "l.txt").symlink_to(tmp_path / "o.txt")
    with pytest.raises(CorpusError, match="follow_symlinks"):
        discover(tmp_path / "data")
    with pytest.raises(CorpusError, match="follow_symlinks"):
        discover(f"{tmp_path}/data/*.txt")
    assert names(discover(tmp_path / "data" / "l.txt")) == ["l.txt"]


def test_a_forced_format(tree):
    """With a format every file is read as that, hidden ones still aside."""
    found = discover(tree, format="text")
    assert {file.format for file in found.files} == {"text"}
    assert "data/h.bin" in names(found)
    assert {reason for _, reason in found.skipped} == {"hidden"}
    with pytest.raises(ConfigError, match="warc"):
        discover(tree, format="warc")


@pytest.mark.parametrize("inputs", [[], "", "a\0b"])
def test_inputs_that_are_none(inputs):
    with pytest.raises(ConfigError):
        discover(inputs)


def test_nothing_to_read(tmp_path):
    """What, where, and what to do: for what is absent, empty, or of no known kind."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "x.bin").write_bytes(b"1")
    for text, match in [
        ("empty", "it is empty"),
        ("odd", "1 skipped: unknown_format"),
        ("odd/x.bin", "unknown_format"),
        ("none", "there is no"),
        ("none/*.txt", "nothing matches"),
        ("odd/*.txt", "nothing matches"),
    ]:
        with pytest.raises(CorpusError, match=match) as caught:
            discover(str(tmp_path / text))
        assert str(tmp_path / text) in str(caught.value)
        assert caught.value.fix
    with pytest.raises(CorpusError, match="there is no"):
        discover("memory://nowhere/at/all")
    for name, recipe in (("a.jpg", "images"), ("b.flac", "audio")):
        (tmp_path / recipe).mkdir()
        (tmp_path / recipe / name).write_bytes(b"1")
        with pytest.raises(CorpusError) as caught:
            discover(str(tmp_path / recipe))
        assert f"--recipe {recipe} for" in caught.value.fix


def test_file_names_that_are_no_unicode(tmp_path, reading):
    """A Latin-1 file name is spelled out in names and row ids, and its file is read."""
    (tmp_path / "data").mkdir()
    with open(os.fsencode(tmp_path / "data") + b"/caf\xe9.jsonl", "wb") as file:  # noqa: PTH123  (a name of bytes)
        file.write(b'{"text": "a"}\n')
    found = discover(tmp_path / "data")
    assert names(found) == ["data/caf\\xe9.jsonl"]
    rows, _, _ = reading(pickle.loads(pickle.dumps(found)).files)
    assert rows[0]["row_id"] == "data/caf\\xe9.jsonl:0"


def test_secrets_stay_out_of_names_and_messages():
    """A signed URL's query is in no name, no path, no message and no representation."""
    url = "https://127.0.0.1:9/data/a.txt?X-Amz-Signature=0123456789abcdef"
    with pytest.raises(Exception, match="127.0.0.1") as caught:
        discover(url)
    assert "0123456789abcdef" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", "jsonl"), ("a.JSONL", "jsonl"), ("a.ndjson.zst", "jsonl"), ("a.json.gz", "json"), ("a.csv", "csv"),
        ("a.tsv.gz", "tsv"), ("a.parquet", "parquet"), ("a.parquet.gz", None), ("a.feather", "arrow"),
        ("a.txt.gz", "text"), ("a.gz", None), (".jsonl", None), ("a.htm", "html"), ("README", "text"),
        ("readme", "text"), ("README.Debian", "text"), ("README.md", "text"), ("README.png", "image"),
        ("readme.gz", "text"),
        ("copyright", "text"), ("COPYING.LESSER", "text"), ("LICENSE-APACHE", "text"), ("LICENSES", None),
        ("Makefile", "text"), ("newsfeed", None), ("a", None), ("", None), ("x/y/changelog.gz", "text"),
        ("changelog.Debian.gz", "text"),
    ],
)  # fmt: skip
def test_formats(name, expected):
    assert format_of(name) == expected


def test_a_web_server(tree, reading):
    """A file by its URL, and a folder by its index page, from a server that knows neither ranges nor ETags."""
    import functools
    import http.server
    import threading

    pytest.importorskip("aiohttp", reason="the http extra is not installed")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    (tree / "a.jsonl").write_bytes(b'{"text": "one"}\n' * 5)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tree.parent)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/data"
        found = discover(f"{url}/a.jsonl?download=1")
        assert names(found) == ["a.jsonl"]
        rows, quarantined, _ = reading(found.files, target_bytes=30)
        assert [row["row_id"] for row in rows] == [f"a.jsonl:{i * 16}" for i in range(5)]
        assert quarantined == []
        assert names(discover(f"{url}/")) == names(discover(tree))
        with pytest.raises(CorpusError, match="there is no"):
            discover(f"{url}/none.jsonl")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class TestS3:
    """A bucket behind a real S3 API."""

    def test_a_bucket_gives_what_a_folder_gives(self, s3_endpoint, tree, reading):
        """Folders, files and patterns in a bucket: the same names, rows and ids as here."""
        import boto3

        options = {"key": "k", "secret": "s3cr3t-s3cr3t",
                   "client_kwargs": {"endpoint_url": s3_endpoint, "region_name": "us-east-1"}}  # fmt: skip
        client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1", aws_access_key_id="k",
                              aws_secret_access_key="s")  # fmt: skip
        client.create_bucket(Bucket="bucket")
        (tree / "a.jsonl").write_bytes(b'{"text": "one"}\n{"text": "two"}\n')
        store = open_store("s3://bucket/data", storage_options=options)
        for entry in open_store(str(tree)).list():
            store.put(entry.path, open_store(str(tree)).read(entry.path))
        here, there = discover(tree), discover("s3://bucket/data", storage_options=options)
        assert names(there) == names(here)
        assert there.skipped == here.skipped
        assert names(discover("s3://bucket/data/*.jsonl", storage_options=options)) == ["data/a.jsonl"]
        assert names(discover("s3://bucket/data/a.jsonl", storage_options=options)) == ["a.jsonl"]
        assert len(discover("s3://bucket", storage_options=options).files) == 7
        (file,) = [file for file in there.files if file.name == "data/a.jsonl"]
        rows, _, _ = reading([file], target_bytes=10, storage_options=options)
        assert [(row["row_id"], row["text"]) for row in rows] == [("data/a.jsonl:0", "one"), ("data/a.jsonl:16", "two")]
        with pytest.raises(CorpusError, match="there is no"):
            discover("s3://bucket/nothing", storage_options=options)
        with pytest.raises(Exception, match="no-bucket") as caught:
            discover("s3://no-bucket/x", storage_options=options)
        assert "s3cr3t" not in str(caught.value)

    def test_forbidden(self, monkeypatch):
        """What may not be listed is an AccessError, not an empty corpus."""

        def refuse(self, prefix=""):
            raise AccessError("listing s3://bucket: Forbidden")

        monkeypatch.setattr("datapipe.storage.remote.RemoteStore.list", refuse)
        with pytest.raises(AccessError):
            discover("memory://folder/")


@pytest.mark.parametrize("bad", ["{tree}/nothing/*.txt", "{tree}/*.zip", "memory://unmatched/*.txt", "memory://no/x/"])
def test_one_of_several_inputs_that_matches_nothing(tree, bad):
    """It is an error that names it: a run on the rest would lack what was asked for."""
    bad = bad.format(tree=tree)
    with pytest.raises(CorpusError) as caught:
        discover([str(tree), bad])
    assert bad in str(caught.value)


@pytest.mark.parametrize("path", ["/data/*.txt", "/data/"])
def test_a_host_that_does_not_answer_is_no_empty_folder(tree, path, monkeypatch):
    """Nothing listens there: that is told, not taken for a pattern without matches."""
    pytest.importorskip("aiohttp", reason="the http extra is not installed")
    monkeypatch.setattr("datapipe.storage.remote.Retry", lambda: Retry(attempts=1))
    with pytest.raises(StorageError) as caught:
        discover([str(tree), f"http://127.0.0.1:9{path}"])
    assert "127.0.0.1:9/data" in str(caught.value)
