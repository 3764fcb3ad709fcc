"""Records of jobs with several evil fields at once: shown, planned for and judged by dispatchers, never an error."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import example, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from heavylift.contract.keys import Field
from heavylift.store import decode
from heavylift_worker.rejection import after_rejection
from tests.integration.hostile.corpus import FIELDS, SETTINGS, of_field, wrapped
from tests.integration.store.hostilekit import HEAVYQUEUE, carried, planned, shown
from tests.unit.worker.rendering import make_claim

CASES = {field: [evil.value for evil in of_field(field) if len(evil.value) < 10_000] for field in FIELDS}
SOUND: dict[str, bytes] = {
    "status": b"started",
    "origin": b"reports",
    "created_at": b"2026-11-22T10:00:00.000000Z",
    "retry_intervals": b"[1, 2, 3]",
    Field.RQ_ATTEMPTS: b"4",
    Field.EXECUTION: b"abcdefghijklmnop-1",
    Field.PHASE: b"pending",
    Field.FIRST_CLAIM: b"1",
    Field.JOB_UID: b"u",
}
STATUSES = ("started", "queued", "finished", "failed", "canceled", "scheduled", "deferred", "stopped")
RECORDS = st.fixed_dictionaries(
    {"status": st.sampled_from([status.encode() for status in STATUSES])},
    optional={field: st.sampled_from(values) for field, values in CASES.items() if field != "status"},
)
OF_QUEUES = st.sampled_from([decode.obj(evil.value) for evil in wrapped(SETTINGS)])


@given(RECORDS, OF_QUEUES)
@effort(max_examples=150)
def test_records(fields: dict[str, bytes], settings: dict[str, Any]) -> None:
    """Whatever several fields hold, and whatever the settings are, people and operators see a job."""
    found = decode.record("job", {**SOUND, **fields})
    shown(str(fields), found)
    planned(str(fields), found, settings)


@given(RECORDS)
@example({"status": b"started", Field.ATTEMPTS_MADE: b"-999999999999999"})
@effort(max_examples=150)
def test_refused_claims(fields: dict[str, bytes]) -> None:
    """A dispatcher whose Job was refused finds something to do about it, and a delay that can be stored."""
    found = decode.record("job", {**SOUND, **fields})
    claim = make_claim(options=found.options, frozen=found.frozen, attempt=found.attempts_made + 1, memory=found.memory)
    carried(str(fields), claim)
    _, _, delay_ms = after_rejection(claim, HEAVYQUEUE, found, random.Random(1))
    assert 0 <= delay_ms < 2**53
