"""Malformed entries as a hostile producer leaves them: never executed, each told of, shown truly by RQ's tools."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from heavylift.cli.app import main
from heavylift.cli.exits import Exit
from heavylift.contract.keys import Field, Keys
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.store import Claim, Fence, FinishRequest, Next, Verdict, ops
from tests.integration.hostile.corpus import WRITES, every_key
from tests.integration.hostile.entries import CANARY_MODULE, End, entries
from tests.integration.store.hostilekit import all_claims, carried
from tests.integration.store.kit import QUEUE, WORKER, World, outcome


def _canaries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Make a module whose import leaves a file; return that file and the one that an evil pickle would create."""
    imported = folder / "imported"
    (folder / f"{CANARY_MODULE}.py").write_text(f"open({str(imported)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(folder)
    return folder / "canary", imported


def _end(w: World, claim: Claim, why: str) -> None:
    cls, next_ = (OutcomeClass.INVALID, Next.FAIL) if why else (OutcomeClass.SUCCEEDED, Next.COMPLETE)
    fence = Fence(job=claim.job, execution=claim.execution, worker=WORKER)
    request = FinishRequest(fence=fence, outcome=outcome(cls, why or "done"), next=next_, job_exists=False)
    assert w.run(ops.finish(request)).verdict is Verdict.APPLIED


def _told(w: World, job: str, end: End, words: str) -> bool:
    """Whether a bad entry has become what it must."""
    if end is End.QUARANTINED:
        return any(note["message"] and note["id"] == job[:200] for note in w.run(ops.quarantine(QUEUE, 1000)))
    if end is End.DROPPED:
        return any(event.name == "dropped" and event.job == job and event.fields["reason"] for event in w.events())
    found = w.job(job)
    wanted = (JobState.COMPLETED, "succeeded") if end is End.RUNS else (JobState.FAILED, "invalid")
    return (found.state, found.outcome["class"]) == wanted and words in found.outcome["message"]


def test_malformed_entries(w: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All kinds in one queue: none is executed, each becomes what it must, and a good job among them runs."""
    canary, imported = _canaries(tmp_path, monkeypatch)
    kinds = entries(str(canary))
    placed: dict[str, str] = {}
    good: list[str] = []
    for number, (kind, entry) in enumerate(kinds.items()):
        placed[kind] = entry.place(w.redis, QUEUE, f"bad-{number}")
        good.append(w.enqueue().id)
    claims = {claim.job: claim for claim in all_claims(w)}
    assert set(good) <= claims.keys()
    for job, claim in claims.items():
        _end(w, claim, carried(job, claim))
    for kind, entry in kinds.items():
        assert _told(w, placed[kind], entry.end, entry.words), f"{kind}: it {entry.end.value}"
    counters = w.run(ops.counters(QUEUE))
    ends = [entry.end for entry in kinds.values()]
    assert counters["quarantined"] == ends.count(End.QUARANTINED)
    assert counters["dropped"] == ends.count(End.DROPPED)
    assert counters["outcome:invalid:1"] == ends.count(End.INVALID)
    assert w.idle()
    _rq_sees(w, {placed[kind]: entry.end for kind, entry in kinds.items()})
    assert not canary.exists()
    assert not imported.exists()
    assert CANARY_MODULE not in sys.modules


def _rq_sees(w: World, placed: Mapping[str, End]) -> None:
    """Assert that RQ's tools show the true state of each."""
    queue = Queue(QUEUE, connection=w.redis, serializer=JSONSerializer)
    invalid = {job for job, end in placed.items() if end is End.INVALID}
    assert queue.count == 0
    assert set(queue.failed_job_registry.get_job_ids()) == invalid
    for job in invalid:
        if not w.redis.hexists(f"rq:job:{job}", "data"):
            continue  # RQ takes none for a job
        assert Job.fetch(job, connection=w.redis, serializer=JSONSerializer).is_failed


OPTIONS = {
    "hexadecimal": '{"maxAttempts":0x5}',
    "infinite": '{"maxAttempts":1e999}',
    "not a number": '{"maxAttempts":NaN}',
    "deep": '{"labels":' + "[" * 990 + "]" * 990 + "}",
    "a list": "[1]",
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_options_that_only_some_can_read_are_not_dropped_silently(w: World, kind: str) -> None:
    """What the script can read and the dispatcher cannot, or must not use, ends the job as invalid."""
    job = w.enqueue().id
    w.redis.hset(f"rq:job:{job}", Field.OPTIONS, OPTIONS[kind])
    (claim,) = w.ask().claims
    assert carried(kind, claim)


def test_a_reply_that_something_else_wrote_is_not_handed_out(w: World) -> None:
    """A dispatcher that asks again under its request's id gets claims of the script's own, or new ones."""
    for reply in (b"", b"\xff\xfe", b"\x93\x01", b"\xc1" * 100, b"\x01"):
        w.redis.hset(f"heavylift:replies:{WORKER}", mapping={"request": "again", "reply": reply})
        job = w.enqueue().id
        assert [claim.job for claim in w.ask(request="again").claims] == [job]


COMMANDS = (
    ("doctor",),
    ("queues", "list"),
    ("queues", "show", QUEUE),
    ("jobs", "list", "--queue", QUEUE),
    ("jobs", "show", "job"),
    ("jobs", "why", "job"),
    ("schedules", "list"),
)


@pytest.mark.parametrize("kind", ["zset", "string", "list"])
def test_commands_over_junk(w: World, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With junk at every key there is, each command ends with a sentence and an exit code, none with a traceback."""
    url = w.server.url
    for key in every_key(Keys()).values():
        w.redis.delete(key)
        WRITES[kind](w.redis, key)
    for command in COMMANDS:
        code = main(["--redis", url, *command])
        said = capsys.readouterr()
        assert code != Exit.BUG, f"{command}: {said.err}"
        assert said.out or said.err, command
        assert "\x1b]" not in said.out + said.err
