"""Reads that nobody wants any more end at once, and no others."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from datapipe.errors import ClosedError
from datapipe.storage.cancelling import ReadScope, result_of


def test_closing_a_scope_ends_what_waits_in_it_and_what_comes_later():
    scope, future, began = ReadScope(), Future(), threading.Event()
    met = []

    def read():
        with scope.entered():
            began.set()
            try:
                result_of(future)
            except ClosedError as error:
                met.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    began.wait()
    scope.close()
    thread.join(60)
    assert not thread.is_alive()
    assert len(met) == 1
    assert future.cancelled()
    with scope.entered(), pytest.raises(ClosedError):
        result_of(Future())


def test_scopes_do_not_meddle_with_each_other():
    one, other, future = ReadScope(), ReadScope(), Future()
    future.set_result(3)
    one.close()
    with one.entered(), other.entered():
        assert result_of(future) == 3
    assert result_of(future) == 3


def test_an_open_scope_passes_on_results_errors_and_others_cancelling():
    done, failed, cancelled = Future(), Future(), Future()
    done.set_result(1)
    failed.set_exception(OSError("away"))
    cancelled.cancel()
    with ReadScope().entered():
        assert result_of(done) == 1
        with pytest.raises(OSError, match="away"):
            result_of(failed)
        with pytest.raises(BaseException) as caught:
            result_of(cancelled)
    assert not isinstance(caught.value, ClosedError)
