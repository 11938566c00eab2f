"""Dask clusters: one of this machine's own, made for a run, or one of the user's.

What enters: how many processes, or a `Scheduler`. What leaves: a client, and the cluster if it was made here.
Invariant: what is made here listens on this machine's loopback alone, has no dashboard, and lets nobody in who has not
the key that was made for it, in memory: other users of the machine reach its loopback too, and whoever speaks to a
scheduler runs code. A scheduler of the user's is spoken to only if `Scheduler` lets it.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError, PreprocessError
from datapipe.preprocess.execute import WORKER_ENVIRONMENT
from datapipe.preprocess.scheduler import ENCRYPTED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.preprocess.scheduler import Scheduler

ASKED: Final = 2
"""Seconds for the page of a dashboard to answer."""
TIMEOUT: Final = 20
"""Seconds for a scheduler to answer, and for its first worker to be there."""
_MALLOC: Final = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
"""glibc gives memory back when this much is free. Dask's own setting (64 KiB) also fixes the size from which each array
is mapped and unmapped at 128 KiB: the kernel then zeroes every page of every numpy array (a third of the CPU time of
the quality rules, measured)."""


def _settings() -> dict[str, Any]:
    return {
        # A task is not given to a second worker: it is looked at first (`DaskEngine`).
        "distributed.scheduler.allowed-failures": 0,
        "distributed.scheduler.worker-saturation": 1.0,
        # A worker that is silent is ended by `silence`: Dask would do it before a task's time is up, uncounted.
        "distributed.scheduler.worker-ttl": None,
        "distributed.nanny.environ": WORKER_ENVIRONMENT,
        # Polars counts its threads at import, so these must be there before the process runs any Python.
        "distributed.nanny.pre-spawn-environ": {**WORKER_ENVIRONMENT, **_MALLOC},
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.worker.profile.enabled": False,
        "distributed.worker.preload": ["datapipe.preprocess.worker_process"],
        "distributed.comm.timeouts.connect": "20s",
        "distributed.comm.require-encryption": True,
        # Nothing is told over HTTP, which asks nobody who they are.
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        "distributed.nanny.http.routes": [],
    }


def local_cluster(count: int) -> tuple[Any, Any]:
    """A client and its new cluster of `count` processes on this machine.

    Raises:
        PreprocessError: they did not start. ConfigError: there is no Dask.
    """
    dask, distributed = _dask()
    with quiet(), dask.config.set(_settings()):
        try:
            cluster = distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                # Dask would pause and spill by a limit of its own; it holds nothing, and tasks are watched (`limits`).
                memory_limit=0,
                processes=True,
                # No dashboard, and its web server on a free port of this machine alone.
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                host="127.0.0.1",
                protocol="tls://",
                security=_throwaway(distributed),
                silence_logs=logging.CRITICAL,
            )
        except (RuntimeError, OSError) as error:
            raise PreprocessError(
                f"the worker processes did not start ({error})",
                expected="a script that can be imported: worker processes import it",
                fix="put the call under `if __name__ == '__main__':`, or give workers=0",
            ) from error
        try:
            client = distributed.Client(cluster, set_as_default=False)
        except BaseException:
            cluster.close(timeout=5)
            raise
    return client, cluster


def _throwaway(distributed: Any) -> Any:
    """A certificate for this cluster alone: its key is in no file."""
    try:
        return distributed.Security.temporary()
    except ImportError as error:
        raise _incomplete(error) from None


def client_of(scheduler: Scheduler) -> Any:
    """A client of a scheduler of the user's that has a worker at least.

    Raises:
        ConfigError: it may not be spoken to, does not answer, or has no worker. InputError: a file for TLS is not
            there.
    """
    address = scheduler.checked()
    scheduler.check_files()
    _, distributed = _dask()
    security = _security(scheduler, address) if address.partition("://")[0] in ENCRYPTED else None
    try:
        with quiet():
            client = distributed.Client(address, set_as_default=False, timeout=TIMEOUT, security=security)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"scheduler {address}: no answer ({error})",
            expected="a Dask scheduler, such as tls://host:8786"
            + (", whose certificate the authority of --tls-ca signed, as it did ours" if security else ""),
            fix=(
                ""
                if security
                else f"if it speaks TLS: tls://{address.partition('://')[2]}, with the files of --tls-ca,"
                " --tls-cert and --tls-key; else "
            )
            + "start one with `dask scheduler`, or leave --scheduler out",
        ) from None
    try:
        client.wait_for_workers(1, timeout=TIMEOUT)
    except TimeoutError:
        client.close(timeout=5)
        raise ConfigError(
            f"scheduler {address} has no worker",
            expected="at least one",
            fix=f"start them with `dask worker {address} --nthreads 1 --nworkers -1`",
        ) from None
    return client


def dashboard_of(client: Any) -> str | None:
    """Where a scheduler shows itself to a browser; None where it does not.

    A scheduler without a dashboard says that it has one, as it serves other pages at that port: its page is not there.
    """
    import urllib.error
    import urllib.request

    if "dashboard" not in client.scheduler_info().get("services", {}):
        return None
    link = str(client.dashboard_link)
    if not link.startswith(("http://", "https://")):
        return link  # a path below the page of whoever configured it so
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(urllib.request.Request(link, method="HEAD"), timeout=ASKED).close()  # noqa: S310  (checked above)
    except urllib.error.HTTPError as error:
        error.close()
        return None if error.code == HTTPStatus.NOT_FOUND else link  # of the page itself only GET is answered
    except urllib.error.URLError as error:
        return link if isinstance(error.reason, ssl.SSLError) else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return link


def _security(scheduler: Scheduler, address: str) -> Any:
    """What Dask is to present to a scheduler by TLS: the files that were named, else those of its configuration."""
    security_type: Any = _dask()[1].Security

    given = {name: path for name, path in scheduler.tls_files().items() if path is not None}
    if "tls_client_cert" in given and "tls_client_key" not in given:
        given["tls_client_key"] = given["tls_client_cert"]
    security = security_type(require_encryption=True, **given)
    missing = [flag for flag, value in _asked(security).items() if not value]
    if missing:
        raise ConfigError(
            f"scheduler {address}, without {', '.join(missing)}",
            expected="the authority's certificate, a certificate of this client's, and its key (PEM files)",
            fix="name them, or set DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__TLS__CLIENT__CERT and …__TLS__CLIENT__KEY",
        )
    try:
        security.get_connection_args("client")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the files for TLS cannot be used ({error})",
            expected="PEM files: a certificate, its own key without a password, the authority's certificate",
            fix="check which file is which: `openssl x509 -in CERT -text`",
        ) from None
    return security


def _asked(security: Any) -> dict[str, str | None]:
    return {
        "--tls-ca": security.tls_ca_file,
        "--tls-cert": security.tls_client_cert,
        "--tls-key": security.tls_client_key,
    }


def _dask() -> tuple[Any, Any]:
    try:
        import dask.config
        import distributed
    except ImportError as error:
        raise _incomplete(error) from None
    return dask, distributed


def _incomplete(error: ImportError) -> ConfigError:
    return ConfigError(
        f"Dask is not installed, or not all that it needs ({error})",
        expected="the preprocess extra",
        fix="pip install 'datapipe-toolkit[preprocess]', or --workers 0",
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Dask's loggers say nothing below an error of ours: what fails is raised."""
    names = (
        "distributed",
        "distributed.client",
        "distributed.nanny",
        "distributed.worker",
        "distributed.scheduler",
        "distributed.core",
        "tornado",
    )
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
