"""A queue's settings for people: units in place of milliseconds, and nothing that cannot be read stops it."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift.cli.plainly import plain_row

AT = 1795341600000
BACKOFF = {"type": "Exponential", "delay": 60_000, "max": 3_600_000, "jitterPercent": 50}


@pytest.mark.parametrize(
    ("row", "want"),
    [
        ({"name": "reports", "waiting": 3}, {"name": "reports", "waiting": 3}),
        ({"paused": "HeavyQueue", "pause": {}}, {"paused": "HeavyQueue"}),
        (
            {"paused": "ada", "pause": {"by": "ada", "at": AT, "reason": "upgrade"}},
            {"paused": "by ada since 2026-11-22T10:00:00Z: upgrade"},
        ),
        ({"rateLimit": {}}, {"rateLimit": ""}),
        (
            {"rateLimit": {"limit": 100, "periodMs": 60_000, "left": 0, "nextMs": 1500}},
            {"rateLimit": "100 in 1m; 0 left now, the next in 1s500ms"},
        ),
        (
            {"rateLimit": {"limit": 100, "periodMs": 60_000, "left": 7, "nextMs": 0}},
            {"rateLimit": "100 in 1m; 7 left now"},
        ),
        (
            {"rateLimit": {"limit": None, "periodMs": None, "left": 0, "nextMs": 30_000}},
            {"rateLimit": "held back by a job that raised RateLimited, the next in 30s"},
        ),
        (
            {"defaults": {"priority": 0, "maxAttempts": 1, "backoff": BACKOFF}},
            {"defaults": "priority 0, maxAttempts 1, backoff (type Exponential, delay 1m, max 1h, jitterPercent 50)"},
        ),
        (
            {"timeoutsMs": {"pending": 3_600_000, "run": 86_400_000, "heartbeat": None}},
            {"timeouts": "pending 1h, run 24h"},
        ),
        (
            {"allow": {"args": False, "env": ["A", "B"], "labels": [], "resources": {"memory": "16Gi"}, "delay": 0}},
            {"allow": "args no, env A B, resources (memory 16Gi), delay 0s"},
        ),
        (
            {"troubles": {"quota": {"message": "no room", "at": AT}}},
            {"trouble quota": "no room (2026-11-22T10:00:00Z)"},
        ),
        (
            {"lastQuarantined": [{"id": "x", "message": "no hash"}, {}]},
            {"bad entry 1": "'x': no hash", "bad entry 2": "no details"},
        ),
        ({"timeoutsMs": 7, "defaults": None, "allow": "all"}, {"timeouts": "7", "defaults": "", "allow": "all"}),
        ({"timeoutsMs": {"run": -1, "total": True, "pending": "x"}}, {"timeouts": "run -1, total yes, pending x"}),
    ],
)
def test_settings_in_words(row: dict[str, Any], want: dict[str, Any]) -> None:
    """Each part of a queue's row is one short line."""
    assert plain_row(row) == want


def test_settings_nested_without_end_are_one_line() -> None:
    """Whoever writes to Redis cannot make the command fail by depth."""
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"a": deep, "b": 1}
    assert plain_row({"allow": deep})["allow"].startswith("a (a (a ({")
