"""The entry in RQ's registry: trouble there costs visibility, for as long as it lasts."""

from __future__ import annotations

import threading

import pytest

from heavylift_worker import registration
from heavylift_worker.registration import Registration
from heavylift_worker.settings import DispatcherSettings

LIMIT_S = 20.0


@pytest.mark.parametrize("error", [TypeError("None is no bytes"), KeyError("x"), ConnectionResetError("reset")])
def test_whatever_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """An error of any kind, RQ's own included, ends neither the thread nor the trying."""
    failures, again = [error] * 4, threading.Event()

    def step(_: Registration) -> None:
        if failures:
            raise failures.pop()
        again.set()

    monkeypatch.setattr(registration, "_RETRY_S", 0.0)
    monkeypatch.setattr(Registration, "_round", step)
    shown = Registration(DispatcherSettings(redis_url="redis://r", install_id="i/1", namespaces=("analytics",)))
    shown.start()
    try:
        assert again.wait(LIMIT_S)
    finally:
        shown.stop()
