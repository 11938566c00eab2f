"""A cluster of the user's: reached by TLS or not at all, and none of its workers spoils a run."""

import http.client
import urllib.error
import urllib.request

import psutil
import pytest

import datapipe
from datapipe.errors import ConfigError
from datapipe.preprocess import Scheduler, clusters
from tests.preprocess.authority import Authority

NO_LIMITS = {"worker_memory": 0, "batch_seconds": 0}
"""The workers of these tests are threads of this process, which is not to be ended."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def encrypted(authority):
    """A scheduler and a worker that speak TLS alone: the scheduler's address."""
    import distributed

    names = {}
    for role in ("client", "scheduler", "worker"):
        names[f"tls_{role}_cert"], names[f"tls_{role}_key"] = authority.certificate(role)
    security = distributed.Security(require_encryption=True, tls_ca_file=authority.ca, **names)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tls://", host="127.0.0.1", security=security,
        dashboard_address="127.0.0.1:0",
    ) as cluster:  # fmt: skip
        yield cluster.scheduler_address


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
        client.close(timeout=5)
        cluster.close(timeout=5)


def listening(process):
    """(host, port) of every socket that a process and those below it listen on."""
    found = set()
    for each in [process, *process.children(recursive=True)]:
        found |= {tuple(c.laddr) for c in each.net_connections(kind="inet") if c.status == "LISTEN"}
    return found
