"""A cluster of machines that share a network and nothing else: not a test, a program for test_machines.py.

    unshare -U -r -n -m -p -f --kill-child --mount-proc python machines.py FOLDER SCENARIO

Each machine is a network namespace of its own on one bridge, and sees neither the driver's folder nor its loopback: an
object store, a Dask scheduler and workers, by TLS. SCENARIO: "lost" loses and adds machines while the run goes on;
"client" kills the driver, and runs it again. The last line of the output is a JSON object of what came out.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

SUBNET = "10.77.0"
STORE, HEAD = f"{SUBNET}.2", f"{SUBNET}.3"
KEY = {"key": "AKIALOOPBACKTEST0003", "secret": "aSecretOfThisTestAlone0123456789"}
OPTIONS = {**KEY, "client_kwargs": {"endpoint_url": f"http://{STORE}:5000", "region_name": "us-east-1"}}
BUCKET = "machines"
RECIPE = """
steps:
  - decode
  - unicode
  - blocklist: {files: [words.txt]}
  - own.py:no_drafts
  - exact_duplicates
  - near_duplicates
  - vocabulary: {size: 300}
  - shuffle
  - tokenize
  - pack: {seq_len: 64}
output: {split_bytes: 6000}
"""
OWN = '''
import pyarrow.compute as pc


def no_drafts(table):
    """Rows that do not begin with the word stay."""
    return pc.invert(pc.starts_with(table["text"], "DRAFT"))
'''


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Machine:
    """One network namespace and the process in it, which sees an empty folder where the driver has its files."""

    def __init__(self, number, command, *, hides, folder):
        self.link = f"v{number}"
        self.address = f"{SUBNET}.{number}"
        inside = 'read ready; mount -t tmpfs none "$0"; exec "$@"'
        own = folder / f"machine{number}"
        own.mkdir()
        environment = os.environ | {
            "TMPDIR": str(own),
            # A machine whose cable is cut says nothing: it is given up after this.
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "15s",
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "15s",
        }
        with (folder / f"machine{number}.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--net", "--mount", "sh", "-c", inside, str(hides), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=own,
                env=environment,
            )
        pid = str(self.process.pid)
        while Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            time.sleep(0.01)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", pid)
        ip("link", "set", self.link, "master", "bridge0", "up")
        there = f"ip link set lo up; ip addr add {self.address}/24 dev eth0; ip link set eth0 up"
        subprocess.run(["nsenter", "--net", "--target", pid, "sh", "-c", there], check=True)
        self.process.stdin.write(b"\n")
        self.process.stdin.close()

    def lose(self, *, cable=False):
        """SIGKILL to all that runs there; `cable`: cut off first, so that nobody is told."""
        if cable:
            ip("link", "set", self.link, "down")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def kill_worker(self):
        """SIGKILL to the worker process alone: its nanny starts another."""
        import psutil

        for child in psutil.Process(self.process.pid).children(recursive=True):
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()


class Cluster:
    """The store, the head, and workers that come and go."""

    def __init__(self, folder):
        from tests.preprocess.authority import Authority

        self.folder = folder
        authority = Authority(folder / "authority", hosts=[f"{SUBNET}.{n}" for n in range(1, 30)])
        self.ca = authority.ca
        self.files = {role: authority.certificate(role) for role in ("ours", "head", "worker")}
        self.machines = []
        ip("link", "set", "lo", "up")
        ip("link", "add", "bridge0", "type", "bridge")
        ip("addr", "add", f"{SUBNET}.1/24", "dev", "bridge0")
        ip("link", "set", "bridge0", "up")
        server = "from moto.server import main; main(['-H', '0.0.0.0', '-p', '5000'])"
        self.start(2, sys.executable, "-c", server)
        self.start(
            3, *self.dask("scheduler", "head"), "--host", HEAD, "--port", "8786", "--no-dashboard", "--protocol", "tls"
        )
        self.workers = {number: self.worker(number) for number in (11, 12, 13)}

    def start(self, number, *command):
        machine = Machine(number, command, hides=self.folder / "driver", folder=self.folder)
        self.machines.append(machine)
        return machine

    def dask(self, what, role):
        certificate, key = self.files[role]
        tls = ("--tls-ca-file", self.ca, "--tls-cert", certificate, "--tls-key", key)
        return (sys.executable, "-m", "dask", what, *tls)

    def worker(self, number):
        """A new machine with one worker process."""
        return self.start(
            number, *self.dask("worker", "worker"), f"tls://{HEAD}:8786", "--nthreads", "1", "--no-dashboard"
        )

    def scheduler(self):
        from datapipe.preprocess import Scheduler

        certificate, key = self.files["ours"]
        return Scheduler(f"tls://{HEAD}:8786", tls_ca=self.ca, tls_cert=certificate, tls_key=key)

    def client(self):
        """Of the store, once it answers."""
        import boto3

        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{STORE}:5000", timeout=5).close()
                break
            time.sleep(0.1)
        return boto3.client(
            "s3", aws_access_key_id=KEY["key"], aws_secret_access_key=KEY["secret"], **OPTIONS["client_kwargs"]
        )

    def close(self):
        for machine in self.machines:
            machine.lose()


def corpus(folder):
    """Files with exact and near duplicates, drafts and blocked words; a recipe beside them."""
    import random

    from tests.preprocess.conftest import document

    draw = random.Random(7)
    texts = [document(draw, 70, 70) for _ in range(60)]
    texts += texts[:5] + [text + " one more word" for text in texts[5:12]]
    texts += ["DRAFT " + texts[20], "a forbidden word in " + texts[21]]
    (folder / "in").mkdir(parents=True)
    for number in range(6):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[number::6])
        (folder / "in" / f"{number}.jsonl").write_text(lines)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "own.py").write_text(OWN)
    (folder / "words.txt").write_text("forbidden\n")


def sums(files):
    """SHA-256 of published files by path: all but the work folder and what holds times."""
    from tests.preprocess.conftest import published_of

    return {path: hashlib.sha256(data).hexdigest() for path, data in sorted(published_of(dict(files)).items())}


def stored(client, prefix):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    for entry in (entry for page in pages for entry in page.get("Contents", [])):
        data = client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
        yield entry["Key"].removeprefix(prefix), data


def run(driver, output, scheduler, on_progress=None):
    import datapipe

    return datapipe.preprocess(
        f"s3://{BUCKET}/in",
        output,
        driver / "recipe.yaml",
        scheduler=scheduler,
        storage_options=OPTIONS,
        on_progress=on_progress,
    )


def lost(cluster, driver):
    """Machines are lost and added in the first stage and in global passes."""
    done = []

    def disturb(progress):
        moment = None
        if progress.stage == "clean" and progress.done == 2:
            moment = "a cable is cut"
            cluster.workers.pop(11).lose(cable=True)
            cluster.workers[14] = cluster.worker(14)
        elif "pairs" in progress.stage or "near" in progress.stage:
            moment = "a worker process is killed"
            cluster.workers[12].kill_worker()
        elif "shuffle" in progress.stage:
            moment = "a machine is killed"
            cluster.workers.pop(13, None).lose()
        if moment is not None and moment not in [what for what, _ in done]:
            done.append((moment, progress.stage))

    def once(progress):
        known = {what for what, _ in done}
        if len(known) < 3 and not any(stage == progress.stage for _, stage in done):
            disturb(progress)

    summary = run(driver, f"s3://{BUCKET}/out", cluster.scheduler(), once)
    return {"disturbed": done, "tasks_run": summary.tasks_run}


def drive(driver, address, events):
    """The driver as a process of its own, that kills itself at its n-th event."""
    from datapipe.preprocess import Scheduler

    files = json.loads((driver / "scheduler.json").read_text())

    def told(progress):
        nonlocal events
        events -= 1
        if not events:
            os.kill(os.getpid(), signal.SIGKILL)

    summary = run(driver, address, Scheduler(**files), told)
    print(json.dumps({"tasks_run": summary.tasks_run, "tasks_reused": summary.tasks_reused}))


def client_killed(cluster, driver):
    """The driver is killed in the middle, and run again on the same cluster, whose workers have gone on meanwhile."""
    import dataclasses

    (driver / "scheduler.json").write_text(
        json.dumps({f.name: getattr(cluster.scheduler(), f.name) for f in dataclasses.fields(cluster.scheduler())})
    )
    ran = [
        subprocess.run(
            [sys.executable, __file__, str(driver), "drive", str(events)],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        for events in (9, 0)
    ]
    return {"first": ran[0].returncode, **json.loads(ran[1].stdout.splitlines()[-1])}


def main():
    folder, scenario = Path(sys.argv[1]), sys.argv[2]
    if scenario == "drive":
        drive(folder, f"s3://{BUCKET}/out", int(sys.argv[3]))
        return
    import datapipe

    driver = folder / "driver"
    corpus(driver)
    datapipe.preprocess(driver / "in", folder / "local", driver / "recipe.yaml", workers=0)
    expected = sums((str(path.relative_to(folder / "local")), path.read_bytes())
                    for path in (folder / "local").rglob("*") if path.is_file())  # fmt: skip
    cluster = Cluster(folder)
    try:
        client = cluster.client()
        client.create_bucket(Bucket=BUCKET)
        for path in (driver / "in").iterdir():
            client.put_object(Bucket=BUCKET, Key=f"in/{path.name}", Body=path.read_bytes())
        found = {"lost": lost, "client": client_killed}[scenario](cluster, driver)
        objects = list(stored(client, "out/"))
        secrets = [path for path, data in objects if KEY["secret"].encode() in data]
        print(json.dumps({**found, "files": len(expected), "same": sums(objects) == expected, "secrets": secrets}))
    finally:
        cluster.close()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
