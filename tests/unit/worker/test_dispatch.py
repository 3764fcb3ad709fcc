"""One claim's way, each row of the answer table: what the store is told, and what the gate learns."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import pytest

from heavylift.contract import payload
from heavylift.errors import RedisUnavailableError
from heavylift.runtime.kube import KubeReply
from heavylift.spec.models import HeavyQueue
from heavylift.store.model import Claim, FinishReply, Reply, Verdict
from heavylift_worker.breaker import State
from heavylift_worker.create import Creator, Pace
from heavylift_worker.dispatch import Dispatch
from heavylift_worker.gate import Gate
from heavylift_worker.metrics import Metrics
from heavylift_worker.queues import QueueCache
from heavylift_worker.settings import DispatcherSettings
from heavylift_worker.troubles import Troubles
from tests.unit.worker.fakes import QuickClock, ScriptedApi, ScriptedStore, created, job, status
from tests.unit.worker.rendering import make_claim, make_queue

EXISTS = status(409, "already exists", "AlreadyExists")
QUOTA = status(403, "jobs.batch is forbidden: exceeded quota: q", "Forbidden")
RBAC = status(403, 'User "u" cannot create resource "jobs"', "Forbidden")
FINISHED = FinishReply(verdict=Verdict.APPLIED)
DATA = payload.encode("annual", {"year": 2026})


class Bench:
    """A Dispatch whose outside is scripted."""

    def __init__(
        self, *answers: KubeReply | None, store: Mapping[str, Any] | None = None, queue: HeavyQueue | None = None
    ) -> None:
        self.clock = QuickClock()
        self.api = ScriptedApi(list(answers), self.clock)
        self.store = ScriptedStore({"finish": FINISHED, **(store or {})})
        self.settings = DispatcherSettings(redis_url="redis://r", install_id="i/1", namespaces=("analytics",))
        self.gate = Gate(2, 30.0, self.clock.monotonic)
        self.stopping = False
        cache = QueueCache()
        self.queue = queue or make_queue()
        cache._found[("analytics", "reports")] = self.queue
        self.dispatch = Dispatch(
            link=self.store,
            creator=Creator(api=self.api, clock=self.clock, pace=Pace(100, self.clock), pause=self._pause),
            cache=cache,
            gate=self.gate,
            troubles=Troubles(self.store.run, "w1", self.clock),
            metrics=Metrics(),
            settings=self.settings,
            clock=self.clock,
            stopping=lambda: self.stopping,
        )

    async def _pause(self, seconds: float) -> bool:
        await self.clock.sleep(seconds)
        return not self.stopping

    def claim(self, **values: Any) -> Claim:
        """Return a claim of the bench's queue, its deadline a minute away."""
        return make_claim(**{"data": DATA, "deadline": self.clock.now_ms() + 60_000, **values})

    async def handle(self, **values: Any) -> list[str]:
        """Handle a claim; return the scripts called."""
        await self.dispatch.handle(self.claim(**values))
        return self.store.scripts

    def finished(self) -> tuple[str, str, str, str]:
        """Return (next, spend, class, body) of the only finish."""
        args = self.store.call("finish").args
        next_, spend, cls, *_ = str(args[4]).split()
        return next_, spend, cls, str(args[5])


async def test_created_is_recorded() -> None:
    """Checked, created, recorded with name and UID, and old notes taken away."""
    bench = Bench(created("u-9"))

    scripts = await bench.handle()

    assert scripts[:2] == ["check", "record"]
    assert bench.store.call("record").args[:4] == ("j1", "abcdefghijklmnop-1", "w1", "u-9")
    assert str(bench.store.call("record").args[4]).startswith("reports-")
    assert bench.api.bodies[0]["metadata"]["namespace"] == "analytics"


@pytest.mark.parametrize("found", [{}, {"deletionTimestamp": "x"}, {"labels": {"heavylift.dev/finalized": "true"}}])
async def test_conflict_with_our_own_is_recorded(found: dict[str, Any]) -> None:
    """A Job of this execution that stands there, whatever became of it, is recorded."""
    bench = Bench(EXISTS, job("abcdefghijklmnop-1", uid="old", **found))

    await bench.handle()

    assert bench.store.call("record").args[3] == "old"


async def test_name_taken_is_rejected_for_good() -> None:
    """Somebody else's Job is left alone and the job fails as rejected, whatever the queue's rule says."""
    bench = Bench(EXISTS, job("other-1"), queue=make_queue(outcomes={"rejected": {"action": "Requeue"}}))

    await bench.handle()

    next_, _, cls, body = bench.finished()
    assert (next_, cls) == ("fail", "rejected")
    assert "name taken" in body
    assert [method for method, _ in bench.api.seen] == ["POST", "GET"]


