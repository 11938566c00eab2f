"""A cluster of the user's: reached by TLS or not at all, and none of its workers spoils a run."""

import http.client
import urllib.error
import urllib.request

import psutil
import pytest

import datapipe
from datapipe.errors import ConfigError
from datapipe.preprocess import Scheduler, admission, clusters
from tests.preprocess.authority import Authority
from tests.preprocess.bucket import SECRET

STEPS = [
    "decode",
    "exact_duplicates",
    "near_duplicates",
    {"vocabulary": {"size": 300}},
    "shuffle",
    "tokenize",
    {"pack": {"seq_len": 64}},
]

NO_LIMITS = {"worker_memory": 0, "batch_seconds": 0}
"""The workers of these tests are threads of this process, which is not to be ended."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def cluster(authority):
    """A scheduler and three workers that speak TLS alone."""
    import distributed

    names = {}
    for role in ("client", "scheduler", "worker"):
        names[f"tls_{role}_cert"], names[f"tls_{role}_key"] = authority.certificate(role)
    security = distributed.Security(require_encryption=True, tls_ca_file=authority.ca, **names)
    with distributed.LocalCluster(
        n_workers=3,
        threads_per_worker=1,
        processes=False,
        protocol="tls://",
        host="127.0.0.1",
        security=security,
        dashboard_address="127.0.0.1:0",
    ) as made:
        yield made


@pytest.fixture
def encrypted(cluster):
    return cluster.scheduler_address


def ours(authority, address, **changes):
    certificate, key = authority.certificate("ours")
    return Scheduler(address, **{"tls_ca": authority.ca, "tls_cert": certificate, "tls_key": key, **changes})


def test_a_run_by_tls(encrypted, authority, undisturbed, corpus, tmp_path, tools):
    """Certificates by name, then from Dask's configuration, as its environment variables set it: the same bytes."""
    import dask.config

    scheduler = ours(authority, encrypted)
    datapipe.preprocess(corpus, tmp_path / "a", scheduler=scheduler, overrides=tools.overrides, **NO_LIMITS)
    assert tools.published(tmp_path / "a") == undisturbed[0]
    files = {"ca-file": scheduler.tls_ca, "client.cert": scheduler.tls_cert, "client.key": scheduler.tls_key}
    with dask.config.set({f"distributed.comm.tls.{name}": path for name, path in files.items()}):
        clusters.client_of(Scheduler(encrypted)).close()


def test_workers_that_come_and_go_over_a_store(cluster, encrypted, authority, tools, bucket, tmp_path):
    """Every pass over an object store, a worker lost in each of two and one added: the bytes of one process."""
    corpus = tools.write_corpus(tmp_path / "in", documents=40)
    inputs = bucket.upload(corpus, "machines-from/in")
    recipe = {"steps": STEPS, "output": {"split_bytes": 9000}}
    datapipe.preprocess(corpus, tmp_path / "out", recipe, workers=0)
    stages = []

    def disturb(progress):
        if progress.stage not in stages:
            stages.append(progress.stage)
            if progress.stage in ("pairs", "shuffle"):
                cluster.sync(next(iter(cluster.workers.values())).close)
            elif progress.stage == "clean":
                cluster.scale(4)

    scheduler = ours(authority, encrypted)
    datapipe.preprocess(
        inputs,
        bucket.url("machines"),
        recipe,
        scheduler=scheduler,
        storage_options=bucket.options,
        on_progress=disturb,
        **NO_LIMITS,
    )
    assert {"clean", "pairs", "shuffle"} <= set(stages)
    objects = bucket.objects("machines")
    assert tools.published_of(objects) == tools.published(tmp_path / "out")
    assert not [path for path in objects if path.startswith("_work/here-")]
    assert not [path for path, data in objects.items() if SECRET.encode() in data]


def test_a_worker_that_is_not_fit_ends_the_run(encrypted, authority, corpus, tmp_path, monkeypatch):
    """… before its first task, in words; nothing is published, and no sign of the run is left."""
    mine = admission.software()
    monkeypatch.setattr(admission, "software", lambda: {**mine, "polars": "0.1"} if mine in asked else mine)
    asked = []
    real = admission.Admission.put_sign
    monkeypatch.setattr(admission.Admission, "put_sign", lambda self: (real(self), asked.append(mine)))
    with pytest.raises(ConfigError, match=r"has polars 0\.1 \(not .*; so for . of . workers"):
        datapipe.preprocess(corpus, tmp_path / "out", scheduler=ours(authority, encrypted), **NO_LIMITS)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list((tmp_path / "out" / "_work").glob("here-*"))


def test_who_is_kept_out(encrypted, authority, tmp_path, monkeypatch):
    """No certificate, one of another authority, a scheduler that ours did not sign, files that are no certificates."""
    monkeypatch.setattr(clusters, "TIMEOUT", 1)
    with pytest.raises(ConfigError, match="without --tls-ca, --tls-cert, --tls-key"):
        clusters.client_of(Scheduler(encrypted))
    with pytest.raises(ConfigError, match="no answer"):
        clusters.client_of(Scheduler(encrypted.replace("tls://", "tcp://")))
    other = Authority(tmp_path / "other")
    certificate, key = other.certificate("stranger")
    with pytest.raises(ConfigError, match="no answer"):
        clusters.client_of(ours(authority, encrypted, tls_cert=certificate, tls_key=key))
    with pytest.raises(ConfigError, match="no answer"):
        clusters.client_of(ours(authority, encrypted, tls_ca=other.ca))
    with pytest.raises(ConfigError, match="cannot be used"):
        clusters.client_of(ours(authority, encrypted, tls_key=key))


def test_a_cluster_of_our_own_lets_nobody_in(monkeypatch, authority, tmp_path):
    """All its processes listen on loopback alone; its scheduler speaks to none without its key, and not over HTTP."""
    before = listening(psutil.Process())
    client, cluster = clusters.local_cluster(1)
    try:
        found = listening(psutil.Process()) - before
        assert found
        assert {host for host, _ in found} == {"127.0.0.1"}
        monkeypatch.setattr(clusters, "TIMEOUT", 1)
        address = cluster.scheduler_address
        for stranger in (Scheduler(address.replace("tls://", "tcp://")), ours(authority, address)):
            with pytest.raises(ConfigError, match="no answer"):
                clusters.client_of(stranger)
        for _, port in found:
            for path in ("info/main/workers.html", "json/counts.json", "metrics", "status", "api/v1/get_workers", ""):
                with pytest.raises((urllib.error.HTTPError, OSError, http.client.HTTPException)):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=2)
    finally:
        client.close(timeout=60)
        cluster.close(timeout=60)


def listening(process):
    """(host, port) of every socket that a process and those below it listen on."""
    found = set()
    for each in [process, *process.children(recursive=True)]:
        found |= {tuple(c.laddr) for c in each.net_connections(kind="inet") if c.status == "LISTEN"}
    return found
