"""Stores to be held to the contract, and the servers they talk to: all real, all on the loopback interface."""

import asyncio
import email.utils
import hashlib
import http.server
import itertools
import threading
import urllib.parse
import uuid

import pytest
from hypothesis import settings

from datapipe.storage import open_store
from datapipe.storage.cache import Cache

# No example is too slow: how long one takes says what else the machine does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

S3_KEY = "AKIALOOPBACKTEST0001"
S3_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.fixture
def s3_options(s3_endpoint, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return {
        "key": S3_KEY,
        "secret": S3_SECRET,
        "client_kwargs": {"endpoint_url": s3_endpoint, "region_name": "us-east-1"},
    }


@pytest.fixture
def s3_bucket(s3_endpoint, s3_options):
    """A new bucket's name."""
    import boto3

    name = f"bucket-{uuid.uuid4().hex[:12]}"
    client = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id=S3_KEY,
        aws_secret_access_key=S3_SECRET,
    )
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["local", "memory", "memory-by-rename", "s3", "s3-prefix"])
def store(request, tmp_path, monkeypatch):
    """An empty store of each kind that can be written to."""
    if request.param == "local":
        return open_store(str(tmp_path / "root"))
    if request.param.startswith("memory"):
        if request.param == "memory-by-rename":
            monkeypatch.setattr("datapipe.storage.remote._PUT_IS_ATOMIC", frozenset())
        return open_store(f"memory://{uuid.uuid4().hex}/root")
    bucket = request.getfixturevalue("s3_bucket")
    prefix = "/deep/prefix" if request.param == "s3-prefix" else ""
    return open_store(f"s3://{bucket}{prefix}", storage_options=request.getfixturevalue("s3_options"))


class WebServer:
    """Serves `objects` by path; a path that ends in '/' is an index page.

    Faults are set by the test: `statuses` to answer with before the real answer, how many bytes to `keep` of each body,
    `ranges` switched off, a `required_query` without which everything is forbidden.
    """

    def __init__(self):
        self.objects = {}
        self.statuses = []
        self.keep = None
        self.ranges = True
        self.required_query = None
        self.requests = []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, *, body):
                path, _, query = self.path.partition("?")
                web.requests.append((self.command, self.path, self.headers.get("Range")))
                if web.required_query is not None and query != web.required_query:
                    return self.plain(403)
                if body and web.statuses:
                    return self.plain(web.statuses.pop(0))
                name = urllib.parse.unquote(path)
                data = web.objects.get(name)
                if data is None:
                    below = sorted({k[len(name) :] for k in web.objects if k.startswith(name) and name.endswith("/")})
                    if not below:
                        return self.plain(404)
                    links = "".join(f'<a href="{urllib.parse.quote(k)}">{k}</a>\n' for k in below)
                    data = f"<html>{links}</html>".encode()
                status, part = 200, data
                asked = self.headers.get("Range")
                if asked and web.ranges:
                    first, last = asked.removeprefix("bytes=").split("-")
                    start = int(first) if first else max(0, len(data) - int(last))
                    end = min(len(data), int(last) + 1) if first and last else len(data)
                    if start >= len(data):
                        return self.plain(416)
                    status, part = 206, data[start:end]
                self.send_response(status)
                if status == 206:
                    self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(part)))
                self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
                self.send_header("Last-Modified", email.utils.formatdate(0, usegmt=True))
                self.end_headers()
                if body:
                    self.wfile.write(part if web.keep is None else part[: web.keep])
                    if web.keep is not None and web.keep < len(part):
                        self.close_connection = True
                return None

            def plain(self, status):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def web():
    pytest.importorskip("aiohttp", reason="the http extra is not installed")
    server = WebServer()
    yield server
    server.close()


class FaultyProxy:
    """Stands before another server and spoils ranged reads as told; everything else it passes on.

    Each GET with a Range takes the next of `faults`: a callable that gets (handler, status, headers, body) and answers
    itself, or None to pass on. `ranges` records what was asked for, `most` how many were in hand at once.
    """

    def __init__(self, upstream):
        import http.client

        self.faults = []
        self.ranges = []
        self.most = 0
        self.always = None
        proxy = self
        here = urllib.parse.urlsplit(upstream).netloc
        lock = threading.Lock()
        inside = [0]

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def pass_on(self):
                length = int(self.headers.get("Content-Length") or 0)
                data = self.rfile.read(length) if length else None
                connection = http.client.HTTPConnection(here)
                connection.request(self.command, self.path, data, dict(self.headers))
                response = connection.getresponse()
                body = response.read()
                connection.close()
                drop = ("content-length", "transfer-encoding", "connection")
                headers = [(k, v) for k, v in response.getheaders() if k.lower() not in drop]
                if self.command == "HEAD":
                    headers.append(("Content-Length", response.getheader("Content-Length") or "0"))
                spoil = None
                if self.command == "GET" and self.headers.get("Range"):
                    with lock:
                        proxy.ranges.append((self.path, self.headers["Range"]))
                        spoil = proxy.faults.pop(0) if proxy.faults else proxy.always
                        inside[0] += 1
                        proxy.most = max(proxy.most, inside[0])
                try:
                    (spoil or answer)(self, response.status, headers, body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    if self.command == "GET" and self.headers.get("Range"):
                        with lock:
                            inside[0] -= 1

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.answer = answer
        self.never = self._server.never = threading.Event()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def answer(handler, status, headers, body, *, keep=None, pace=None):
    """The real answer; `keep` of its bytes only, or in pieces, with `pace` called before each."""
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    if handler.command != "HEAD":
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command == "HEAD":
        return
    if pace is not None:
        for i in range(len(body)):
            pace()
            handler.wfile.write(body[i : i + 1])
            handler.wfile.flush()
    else:
        handler.wfile.write(body if keep is None else body[:keep])
    if keep is not None:
        handler.wfile.flush()
        handler.close_connection = True


@pytest.fixture
def proxied():
    """Puts a faulty proxy before a server."""
    made = []

    def before(url):
        made.append(FaultyProxy(url))
        return made[-1]

    yield before
    for proxy in made:
        proxy.close()


@pytest.fixture
def in_turn():
    """`in_turn(store, arrived)`: each request of the store is sent once all before it are among those that arrived.

    What a test does to "the first request" and "the second" meets those, however late the machine lets either go.
    """

    def ordered(store, arrived):
        request, sent = store._reads._request, itertools.count(len(arrived))

        async def after_those_before(*args):
            before = next(sent)
            while len(arrived) < before:  # noqa: ASYNC110  (it is another thread that sees them arrive)
                await asyncio.sleep(0.005)
            return await request(*args)

        store._reads._request = after_those_before

    return ordered


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "c", "1 MB")
