"""Remote stores where they differ from local ones: faults of a service, credentials, servers that only read."""

import io
import logging
import pickle
import traceback

import pytest

from datapipe.errors import AccessError, ConfigError, IntegrityError, NotFoundError, StorageError
from datapipe.storage import open_store, split_url
from datapipe.storage.remote import RemoteStore
from datapipe.storage.retry import Retry

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
QUICK = Retry(attempts=4, first_s=0.001, longest_s=0.002, deadline_s=30)


def shown(error):
    """All that a user, a log or a report may get to see of an error."""
    return "\n".join(
        [
            str(error), repr(error), repr(error.args), "".join(traceback.format_exception(error)),
            repr(error.__cause__), repr(error.__context__), str(getattr(error, "__notes__", "")),
        ]
    )  # fmt: skip


class TestHttp:
    """A web server: read-only, with ETags, with ranges or without."""

    @pytest.fixture
    def store(self, web):
        web.objects.update({"/d/a.txt": b"alpha", "/d/sub/b c.txt": bytes(range(256)) * 1000, "/d/empty": b""})
        return RemoteStore(f"{web.url}/d", retry=QUICK)

    @pytest.mark.parametrize("ranges", [True, False])
    def test_reads(self, web, store, ranges):
        """Ranges are exact, also from a server that answers each with the whole object."""
        web.ranges = ranges
        data = web.objects["/d/sub/b c.txt"]
        assert store.read("a.txt") == b"alpha"
        assert store.read("sub/b c.txt", 1000, 2000) == data[1000:2000]
        assert store.read("sub/b c.txt", len(data) - 3) == data[-3:]
        assert store.read("a.txt", 5) == b""
        assert store.read("empty") == b""
        with pytest.raises(IntegrityError):
            store.read("a.txt", 2, 9)
        with store.open("sub/b c.txt") as file:
            file.seek(-5, io.SEEK_END)
            assert file.read() == data[-5:]
            file.seek(0)
            assert file.read() == data

    def test_lists_what_the_index_links_to(self, store):
        """Links of an index page are objects; each has its size and etag."""
        entries = list(store.list())
        assert [(entry.path, entry.size) for entry in entries] == [
            ("a.txt", 5), ("empty", 0), ("sub/b c.txt", 256_000),
        ]  # fmt: skip
        assert entries[0] == store.info("a.txt")

    def test_the_etag_is_the_servers(self, web, store):
        before = store.info("a.txt")
        web.objects["/d/a.txt"] = b"ALPHA"
        assert store.info("a.txt").etag != before.etag

    def test_what_is_not_there(self, store):
        for action in (store.info, store.read, store.open):
            with pytest.raises(NotFoundError):
                action("none")
        assert list(store.list("none")) == []

    def test_is_read_only(self, store, tmp_path):
        (tmp_path / "x").write_bytes(b"1")
        for action in (lambda: store.put("x", b"1"), lambda: store.put_file("x", str(tmp_path / "x"))):
            with pytest.raises(StorageError, match="read-only"):
                action()

    def test_a_body_cut_short(self, web, store):
        """A connection that ends early is tried again, then told: never a short answer."""
        web.keep = 3
        for action in (lambda: store.read("a.txt"), lambda: store.read("a.txt", 0, 5)):
            with pytest.raises(StorageError):
                action()
        web.keep = None
        assert store.read("a.txt") == b"alpha"

    @pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
    def test_what_will_pass_is_tried_again(self, web, store, status):
        """Two refusals that pass cost two more requests and nothing else."""
        web.statuses = [status, status]
        assert store.read("a.txt", 0, 5) == b"alpha"
        assert len([r for r in web.requests if r[0] == "GET"]) == 3

    def test_gives_up(self, web, store):
        """A service that never answers is a StorageError after the attempts it was given."""
        web.statuses = [503] * 50
        with pytest.raises(StorageError) as caught:
            store.read("a.txt", 0, 5)
        assert type(caught.value) is StorageError
        assert len([r for r in web.requests if r[0] == "GET"]) == QUICK.attempts

    @pytest.mark.parametrize(("status", "kind"), [(401, AccessError), (403, AccessError), (404, NotFoundError)])
    def test_what_will_not_pass_is_not_tried_again(self, web, store, status, kind):
        web.statuses = [status] * 50
        with pytest.raises(kind):
            store.read("a.txt", 0, 5)
        assert len([r for r in web.requests if r[0] == "GET"]) == 1

    def test_nobody_there(self):
        """A refused connection is a StorageError that tells to look at the endpoint."""
        store = RemoteStore("http://127.0.0.1:9/d", retry=QUICK)
        with pytest.raises(StorageError, match="127.0.0.1:9"):
            store.read("a.txt", 0, 5)

    def test_a_signed_url(self, web):
        """A query goes with every request, and stays out of paths, names, messages and representations."""
        web.objects["/d/a.txt"] = b"alpha"
        web.required_query = f"X-Amz-Signature={'f' * 64}&X-Amz-Credential=AKIA0000000000000000"
        root, path = split_url(f"{web.url}/d/a.txt?{web.required_query}")
        assert path == "a.txt"
        store = RemoteStore(root, retry=QUICK)
        assert store.read(path) == b"alpha"
        assert store.read(path, 1, 3) == b"lp"
        with store.open(path) as file:
            assert file.read() == b"alpha"
        assert "f" * 64 not in f"{store!r} {store.url} {store.info(path)}"
        wrong = RemoteStore(root.replace("f" * 64, "e" * 64), retry=QUICK)
        for action in (wrong.read, wrong.info, wrong.open, lambda p: list(wrong.list())):
            with pytest.raises(AccessError) as caught:
                action(path)
            assert "e" * 64 not in shown(caught.value)

    def test_a_user_in_the_url(self, web):
        """User and password of a URL are not shown."""
        web.objects["/d/a.txt"] = b"alpha"
        store = RemoteStore(f"http://someone:hunter22@127.0.0.1:{web.port}/d", retry=QUICK)
        assert store.read("a.txt") == b"alpha"
        assert "hunter22" not in repr(store) + store.url
        with pytest.raises(NotFoundError) as caught:
            store.read("none")
        assert "hunter22" not in shown(caught.value)
        assert "someone" not in shown(caught.value)


