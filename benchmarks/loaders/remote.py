"""Loading from a store that takes 20 ms to begin an answer and gives 200 MB/s in all: beside the bound and others.

    python benchmarks/loaders/remote.py tokens                          410 MB, one round takes half a minute
    python benchmarks/loaders/remote.py documents --peer datasets=/tmp/peers/bin/python …
    python benchmarks/loaders/remote.py tokens --quick --latency 0.05 --bandwidth 1e9

One server (`slow_store.py`), a process of its own on the same cores, serves all contenders, one after the other; its
CPU time, and that of the bound, are told. The bound: four threads with http.client that ask for ranges of 4 MiB, each
received in place in a buffer that was there before; nothing is decoded. Ours read by http:// and by s3:// (the store's
S3 part, signatures and all). The dataset is opened before the epoch, as peers' are; what opening takes is said apart.
"""

from __future__ import annotations

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
from harness import Contender, Workload, main
from remote_corpus import look_at_documents, look_at_tokens, make_documents, make_tokens
from remote_peers import hugging_face, store_url, torch_s3, webdataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remote_corpus import Corpus

    Epoch = Callable[[], Iterator[Any]]

PART = 4 << 20


def ranged_gets(form: str) -> Callable[[Corpus], Epoch]:
    """The bound. What it delivers is whole files."""

    def make(corpus: Corpus) -> Epoch:
        files = corpus.files(form)
        whole = {path: memoryview(bytearray(path.stat().st_size)) for path in files}
        parts = [(path, at) for path in files for at in range(0, len(whole[path]), PART)]

        def epoch() -> Iterator[Any]:
            jobs, lock, came = iter(parts), threading.Lock(), []

            def run() -> None:
                connection = http.client.HTTPConnection(store_url().removeprefix("http://"))
                while True:
                    with lock:
                        path, at = next(jobs, (None, 0))
                    if path is None:
                        return
                    place = whole[path][at : at + PART]
                    headers = {"Range": f"bytes={at}-{at + len(place) - 1}"}
                    connection.request("GET", f"/{corpus.folder.name}/{form}/{path.name}", headers=headers)
                    response = connection.getresponse()
                    got = 0
                    while got < len(place) and (n := response.readinto(place[got:])):
                        got += n
                    response.read()
                    came.append(got)

            threads = [threading.Thread(target=run) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sum(came) == sum(map(len, whole.values()))
            yield from whole.values()

        return epoch

    return make


def ours(form: str, by: str, batch: int, *, cached: bool = False) -> Callable[[Corpus], Epoch]:
    """datapipe, everything left at its defaults."""

    def make(corpus: Corpus) -> Epoch:
        from datapipe import DataLoader, open_dataset

        place = f"{corpus.folder.name}/{form}"
        where = {"http": f"{store_url()}/{place}", "s3": f"s3://bucket/{place}", "local": str(corpus.folder / form)}[by]
        more: dict[str, Any] = {}
        if by == "s3":
            client = {"endpoint_url": store_url(), "region_name": "us-east-1"}
            more["storage_options"] = {"key": "a", "secret": "b", "client_kwargs": client}
        if cached:
            more["cache"] = str(corpus.folder / "cache")
        open_dataset(where, **more)  # what is imported at the first use is in nobody's time
        began = time.perf_counter()
        data = open_dataset(where, **more)
        print(f"opened {where} in {time.perf_counter() - began:.3f} s", file=sys.stderr)
        epochs = iter(range(1 << 30))

        def epoch() -> Iterator[Any]:
            # A loader for each: one that lives on would read ahead for its next epoch while others have their turn.
            with DataLoader(data, batch, seed=next(epochs), tail="partial", collate="numpy") as loader:
                for found in loader:
                    yield found[corpus.column]

        return epoch

    return make


def workload(kind: str) -> Workload:
    """`kind`: "tokens" or "documents"."""
    tokens = kind == "tokens"
    batch = 32 if tokens else 64
    contenders = {"four ranged GETs": Contender(make=ranged_gets("parquet"), order="none")}
    for form in ("parquet", "arrow") if tokens else ("parquet",):
        name = form.capitalize()
        for by in ("http", "s3"):
            contenders[f"datapipe, {name}, {by}"] = Contender(make=ours(form, by, batch), needs="datapipe")
    contenders["datapipe, Parquet, s3, cached"] = Contender(
        make=ours("parquet", "s3", batch, cached=True), needs="datapipe"
    )
    if tokens:
        contenders["datapipe, Arrow, local"] = Contender(make=ours("arrow", "local", batch), needs="datapipe")
    contenders["datapipe, Parquet, local"] = Contender(make=ours("parquet", "local", batch), needs="datapipe")
    for workers in (2, 4):
        made = torch_s3(workers, batch)
        contenders[f"torch, pyarrow S3, {workers} workers"] = Contender(make=made, needs="torch", order="pool")
    contenders["WebDataset, 2 workers"] = Contender(make=webdataset(2, batch), needs="webdataset", order="buffer")
    for shuffled in (False, True):
        name = f"Hugging Face streaming, {'shuffled' if shuffled else 'in order'}"
        contenders[name] = Contender(make=hugging_face(batch, shuffled=shuffled), needs="datasets", order="buffer")
    return Workload(
        name=f"{kind} from a store of 20 ms and 200 MB/s (`loaders/remote.py`)",
        unit="samples",
        script=__file__,
        corpus=make_tokens if tokens else make_documents,
        look=look_at_tokens if tokens else look_at_documents,
        files=lambda corpus: corpus.files("parquet"),
        versions=("aiohttp", "s3fs", "fsspec", "torch"),
        says=lambda corpus: f"{corpus.rows:,} {kind}, shuffled; the server on the same cores",
        contenders=contenders,
    )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve_and_measure() -> None:
    """Take what is ours from the command line, start the server, and leave the rest to the harness."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["tokens", "documents"])
    parser.add_argument("--latency", type=float, default=0.02, help="seconds until an answer begins")
    parser.add_argument("--bandwidth", type=float, default=200e6, help="bytes a second, for all connections together")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "datapipe-benchmarks")
    given, rest = parser.parse_known_args()
    chosen = workload(given.kind)
    corpus = chosen.corpus(given.folder, "--quick" in rest)
    script = str(Path(__file__).with_name("slow_store.py"))
    command = [sys.executable, script, str(given.folder)]
    command += ["--latency", str(given.latency), "--bandwidth", str(given.bandwidth)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        os.environ["SLOW_STORE"] = server.stdout.readline().strip()
        os.environ["SLOW_STORE_KIND"] = given.kind
        epoch = chosen.contenders["four ranged GETs"].make(corpus)
        before, began, cpu = cpu_seconds(server.pid), time.perf_counter(), time.process_time()
        sum(len(each) for each in epoch())
        print(
            f"the bound's epoch takes {time.perf_counter() - began:.2f} s, {time.process_time() - cpu:.2f} s of CPU,"
            f" the server's part {cpu_seconds(server.pid) - before:.2f} s of CPU",
            file=sys.stderr,
        )
        sys.argv = [sys.argv[0], "--folder", str(given.folder), *rest]
        main(chosen)
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        main(workload(os.environ["SLOW_STORE_KIND"]))
    else:
        serve_and_measure()
