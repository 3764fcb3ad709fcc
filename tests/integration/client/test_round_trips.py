"""How often the client asks Redis, and for how long."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from heavylift import Client, InvalidInputError, RedisUnavailableError
from heavylift.store import Store
from heavylift.store.steps import Step

if TYPE_CHECKING:
    from tests.integration.client.conftest import Player

YEAR = {"year": 2026}


def test_a_silent_redis_is_given_up() -> None:
    """A server that takes connections and never answers is an error of the client's own time, not an endless wait."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with (
            Client(url, patience=0.05, timeout=0.05) as client,
            pytest.raises(RedisUnavailableError, match="does not answer in time"),
        ):
            client.queue("reports").enqueue("annual", YEAR)


def test_one_enqueue_is_one_round_trip_and_meets_changed_settings(
    served: Player, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the settings were read Redis is asked once; what changed meanwhile counts, to allow and to refuse."""
    queue = client.queue("reports")
    queue.enqueue("annual", YEAR)
    asked: list[object] = []
    take = Store._take

    def counted(store: Store, step: Step) -> Any:
        asked.append(step)
        return take(store, step)

    monkeypatch.setattr(Store, "_take", counted)
    queue.enqueue("annual", YEAR)
    assert len(asked) == 1
    served.serve("reports", allow={"maxAttempts": 20}, defaults={"priority": -2})
    assert queue.enqueue("annual", YEAR, max_attempts=20).info().priority == -2
    served.serve("reports", allow={"maxAttempts": 3})
    with pytest.raises(InvalidInputError, match="max_attempts is 20, more than the 3"):
        queue.enqueue("annual", YEAR, max_attempts=20)
    assert queue.counts().waiting == 3
