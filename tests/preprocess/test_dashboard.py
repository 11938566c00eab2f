"""What a user is told of a scheduler of his: where its dashboard is, if it has one, and that it may speak TLS."""

import contextlib
import http.server
import threading
from types import SimpleNamespace

import pytest

from datapipe.errors import ConfigError
from datapipe.preprocess import Scheduler, clusters


@contextlib.contextmanager
def served(code):
    """The address of a page of a server that answers so."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_):
            """Nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/status"
        finally:
            server.shutdown()
            thread.join()


def client(link, **services):
    return SimpleNamespace(scheduler_info=lambda: {"services": services}, dashboard_link=link)


@pytest.mark.parametrize(("code", "there"), [(200, True), (405, True), (403, True), (404, False)])
def test_a_dashboard_is_told_if_it_is_there(code, there, monkeypatch):
    """`dask scheduler --no-dashboard` says that it has one, at a port where its page is not found."""
    monkeypatch.setattr(clusters, "ASKED", 60)  # a busy machine answers late
    with served(code) as link:
        assert clusters.dashboard_of(client(link, dashboard=8787)) == (link if there else None)
        assert clusters.dashboard_of(client(link)) is None
    assert clusters.dashboard_of(client(link, dashboard=8787)) is None
    assert clusters.dashboard_of(client("/user/me/proxy/8787/status", dashboard=8787)) == "/user/me/proxy/8787/status"


def test_a_scheduler_that_hangs_up_may_speak_tls(monkeypatch):
    """One that does resets a plain connection; of one that was asked by TLS nothing of the kind is said."""

    def refuse(*_, **__):
        raise OSError("Connection reset by peer")

    monkeypatch.setattr(clusters, "_dask", lambda: (None, SimpleNamespace(Client=refuse)))
    with pytest.raises(ConfigError, match=r"no answer \(Connection reset by peer\)") as raised:
        clusters.client_of(Scheduler("tcp://127.0.0.1:8786"))
    assert "if it speaks TLS: tls://127.0.0.1:8786, with the files of --tls-ca, --tls-cert and" in str(raised.value)
    monkeypatch.setattr(clusters, "_security", lambda *_: object())
    with pytest.raises(ConfigError) as raised:
        clusters.client_of(Scheduler("tls://127.0.0.1:8786"))
    assert "if it speaks TLS" not in str(raised.value)