class TestCredentials:
    """Against a real S3 API that checks signatures' owners."""

    @pytest.fixture
    def own_key(self, s3_endpoint):
        """A key that the service knows, and a service that from here on lets in nobody else."""
        import urllib.request

        import boto3

        def check_from(count):
            request = urllib.request.Request(
                f"{s3_endpoint}/moto-api/reset-auth", data=str(count).encode(), headers={"Content-Type": "text/plain"}
            )
            urllib.request.urlopen(request).read()

        iam = boto3.client(
            "iam", endpoint_url=s3_endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        iam.create_user(UserName="reader")
        policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
        iam.put_user_policy(UserName="reader", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        check_from(0)
        yield key
        check_from("inf")
        iam.delete_access_key(UserName="reader", AccessKeyId=key["AccessKeyId"])
        iam.delete_user_policy(UserName="reader", PolicyName="all")
        iam.delete_user(UserName="reader")

    @pytest.mark.parametrize("wrong", ["key", "secret"])
    def test_wrong_credentials(self, s3_bucket, s3_options, own_key, wrong):
        """A wrong key or secret is an AccessError at once, for every operation, and shows neither."""
        good = {**s3_options, "key": own_key["AccessKeyId"], "secret": own_key["SecretAccessKey"]}
        RemoteStore(f"s3://{s3_bucket}", storage_options=good, retry=QUICK).put("x", b"1")
        bad = {**good, wrong: "AKIAWRONGWRONGWRONG0"}
        store = RemoteStore(f"s3://{s3_bucket}", storage_options=bad, retry=QUICK)
        for action in (
            store.info, store.read, store.open, store.delete, store.exists, lambda p: store.read(p, 0, 1),
            lambda p: store.put(p, b"2"), lambda p: list(store.list()),
        ):  # fmt: skip
            with pytest.raises(AccessError) as caught:
                action("x")
            for value in (bad["key"], bad["secret"]):
                assert value not in shown(caught.value)

    def test_no_credentials(self, s3_bucket, s3_endpoint, monkeypatch, tmp_path):
        """Without any credentials the first use is an AccessError that says where they come from."""
        for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        options = {"client_kwargs": {"endpoint_url": s3_endpoint, "region_name": "us-east-1"}}
        store = RemoteStore(f"s3://{s3_bucket}", storage_options=options, retry=QUICK)
        with pytest.raises(AccessError, match="storage_options"):
            store.put("x", b"1")

    def test_secrets_are_shown_nowhere(self, s3_bucket, s3_options, caplog):
        """Neither the store nor any of its errors shows a key; a pickle carries it but does not represent it."""
        store = RemoteStore(f"s3://{s3_bucket}/p", storage_options=s3_options, retry=QUICK)
        with caplog.at_level(logging.DEBUG, logger="datapipe"):
            for path in ("none", "p/none"):
                with pytest.raises(NotFoundError) as caught:
                    store.read(path)
                for secret in (s3_options["key"], s3_options["secret"]):
                    assert secret not in shown(caught.value)
        for text in (repr(store), str(store), store.url, caplog.text, repr(pickle.loads(pickle.dumps(store)))):
            assert s3_options["secret"] not in text
            assert s3_options["key"] not in text

    def test_a_library_that_repeats_the_secret(self, monkeypatch):
        """Even an error that quotes the options, nested in another, shows none of them and hangs on to none."""
        options = {"key": "AKIAZZZZZZZZZZZZZZZZ", "secret": SECRET, "client_kwargs": {"aws_session_token": "tok-12345"}}
        store = RemoteStore("memory://root", storage_options={}, retry=QUICK)
        store = RemoteStore("s3://user:pa55word@bucket/p", storage_options=options, retry=QUICK)

        class Leaky:
            def info(self, where):
                try:
                    raise ValueError(f"signing with {options}")
                except ValueError as error:
                    raise PermissionError(
                        f"cannot open {where} as {options['key']}: {options!r} https://h/x?X-Amz-Signature=abcdef0123"
                    ) from error

        store._connected = Leaky()
        with pytest.raises(AccessError) as caught:
            store.info("x")
        text = shown(caught.value)
        for secret in (SECRET, "AKIAZZZZZZZZZZZZZZZZ", "tok-12345", "pa55word", "abcdef0123"):
            assert secret not in text, text
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None

    def test_options_that_do_not_fit(self):
        """A wrong option is a ConfigError without its value."""
        store = RemoteStore("s3://bucket", storage_options={"secret": SECRET, "no_such_option": 1})
        with pytest.raises((ConfigError, StorageError)) as caught:
            store.info("x")
        assert SECRET not in shown(caught.value)


class TestS3:
    @pytest.fixture
    def store(self, s3_bucket, s3_options):
        return RemoteStore(f"s3://{s3_bucket}", storage_options=s3_options, retry=QUICK)

    def test_a_large_object_is_put_in_parts(self, store, tmp_path):
        """Beyond one request's size an object is uploaded in parts, and read back whole."""
        data = bytes(range(256)) * (420 << 10)  # 105 MiB
        source = tmp_path / "big"
        source.write_bytes(data)
        assert store.put_file("big", str(source)).size == len(data)
        assert source.exists()
        assert store.read("big", len(data) - 5) == data[-5:]
        assert store.read("big") == data

    def test_wrong_bucket(self, s3_options):
        store = RemoteStore("s3://no-such-bucket-here", storage_options=s3_options, retry=QUICK)
        with pytest.raises(NotFoundError, match="no-such-bucket-here"):
            store.put("x", b"1")

    def test_other_writers_are_seen_at_once(self, store, s3_bucket, s3_options):
        """Listings and sizes come from the service, not from fsspec's memory of them."""
        other = RemoteStore(f"s3://{s3_bucket}", storage_options=s3_options)
        store.put("a", b"1")
        assert [entry.path for entry in other.list()] == ["a"]
        store.put("b", b"1")
        store.put("a", b"22")
        assert [(entry.path, entry.size) for entry in other.list()] == [("a", 2), ("b", 1)]
        assert other.info("a").size == 2

    def test_folder_markers_are_no_objects(self, store, s3_bucket):
        """Consoles make an empty object "folder/": it is not listed."""
        store.put("folder/x", b"1")
        store._fs.pipe_file(f"{s3_bucket}/folder/", b"")
        assert [entry.path for entry in store.list()] == ["folder/x"]


@pytest.mark.parametrize(
    ("url", "match"),
    [("foo://x/y", "unknown scheme"), ("s3://", "names no bucket"), ("gs://", "names no bucket")],
)
def test_urls_that_cannot_be(url, match):
    with pytest.raises(ConfigError, match=match):
        open_store(url).info("x")


def test_a_library_that_is_missing(monkeypatch):
    """The message names the extra to install."""
    import fsspec

    def missing(protocol):
        raise ImportError("Install gcsfs")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(ConfigError, match=r"datapipe-toolkit\[gcs\]"):
        open_store("gs://bucket/x").info("y")


def test_opening_connects_to_nothing():
    """A store is made without a network, and without its library."""
    store = open_store("s3://bucket/prefix", storage_options={"client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}})
    assert store.url == "s3://bucket/prefix"


def test_a_failed_put_leaves_nothing_beside(monkeypatch):
    """Where a put writes beside and renames, a failure removes what was written."""
    monkeypatch.setattr("datapipe.storage.remote._PUT_IS_ATOMIC", frozenset())
    store = RemoteStore("memory://failed-put", retry=QUICK)
    store.put("x", b"old")

    def fail(*args, **kwargs):
        raise PermissionError("no")

    with monkeypatch.context() as patch:
        patch.setattr(type(store._fs), "mv", fail)
        with pytest.raises(AccessError):
            store.put("x", b"new")
    assert store.read("x") == b"old"
    assert list(store._fs.find("/failed-put")) == ["/failed-put/x"]
