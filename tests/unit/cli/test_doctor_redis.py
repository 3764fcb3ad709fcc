"""What the doctor makes of a Redis, by what that says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift.cli.doctor import redis_findings
from heavylift.cli.finding import Level

SOUND: dict[str, Any] = {
    "server": "valkey", "version": "9.0.3", "role": "master", "persistence": "aof", "maxmemory_policy": "noeviction",
    "used_memory": 800, "maxmemory": 1000, "skew_ms": -2000,
}  # fmt: skip


@pytest.mark.parametrize(
    ("check", "said", "level", "words"),
    [
        ("redis version", {"server": "redis", "version": "6.0.16"}, Level.WARN, "redis 6.0.16: "),
        ("redis role", {"role": "slave"}, Level.FAIL, "it takes no writes: connect to the primary"),
        ("redis role", {"role": "unknown"}, Level.OK, "unknown"),
        ("redis persistence", {"persistence": "rdb"}, Level.WARN, "set appendonly yes"),
        ("redis persistence", {"persistence": "none"}, Level.FAIL, "a restart loses every job"),
        ("redis persistence", {"persistence": "unknown"}, Level.WARN, "make sure that it is on"),
        ("redis maxmemory-policy", {"maxmemory_policy": "allkeys-lru"}, Level.FAIL, "CONFIG SET maxmemory-policy"),
        ("redis maxmemory-policy", {"maxmemory_policy": "unknown"}, Level.WARN, "make sure that it is noeviction"),
        ("redis memory", {"used_memory": 900}, Level.WARN, "900 of 1,000 bytes used: enqueues will fail soon"),
        ("redis memory", {"used_memory": 899}, Level.OK, "899 of 1,000 bytes used"),
        ("clocks", {"skew_ms": 2001}, Level.WARN, "ahead of this machine's: run NTP on both"),
        ("clocks", {"skew_ms": -2001}, Level.WARN, "behind this machine's: run NTP on both"),
    ],
)
def test_each_thing_that_is_wrong_is_a_finding(check: str, said: dict[str, Any], level: Level, words: str) -> None:
    """With how bad it is and what to do; the other checks stay as they are."""
    findings = list(redis_findings(SOUND | said))

    found = {finding.check: finding for finding in findings}
    assert found[check].level is level
    assert words in found[check].message
    assert [finding.check for finding in findings if finding.level is not Level.OK] == (
        [check] if level is not Level.OK else []
    )


def test_a_sound_redis() -> None:
    """All is well, and what cannot be judged (no limit of memory, no clock) is left out."""
    checks = ["redis version", "redis role", "redis persistence", "redis maxmemory-policy", "redis memory", "clocks"]
    assert [(finding.check, finding.level) for finding in redis_findings(SOUND)] == [(one, Level.OK) for one in checks]
    assert [finding.check for finding in redis_findings(SOUND | {"maxmemory": 0, "skew_ms": None})] == checks[:4]
