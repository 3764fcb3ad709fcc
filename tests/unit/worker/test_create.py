"""The create adapter against scripted answers, on a clock that needs no waiting."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift.contract import failpoints
from heavylift.runtime.kube import KubeReply
from heavylift_worker.answers import Kind
from heavylift_worker.create import HELD, Creator, Pace
from tests.unit.worker.fakes import QuickClock, ScriptedApi, created, job, status

MANIFEST: dict[str, Any] = {"metadata": {"name": "n", "namespace": "a"}}
EXISTS = status(409, "already exists", "AlreadyExists")
BUSY = status(503, "overloaded")


def _creator(*answers: KubeReply | None, rate: float = 100.0) -> tuple[Creator, ScriptedApi, QuickClock]:
    clock = QuickClock()
    api = ScriptedApi(list(answers), clock)
    return Creator(api=api, clock=clock, pace=Pace(rate, clock), pause=clock.pause), api, clock


async def test_created_at_once() -> None:
    """One POST into the manifest's namespace, and its UID."""
    creator, api, clock = _creator(created("u"))

    answer = await creator.create(MANIFEST, "e-1", patience_s=40)

    assert (answer.kind, answer.uid, clock.slept) == (Kind.CREATED, "u", [])
    assert api.seen == [("POST", "/apis/batch/v1/namespaces/a/jobs")]
    assert api.bodies == [MANIFEST]


async def test_lost_reply_meets_its_own_job() -> None:
    """A POST without an answer is sent again under the same name; the conflict is read and found to be ours."""
    creator, api, _ = _creator(None, EXISTS, job("e-1", uid="u"))

    answer = await creator.create(MANIFEST, "e-1", patience_s=40)

    assert (answer.kind, answer.uid, answer.adopted) == (Kind.CREATED, "u", True)
    assert [method for method, _ in api.seen] == ["POST", "POST", "GET"]


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (job("e-1", uid="u"), Kind.CREATED),
        (job("e-9"), Kind.NAME_TAKEN),
        (status(404, "none"), Kind.BUSY),
        (None, Kind.BUSY),
    ],
)
async def test_lost_answers_end_with_a_last_look(seen: KubeReply | None, kind: Kind) -> None:
    """When the patience ends after a lost answer, the Job is looked for before the claim is given up."""
    creator, api, _ = _creator(None, seen)

    answer = await creator.create(MANIFEST, "e-1", patience_s=5)

    assert answer.kind is kind
    assert [method for method, _ in api.seen] == ["POST", "GET"]


async def test_name_taken_is_final() -> None:
    """Somebody else's Job ends it at the first look."""
    creator, api, _ = _creator(EXISTS, job("e-9"))

    assert (await creator.create(MANIFEST, "e-1", patience_s=40)).kind is Kind.NAME_TAKEN
    assert len(api.seen) == 2


async def test_busy_server_is_tried_until_patience_ends() -> None:
    """Retries grow apart and stop before the patience is over, with the last words."""
    creator, api, clock = _creator(BUSY)
    told: list[int] = []

    answer = await creator.create(MANIFEST, "e-1", patience_s=40, retrying=told.append)

    assert (answer.kind, answer.message) == (Kind.BUSY, "overloaded")
    assert 5 <= len(api.seen) <= 14
    assert sum(clock.slept) < 40
    assert max(clock.slept) <= 12
    assert told == [1, -1]


async def test_retry_after_is_obeyed_by_all() -> None:
    """After 429 with Retry-After nothing is sent before that time, by this create or another."""
    creator, _, clock = _creator(status(429, "slow down", retry_after=7), created(), created())
    start = clock.seconds

    await creator.create(MANIFEST, "e-1", patience_s=40)

    assert 7 <= clock.seconds - start < 8
    creator.pace.hold(5)
    await creator.create(MANIFEST, "e-2", patience_s=40)
    assert clock.seconds - start >= 12


async def test_retry_after_beyond_patience_gives_up() -> None:
    """A wait that the patience does not cover is not begun."""
    creator, api, clock = _creator(status(429, "slow down", retry_after=60))

    answer = await creator.create(MANIFEST, "e-1", patience_s=40)

    assert (answer.kind, len(api.seen), clock.slept) == (Kind.BUSY, 1, [])


async def test_a_pace_held_beyond_patience_gives_up() -> None:
    """What the server asked of another create is not waited for longer than the claim may be held."""
    creator, api, clock = _creator(created())
    creator.pace.hold(50)

    answer = await creator.create(MANIFEST, "e-1", patience_s=40)

    assert (answer.kind, answer.message, api.seen, clock.slept) == (Kind.BUSY, HELD, [], [])


async def test_final_answers_are_not_retried() -> None:
    """Refusals come back after one request."""
    for reply, kind in (
        (status(422, "is invalid"), Kind.INVALID),
        (status(403, 'User "u" cannot create resource "jobs"'), Kind.FORBIDDEN),
        (status(403, 'admission webhook "w" denied the request'), Kind.REJECTED),
    ):
        creator, api, _ = _creator(reply)
        assert (await creator.create(MANIFEST, "e-1", patience_s=40)).kind is kind
        assert len(api.seen) == 1


async def test_stopping_ends_the_wait() -> None:
    """When the process ends during a wait, the last answer stands and nothing more is sent."""
    creator, api, _ = _creator(BUSY)

    async def stopping(_seconds: float) -> bool:
        return False

    creator.pause = stopping

    assert (await creator.create(MANIFEST, "e-1", patience_s=40)).kind is Kind.BUSY
    assert len(api.seen) == 1


async def test_pace_spreads_a_burst() -> None:
    """Beyond twice the rate at once, creates wait for their turn."""
    creator, api, clock = _creator(created(), rate=10)
    start = clock.seconds

    for _ in range(50):
        await creator.create(MANIFEST, "e-1", patience_s=40)

    assert len(api.seen) == 50
    assert 2.9 <= clock.seconds - start <= 3.2


async def test_dropped_reply_failpoint_is_a_lost_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failpoint kube.create.reply loses the first answer; the next try adopts."""
    monkeypatch.setenv(failpoints.ENV, "kube.create.reply:drop-reply")
    failpoints.load()
    try:
        creator, api, _ = _creator(created("u"), EXISTS, job("e-1", uid="u"))
        answer = await creator.create(MANIFEST, "e-1", patience_s=40)
    finally:
        monkeypatch.delenv(failpoints.ENV)
        failpoints.load()

    assert (answer.kind, answer.adopted, len(api.seen)) == (Kind.CREATED, True, 3)