@pytest.mark.parametrize(
    "reply", [QUOTA, status(404, 'namespaces "x" not found'), status(503, "x"), status(429, "x"), None]
)
async def test_retryable_answers_release_in_the_end(reply: KubeReply | None) -> None:
    """After its patience the job goes back to the front, no attempt spent; the namespace's breaker counts it."""
    bench = Bench(reply)
    start = bench.clock.seconds

    scripts = await bench.handle()

    assert scripts == ["check", "release"]
    assert bench.store.call("release").args[5] == 0
    assert bench.clock.seconds - start <= 45
    assert bench.gate.namespaces.of("analytics").failures == 1
    assert bench.gate.retrying["analytics"] == 0


async def test_second_failure_opens_the_namespace_and_says_so() -> None:
    """When the breaker opens, a note with the server's words goes to the operator; a success clears it."""
    bench = Bench(QUOTA)
    await bench.handle()
    assert "set_trouble" not in _commands(bench)

    await bench.handle()

    assert bench.gate.namespaces.of("analytics").state is State.OPEN
    assert "QuotaExceeded" in _commands(bench)
    bench.api.answers = [created()]
    await bench.handle()
    assert bench.gate.namespaces.of("analytics").state is State.CLOSED


async def test_notes_of_other_dispatchers_are_cleared_too() -> None:
    """One that noted a trouble may be gone: successes of the others take its notes away, now and then."""
    bench = Bench(created())
    await bench.handle()
    cleared = [command[0] for command in bench.store.commands].count("HDEL")
    await bench.handle()
    assert [command[0] for command in bench.store.commands].count("HDEL") == cleared > 0

    bench.clock.seconds += 31
    await bench.handle()

    assert [command[0] for command in bench.store.commands].count("HDEL") == 2 * cleared


async def test_forbidden_pauses_the_queue_at_once() -> None:
    """Missing rights hand the job back after one request, pause the queue and name the remedy."""
    bench = Bench(RBAC)

    scripts = await bench.handle()

    assert scripts == ["check", "release"]
    assert len(bench.api.seen) == 1
    assert bench.gate.queues.of("reports").state is State.OPEN
    assert "service account create and get on jobs" in _commands(bench)


async def test_invalid_job_fails_with_the_servers_words() -> None:
    """422 ends the job as invalid."""
    bench = Bench(status(422, 'Job.batch "x" is invalid: spec: Required value', "Invalid"))

    await bench.handle()

    next_, spend, cls, body = bench.finished()
    assert (next_, spend, cls) == ("fail", "none", "invalid")
    assert "Required value" in body


async def test_refusals_in_a_row_stop_the_queue() -> None:
    """As many refused Jobs as spec.breaker says pause the queue, with a note."""
    bench = Bench(status(422, "is invalid"), queue=make_queue(breaker={"consecutiveFailures": 2}))

    await bench.handle()
    assert bench.gate.queues.of("reports").state is State.CLOSED
    await bench.handle()

    assert bench.gate.queues.of("reports").state is State.OPEN
    assert "TemplateInvalid" in _commands(bench)


@pytest.mark.parametrize(
    ("rule", "claim", "following"),
    [
        ({"action": "Fail"}, {}, ("fail", "none")),
        ({"action": "Cancel"}, {}, ("cancel", "none")),
        ({"action": "Retry"}, {"attempt": 1, "frozen": {"maxAttempts": 3}}, ("retry", "attempt")),
        ({"action": "Retry"}, {"attempt": 3, "frozen": {"maxAttempts": 3}}, ("fail", "attempt")),
        ({"action": "Retry", "maxRetries": 2}, {}, ("retry", "budget")),
        ({"action": "Requeue"}, {}, ("retry", "budget")),
    ],
)
async def test_denied_job_follows_the_rule(
    rule: dict[str, Any], claim: dict[str, Any], following: tuple[str, str]
) -> None:
    """A denial ends the attempt as rejected, and the HeavyQueue's rule says what is next."""
    denied = status(403, 'admission webhook "w" denied the request: no root', "Forbidden")
    bench = Bench(denied, queue=make_queue(outcomes={"rejected": rule}), store={"get_job": None})

    frozen = {"timeouts": {"pending": 1000, "run": 1000}, **claim.pop("frozen", {})}
    await bench.handle(frozen=frozen, **claim)

    next_, spend, cls, body = bench.finished()
    assert (next_, spend, cls) == (*following, "rejected")
    assert "no root" in body


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no data"),
        (b"\x80\x04\x95junk", "serializer=JSONSerializer"),
        (zlib.compress(b"\x80\x04\x95junk"), "serializer=JSONSerializer"),
        (b"x\x9cnot zlib", "not zlib data"),
        (zlib.compress(b"{" * 10), "not JSON"),
        (zlib.compress(b"[1]"), "not [function"),
        (zlib.compress(b"\x00" * 10_000_000), "inflates to more"),
    ],
)
async def test_poisoned_payload_ends_invalid(data: bytes, words: str) -> None:
    """What cannot be read ends the job with the remedy; nothing goes to the cluster."""
    bench = Bench(created())

    assert await bench.handle(data=data) == ["finish"]

    next_, _, cls, body = bench.finished()
    assert (next_, cls) == ("fail", "invalid")
    assert words in body
    assert bench.api.seen == []


