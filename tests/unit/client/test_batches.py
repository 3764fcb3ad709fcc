"""What entries of a batch share is checked once, and only what is the same counts as shared."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift import Backoff, Dedupe, HeavyliftError, JobRequest, Timeouts
from heavylift.allowed import Admission
from heavylift.batches import Maker
from heavylift.requests import draft, request
from heavylift.store import ops
from heavylift.store.ops.jobs import entry

SETTINGS: dict[str, Any] = {
    "allow": {"minPriority": -10, "maxAttempts": 5, "env": ["A"], "delay": 3_600_000},
    "defaults": {"priority": 3},
}
ALL: dict[str, Any] = {
    "priority": -5, "lifo": True, "key": "k", "dedupe": Dedupe("d", ttl="1m"), "expires": "24h", "max_attempts": 2,
    "backoff": Backoff.fixed("2s"), "timeouts": Timeouts(run="5m"), "env": {"A": "b"}, "delay": "1s",
}  # fmt: skip


def maker(settings: dict[str, Any] | None = None) -> Maker:
    """Return one for a queue with these settings."""
    return Maker("q", Admission.of(SETTINGS if settings is None else settings), strict=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"id": "a"},
        ALL,
        {"dedupe": "d"},
        {"dedupe": Dedupe("d", mode="keep_last"), "id": "a"},
        {"dedupe": Dedupe("d", mode="debounce", ttl="5s"), "id": "a"},
        {"priority": 0, "key": None, "id": "a", "if_exists": "return"},
        {"depends_on": ["a", "b"], "id": "c"},
    ],
)
def test_an_entry_of_a_batch_is_as_one_enqueued_alone(options: dict[str, Any]) -> None:
    """The script is told the same, whichever way a job came; ids and tokens that are drawn aside."""
    single = entry(request(draft("annual", {"y": 1}, options), "q", SETTINGS, strict=True))
    made = maker()
    for _ in range(2):
        found = made.entry(JobRequest("annual", {"y": 1}, **options))
        assert (found.header, found.work) == (single.header, single.work)
        parts, wanted = found.own.split(b"\0", 8), single.own.split(b"\0", 8)
        assert parts[2:] == wanted[2:]
        assert bool(parts[1]) == bool(wanted[1])
        assert "id" not in options or parts[0] == wanted[0]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"max_attempts": 1}, {"max_attempts": True}),
        ({"max_attempts": 1}, {"max_attempts": 1.0}),
        ({"max_attempts": 5}, {"max_attempts": 6}),
        ({"env": {"A": "1"}}, {"env": {"A": 1}}),
        ({"env": {"A": "1"}}, {"env": {"B": "1"}}),
        ({"priority": 1}, {"priority": True}),
        ({"priority": -10}, {"priority": -11}),
        ({"lifo": True}, {"lifo": 1}),
        ({"key": "a"}, {"key": "a\n"}),
        ({"delay": 1}, {"delay": True}),
        ({"delay": "1h"}, {"delay": "2h"}),
        ({"dedupe": "a"}, {"dedupe": 1}),
        ({"id": "a"}, {"id": 1}),
    ],
)
def test_what_only_looks_the_same_is_checked_by_itself(good: dict[str, Any], bad: dict[str, Any]) -> None:
    """An option that was good before lets nothing through that equals it and is not it."""
    made = maker()
    made.entry(JobRequest("annual", **good))
    with pytest.raises(HeavyliftError):
        made.entry(JobRequest("annual", **bad))


def test_entries_that_share_a_header_send_it_once() -> None:
    """Keys, priorities and ids of their own do not make entries another header's."""
    made = maker()
    entries = [
        made.entry(JobRequest("annual", {"n": n}, priority=n, key=f"k{n}", dedupe=f"d{n}", max_attempts=2))
        for n in range(4)
    ]
    assert ops.enqueue_call(entries).args == (entries[0].header, *(each.own for each in entries))
    other = made.entry(JobRequest("annual", max_attempts=3))
    assert ops.enqueue_call([*entries, other]).args[5:] == (other.header, other.own)
