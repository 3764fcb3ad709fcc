"""What the doctor says of a queue that is served."""

from __future__ import annotations

from heavylift import Client
from tests.integration.client.conftest import Player, Run
from tests.servers import StoreServer


def test_a_served_queue_and_its_quarantine(served: Player, run: Run, client: Client, redis_server: StoreServer) -> None:
    """Who serves it and how much runs is told when all is well; entries that nobody can make sense of are a warning."""
    client.queue("reports").enqueue("annual", {"year": 2026})
    with redis_server.client() as redis:
        redis.lpush("rq:queue:reports", "no job's id")
    assert served.claim() is not None

    found = {
        row["message"]: row["level"] for row in run("doctor", "-o", "json").json if row["check"] == "queue reports"
    }

    assert found == {
        "served by analytics/reports, 1 dispatchers, 1 jobs in flight": "ok",
        "1 bad entries in quarantine (heavylift queues show reports)": "warn",
    }
