"""A slow object store on loopback: HTTP ranges and the part of S3 that readers use, so many ms a request, so many MB/s.

    python benchmarks/loaders/slow_store.py FOLDER --latency 0.02 --bandwidth 200e6     (prints its URL)

What enters: a folder; its files are objects, under any bucket name. What leaves: responses whose first byte waits for
the latency and whose bytes share one bandwidth, over all connections. Invariant: every byte is paid for by a common
clock before it is sent, so no number of connections gets more than the cap.
"""

import argparse
import contextlib
import email.utils
import http.server
import os
import threading
import time
import urllib.parse
from pathlib import Path
from xml.sax.saxutils import escape

SLICE = 128 << 10


class Clock:
    """The link: who wants to send n bytes waits until those before are through."""

    def __init__(self, bandwidth):
        self.bandwidth = bandwidth
        self.free_at = 0.0
        self.lock = threading.Lock()

    def pay(self, n):
        with self.lock:
            now = time.monotonic()
            # A sleep that ends late may be made up for within 20 ms: the cap holds on average.
            self.free_at = max(self.free_at, now - 0.02) + n / self.bandwidth
            wait = self.free_at - now
        if wait > 0.002:
            time.sleep(wait)


def handler(root, latency, clock, counts):
    class Handler(http.server.BaseHTTPRequestHandler):
        """One connection."""

        def handle(self):
            with contextlib.suppress(ConnectionResetError):  # a client that was done
                super().handle()

        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, *, body):
            time.sleep(latency)
            path, _, query = self.path.partition("?")
            asked = urllib.parse.parse_qs(query, keep_blank_values=True)
            if path == "/__counts__":
                return self.text(repr(counts).encode(), "text/plain")
            counts["requests"] += 1
            name = urllib.parse.unquote(path).strip("/")
            if "list-type" in asked or "location" in asked:
                return self.text(self.listing(asked), "application/xml")
            file = root / name
            if not file.exists():
                file = root / name.partition("/")[2]  # S3: the first part is the bucket
            if not file.is_file():
                if file.is_dir():
                    links = "".join(f'<a href="{p.name}{"/" * p.is_dir()}">x</a>\n' for p in sorted(file.iterdir()))
                    return self.text(links.encode(), "text/html")
                return self.text(b"", "text/plain", 404)
            stat = file.stat()
            start, end, status = 0, stat.st_size, 200
            if spec := self.headers.get("Range"):
                first, last = spec.removeprefix("bytes=").split("-")
                start = int(first) if first else max(0, end - int(last))
                end, status = (min(end, int(last) + 1) if first and last else end), 206
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{stat.st_size}")
            self.send_header("Content-Length", str(end - start))
            self.send_header("ETag", f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Last-Modified", email.utils.formatdate(stat.st_mtime, usegmt=True))
            self.end_headers()
            self.wfile.flush()
            if body:
                with file.open("rb") as source:
                    at = start
                    try:
                        while at < end:
                            n = min(SLICE, end - at)
                            clock.pay(n)
                            at += os.sendfile(self.connection.fileno(), source.fileno(), at, n)
                    except (BrokenPipeError, ConnectionResetError):
                        counts["hung up"] += 1  # a hedge that lost
                        self.close_connection = True
                counts["bytes"] += at - start
            return None

        def listing(self, asked):
            if "location" in asked:
                return b"<LocationConstraint/>"
            prefix = asked.get("prefix", [""])[0]
            files = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
            items = "".join(
                f"<Contents><Key>{escape(key)}</Key><Size>{(root / key).stat().st_size}</Size>"
                f'<ETag>"{(root / key).stat().st_size:x}-{(root / key).stat().st_mtime_ns:x}"</ETag>'
                f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
                for key in files
                if key.startswith(prefix)
            )
            return (
                f'<?xml version="1.0"?><ListBucketResult><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(files)}'
                f"</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
            ).encode()

        def text(self, data, kind, status=200):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

    return Handler


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    """Of the usual five, the sixth client that connects at once is told nothing, and asks again after a second."""


def serve(root, *, latency, bandwidth, port=0):
    counts = {"requests": 0, "bytes": 0, "hung up": 0}
    return Server(("127.0.0.1", port), handler(Path(root), latency, Clock(bandwidth), counts))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--bandwidth", type=float, default=200e6)
    options = parser.parse_args()
    running = serve(options.folder, latency=options.latency, bandwidth=options.bandwidth)
    print(f"http://127.0.0.1:{running.server_address[1]}", flush=True)
    running.serve_forever()
