"""Word left for a driver: who cannot be stopped is told so, and what nobody takes is taken back."""

from __future__ import annotations

import threading
import time

import pytest

from recorded import record
from sweeps import UsageError, requests


@pytest.fixture
def running(tmp_path):
    """The folder of a sweep whose driver has not written its end."""
    return record(tmp_path / "sweep", finished=False)


def test_a_request_is_taken_once(tmp_path):
    assert requests.taken(tmp_path) == set()
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "explore-003").touch()
    assert requests.taken(tmp_path) == {"explore-003"}
    assert requests.taken(tmp_path) == set()


def test_it_returns_once_the_driver_knows(running):
    heard = []

    def driver():
        deadline = time.monotonic() + 10
        while not heard and time.monotonic() < deadline:
            heard.extend(requests.taken(running))
            time.sleep(0.01)

    thread = threading.Thread(target=driver)
    thread.start()
    requests.stop(running)
    thread.join()
    assert heard == [requests.WHOLE]


def test_a_request_that_nobody_takes_is_taken_back(running, monkeypatch):
    monkeypatch.setattr(requests, "HEEDED_S", 0.3)
    with pytest.raises(UsageError, match=r"no driver is at work on .*`sweeps resume` goes on with it"):
        requests.stop(running)
    assert requests.taken(running) == set()


def test_who_cannot_be_stopped_is_named(running, recorded_sweep):
    with pytest.raises(UsageError, match=r"explore-999 is no trial at work in .*At work: "):
        requests.stop(running, "explore-999")
    with pytest.raises(UsageError, match="explore-000 is no trial at work"):
        requests.stop(running, "explore-000")
    with pytest.raises(UsageError, match="is not running: it is FINISHED"):
        requests.stop(recorded_sweep)