async def test_disallowed_option_ends_invalid() -> None:
    """A producer's option outside of allow is named."""
    bench = Bench(created())

    await bench.handle(options={"env": {"LD_PRELOAD": "/evil.so"}})

    assert "env.LD_PRELOAD is not allowed" in bench.finished()[3]


@pytest.mark.parametrize(
    ("answer", "scripts", "cls"),
    [
        (Verdict.CANCELLED, ["check", "finish"], "cancelled"),
        (Verdict.MISSING, ["check", "finish"], "cancelled"),
        (Verdict.REFUSED, ["check"], None),
        (Verdict.CORRUPT, ["check"], None),
    ],
)
async def test_looks_once_more_before_creating(answer: Verdict, scripts: list[str], cls: str | None) -> None:
    """A job cancelled, deleted or passed on since its claim gets no Job."""
    bench = Bench(created(), store={"check": Reply(verdict=answer)})

    assert await bench.handle() == scripts

    assert bench.api.seen == []
    if cls:
        assert bench.finished()[2] == cls


@pytest.mark.parametrize("answer", [Verdict.CANCELLED, Verdict.REFUSED, Verdict.MISSING])
async def test_record_refused_leaves_the_job_to_the_operator(answer: Verdict) -> None:
    """Cancelled or passed on while the Job was created: nothing more is done here, nothing is deleted."""
    bench = Bench(created(), store={"record": Reply(verdict=answer)})

    await bench.handle()

    assert {method for method, _ in bench.api.seen} == {"POST"}
    assert "finish" not in bench.store.scripts


async def test_resumed_claim_does_not_look_first() -> None:
    """Its Job may stand already: only creating again and recording tells the operator about it."""
    bench = Bench(EXISTS, job("abcdefghijklmnop-1", uid="old"))

    await bench.dispatch.handle(bench.claim(), resumed=True)

    assert bench.store.scripts[0] == "record"


async def test_resumed_claim_has_what_is_left_of_its_deadline() -> None:
    """A claim resumed late is tried no longer than the operator leaves it alone."""
    bench = Bench(status(503, "x"))
    start = bench.clock.seconds

    await bench.dispatch.handle(bench.claim(deadline=bench.clock.now_ms() + 25_000), resumed=True)

    assert bench.clock.seconds - start <= 5
    assert bench.store.scripts == ["release"]


async def test_unknown_queue_goes_back_a_little_later() -> None:
    """A claim whose HeavyQueue this process does not see is handed back with a delay, never finished."""
    bench = Bench(created())

    assert await bench.handle(namespace="elsewhere") == ["release"]
    assert bench.store.call("release").args[5] == 1000
    assert bench.gate.queues.of("reports").state is State.OPEN


async def test_stopping_keeps_the_claim_for_handing_back() -> None:
    """Once the process ends, a claim is put aside before anything is sent."""
    bench = Bench(created())
    bench.stopping = True

    assert await bench.handle() == []
    assert [claim.job for claim in bench.dispatch.handed_back] == ["j1"]
    assert bench.api.seen == []


async def test_stopping_during_retries_is_nobodys_fault() -> None:
    """A retry cut short by the end of the process does not count against the namespace."""
    bench = Bench(status(503, "x"))
    bench.store.before = lambda _: setattr(bench, "stopping", True)

    assert await bench.handle() == ["check"]
    assert [claim.job for claim in bench.dispatch.handed_back] == ["j1"]
    assert bench.gate.namespaces.of("analytics").failures == 0


async def test_lost_redis_raises_so_that_the_claim_is_resumed() -> None:
    """With Redis away after the create, the claim is left as it is."""
    bench = Bench(created(), store={"record": RedisUnavailableError("away")})

    with pytest.raises(RedisUnavailableError):
        await bench.handle()


def _commands(bench: Bench) -> str:
    return repr(bench.store.commands)
