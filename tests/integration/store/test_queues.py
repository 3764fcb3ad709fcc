"""What holds claims back, and what a queue's keys say."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift.contract.states import JobState
from heavylift.store import Fence, Next, Verdict, ops
from tests.integration.store.kit import INSTALL, NAMESPACE, QUEUE, WORKER, World, request


def test_a_queue_without_settings_is_not_claimed(bare: World) -> None:
    """No HeavyQueue: jobs may wait, none is claimed, the reply says why; settings start it."""
    bare.enqueue(strict=False)
    assert bare.ask().blocked == {QUEUE: "no-heavyqueue"}
    bare.serve()
    assert len(bare.ask().claims) == 1


def test_strict_enqueue_refuses_an_unknown_queue(bare: World) -> None:
    """Unless told otherwise a job for a queue nobody serves is refused, by name."""
    done = bare.run(ops.enqueue(request()))
    assert (done.created, done.error) == (False, "unknown-queue")
    assert QUEUE in done.message
    assert not bare.redis.exists(f"rq:job:{done.id}")


def test_another_installs_queue_is_not_claimed(w: World) -> None:
    """A dispatcher of another install takes nothing."""
    w.enqueue()
    assert w.ask(install="other").blocked == {QUEUE: "no-heavyqueue"}


def test_pause_has_two_holders(w: World) -> None:
    """A queue is paused while the client or the HeavyQueue says so."""
    w.enqueue()
    assert w.run(ops.pause(QUEUE, by="ann", reason="maintenance")).verdict is Verdict.APPLIED
    assert w.run(ops.pause(QUEUE, by="bob")).verdict is Verdict.ALREADY
    held = w.run(ops.paused(QUEUE))
    assert held is not None
    assert (held["by"], held["reason"]) == ("ann", "maintenance")
    assert w.ask().blocked == {QUEUE: "paused"}
    w.serve(paused=True)
    assert w.run(ops.resume(QUEUE)).verdict is Verdict.APPLIED
    assert w.run(ops.paused(QUEUE)) is None
    assert w.ask().blocked == {QUEUE: "paused"}
    w.serve(paused=False)
    assert len(w.ask().claims) == 1


def test_rq_suspend_stops_claims(w: World) -> None:
    """``rq suspend`` is obeyed."""
    w.enqueue()
    w.redis.set("rq:suspended", 1)
    assert w.ask().blocked == {QUEUE: "suspended"}
    w.redis.delete("rq:suspended")
    assert len(w.ask().claims) == 1


def test_cap_holds_over_dispatchers(w: World) -> None:
    """No more executions than the cap, whoever asks; an ended one makes room; a lowered cap ends none."""
    w.serve(concurrencyMax=3)
    for _ in range(6):
        w.enqueue()
    first = w.ask()
    assert len(first.claims) == 3
    assert first.blocked == {QUEUE: "cap"}
    assert w.ask(worker="w2").blocked == {QUEUE: "cap"}
    w.finish(first.claims[0])
    assert len(w.ask(worker="w2").claims) == 1
    w.serve(concurrencyMax=0)
    assert w.ask().blocked == {QUEUE: "cap"}
    assert w.run(ops.counts(QUEUE)).active == 3


def test_width_follows_live_dispatchers(w: World) -> None:
    """In flight is at most slots times live dispatchers; one that leaves or dies does not end what runs."""
    for _ in range(12):
        w.enqueue()
    assert w.run(ops.register_dispatcher(INSTALL, "w1", 60_000)) == 1
    assert w.run(ops.register_dispatcher(INSTALL, "w2", 60_000)) == 2
    first = w.ask(slots=4)
    assert (len(first.claims), first.blocked) == (8, {QUEUE: "width"})
    assert w.run(ops.unregister_dispatcher(INSTALL, "w2")) == 1
    assert w.ask(slots=4).blocked == {QUEUE: "width"}
    assert w.run(ops.inflight_count(INSTALL)) == 8
    w.redis.zadd(f"heavylift:dispatchers:{INSTALL}", {"dead": 1})
    assert w.run(ops.register_dispatcher(INSTALL, "w1", 60_000)) == 1


def test_queues_are_served_in_the_order_given(w: World) -> None:
    """Claims go queue by queue, and each gets its own reason."""
    w.serve("second")
    w.serve("third", paused=True)
    a, b, _ = w.enqueue().id, w.enqueue(queue="second").id, w.enqueue(queue="third")
    reply = w.ask("second", QUEUE, "third", "fourth")
    assert [claim.job for claim in reply.claims] == [b, a]
    assert reply.blocked == {"second": "empty", QUEUE: "empty", "third": "paused", "fourth": "no-heavyqueue"}


def test_a_claim_over_many_queues_is_bounded(w: World) -> None:
    """Empty queues cost next to nothing; of the others one claim looks at some, and the next at the rest."""
    names = [f"q{i}" for i in range(60)]
    for name in names:
        w.serve(name, concurrencyMax=0)
        w.enqueue(queue=name)
    empty = [f"e{i}" for i in range(300)]
    first = w.ask(*empty, *names).blocked
    assert first.keys() >= set(empty)
    seen = [name for name in names if name in first]
    assert 20 < len(seen) < 60
    assert first[seen[0]] == "cap"
    second = w.ask(*names[len(seen) :], *names[: len(seen)]).blocked
    assert second.keys() >= set(names[len(seen) :])
    assert set(w.run(ops.gauges(INSTALL, names)).queues) == set(names)


@pytest.mark.parametrize("options", [{}, {"key": "tenant"}])
def test_a_claim_that_spent_itself_on_ghosts_is_asked_again_at_once(w: World, options: dict[str, Any]) -> None:
    """Ids without a job hide what stands behind them for some claims, not for some pauses of the dispatcher."""
    w.serve(concurrencyPerKey=1)
    gone = [request(options=options) for _ in range(450)]
    w.run(ops.enqueue_many(gone))
    live = w.enqueue(options=options).id
    w.redis.delete(*(f"rq:job:{one.id}" for one in gone))
    replies = [w.ask()]
    while not replies[-1].claims:
        assert (replies[-1].next_due_ms, replies[-1].blocked) == (0, {})
        replies.append(w.ask())
    assert len(replies) > 2
    assert [claim.job for claim in replies[-1].claims] == [live]
    assert w.ask().next_due_ms is None


def test_levels_are_taken_in_order(w: World) -> None:
    """A lower number is sooner, 0 between; within one level first in, first out; RQ's push moves to its level."""
    order = {"late": 5, "base": 0, "soon": -10, "sooner": -20, "soon-2": -10}
    for job, priority in order.items():
        w.enqueue(id=job, options={"priority": priority} if priority else {})
    assert w.run(ops.counts(QUEUE)).waiting == 5
    listed = [record.id for record in w.run(ops.list_jobs(QUEUE, JobState.WAITING))]
    assert listed == ["sooner", "soon", "soon-2", "base", "late"]
    assert listed[1:4] == [record.id for record in w.run(ops.list_jobs(QUEUE, JobState.WAITING, start=1, count=3))]
    w.redis.lrem(f"rq:queue:{QUEUE}@5", 1, "late")
    w.redis.lpush(f"rq:queue:{QUEUE}", "late")
    assert [claim.job for claim in w.ask().claims] == ["sooner", "soon", "soon-2", "base", "late"]
    assert not w.redis.exists(f"heavylift:levels:{QUEUE}")
    assert w.run(ops.queues()) == [QUEUE]


def test_settings_belong_to_one_install_and_namespace(w: World) -> None:
    """Another install or namespace is refused by name; older generations do not win; their owner removes them."""

    def put(generation: int, install: str = INSTALL, namespace: str = NAMESPACE, uid: str = "u") -> Any:
        settings = {**w.settings, "generation": generation}
        return w.run(
            ops.put_settings("q", settings, generation=generation, install=install, namespace=namespace, uid=uid)
        )

    assert put(2).verdict is Verdict.APPLIED
    assert put(2).verdict is Verdict.ALREADY
    assert put(1).verdict is Verdict.ALREADY
    refused = put(3, install="other")
    assert (refused.verdict, INSTALL in refused.message) == (Verdict.REFUSED, True)
    assert put(3, namespace="other").verdict is Verdict.REFUSED
    assert put(1, uid="recreated").verdict is Verdict.APPLIED
    owner = w.run(ops.settings_owner("q"))
    assert owner is not None
    assert (owner.install, owner.namespace, owner.uid, owner.generation) == (INSTALL, NAMESPACE, "recreated", 1)
    assert w.run(ops.get_settings("q")) == {**w.settings, "generation": 1}
    assert w.run(ops.delete_settings("q", "u")).verdict is Verdict.REFUSED
    assert w.run(ops.delete_settings("q", "recreated")).verdict is Verdict.APPLIED
    assert w.run(ops.get_settings("q")) is None
    assert w.run(ops.settings_owner("q")) is None


def test_if_exists(w: World) -> None:
    """The same id again: refused, returned, retried when failed, or replaced; other data or queue always refuses."""
    first = request(id="annual")
    assert w.run(ops.enqueue(first)).created
    assert w.run(ops.enqueue(first)).created  # the same call again: its reply was lost
    assert w.run(ops.enqueue(request(id="annual"))).error == "exists"
    got = w.run(ops.enqueue(request(id="annual", if_exists="return")))
    assert (got.created, got.error, got.state) == (False, "", JobState.WAITING)
    w.serve("second")
    for other in ({"value": {"year": 1}}, {"task": "monthly"}, {"queue": "second"}):
        for rule in ("return", "retry_failed", "replace"):
            assert w.run(ops.enqueue(request(id="annual", if_exists=rule, **other))).error == "conflict"
    assert w.waiting() == ["annual"]


def test_if_exists_retry_failed(w: World) -> None:
    """A failed job waits again, any other state is returned as it is."""
    claim = w.active(id="annual")
    assert w.run(ops.enqueue(request(id="annual", if_exists="retry_failed"))).state is JobState.ACTIVE
    w.finish(claim, Next.FAIL)
    assert w.run(ops.enqueue(request(id="annual", if_exists="retry_failed"))).state is JobState.WAITING
    assert w.claim().seq == 2


def test_if_exists_replace(w: World) -> None:
    """A waiting or ended job is replaced by the new one, with its options; an active one is not."""
    w.enqueue(id="annual", delay_ms=60_000)
    new = request(id="annual", if_exists="replace", options={"maxAttempts": 7})
    assert w.run(ops.enqueue(new)).created
    assert w.run(ops.enqueue(new)).created
    assert w.waiting() == ["annual"]
    claim = w.claim()
    assert claim.frozen["maxAttempts"] == 7
    assert w.run(ops.enqueue(request(id="annual", if_exists="replace"))).error == "conflict"
    w.finish(claim)
    assert w.run(ops.enqueue(request(id="annual", if_exists="replace"))).created
    assert w.job("annual").history == ()


def test_batch_is_split_and_each_stands_alone(w: World) -> None:
    """Many jobs go in in one call of ours; a refused one does not keep the others out; order is kept."""
    reqs = [request(value={"i": i}) for i in range(2300)]
    reqs[5] = request(id=reqs[4].id)
    done = w.run(ops.enqueue_many(reqs))
    assert [entry.error for entry in done if entry.error] == ["exists"]
    assert w.waiting() == [req.id for i, req in enumerate(reqs) if i != 5]
    assert w.run(ops.counters(QUEUE))["enqueued"] == 2299
    assert w.run(ops.enqueue_many([])) == []


def test_counts_and_lists_by_state(w: World) -> None:
    """Each state is counted and listed."""
    done = w.active()
    w.finish(done)
    failed = w.active()
    w.finish(failed, Next.FAIL)
    gone = w.enqueue().id
    w.run(ops.cancel(gone, by="ann"))
    active = w.active()
    waiting, delayed = w.enqueue().id, w.enqueue(delay_ms=60_000).id
    child = w.enqueue(depends_on=(active.job,)).id
    counts = w.run(ops.counts(QUEUE))
    assert (counts.waiting, counts.delayed, counts.active, counts.waiting_children) == (1, 1, 1, 1)
    assert (counts.completed, counts.failed, counts.cancelled) == (1, 1, 1)
    assert counts.oldest_waiting == w.job(waiting).enqueued_at
    expected = {
        JobState.WAITING: waiting, JobState.DELAYED: delayed, JobState.ACTIVE: active.job,
        JobState.WAITING_CHILDREN: child, JobState.COMPLETED: done.job, JobState.FAILED: failed.job,
        JobState.CANCELLED: gone,
    }  # fmt: skip
    for state, job in expected.items():
        assert [record.id for record in w.run(ops.list_jobs(QUEUE, state))] == [job], state
    snapshot = w.run(ops.snapshot(INSTALL, [QUEUE, "unknown"]))
    assert snapshot["inflight"] == 1
    assert snapshot["unfinalized"] == 2
    assert snapshot["queues"][QUEUE]["counters"]["completed"] == 1
    assert snapshot["queues"]["unknown"]["waiting"] == 0
    assert w.run(ops.snapshot(INSTALL, []))["queues"] == {}


def test_inflight_pages_cover_everything(w: World) -> None:
    """A scan by cursor meets each execution."""
    for _ in range(300):
        w.enqueue()
    claims = {claim.execution for _ in range(15) for claim in w.ask(slots=1000).claims}
    assert len(claims) == 300
    seen, cursor = set(), 0
    while True:
        cursor, page = w.run(ops.inflight(INSTALL, cursor, 50))
        seen |= {entry.execution for entry in page}
        if cursor == 0:
            break
    assert seen == claims


def test_troubles(w: World) -> None:
    """Notes are kept by kind until cleared."""
    w.run(ops.set_trouble(QUEUE, "forbidden", {"message": "jobs is forbidden", "at": 5}))
    w.run(ops.set_trouble(QUEUE, "template", {"message": "x" * 20_000}))
    notes = w.run(ops.troubles(QUEUE))
    assert notes["forbidden"] == {"message": "jobs is forbidden", "at": 5}
    assert len(notes["template"]["message"]) < 9000
    w.run(ops.clear_trouble(QUEUE, "template"))
    assert list(w.run(ops.troubles(QUEUE))) == ["forbidden"]


def test_locks_have_one_holder(w: World) -> None:
    """A lock is taken, renewed by its holder, refused to others, and free once dropped."""
    assert w.run(ops.take_lock("reconcile", "a", 60_000))
    assert w.run(ops.take_lock("reconcile", "a", 60_000))
    assert not w.run(ops.take_lock("reconcile", "b", 60_000))
    w.run(ops.drop_lock("reconcile", "b"))
    assert not w.run(ops.take_lock("reconcile", "b", 60_000))
    w.run(ops.drop_lock("reconcile", "a"))
    assert w.run(ops.take_lock("reconcile", "b", 60_000))


def test_epoch_is_made_once(bare: World) -> None:
    """The epoch is absent in an empty Redis and stays the same from the first write on."""
    assert bare.run(ops.get_epoch()) is None
    made = bare.run(ops.ensure_epoch())
    assert bare.run(ops.ensure_epoch()) == made == bare.run(ops.get_epoch())


def test_server_report(w: World) -> None:
    """The server's condition is told, with what a check needs."""
    report = w.run(ops.server_report())
    assert report["server"] in {"redis", "valkey"}
    assert (report["persistence"], report["maxmemory_policy"], report["role"]) == ("none", "noeviction", "master")
    assert abs(report["skew_ms"]) < 60_000
    w.run(ops.ping())


@pytest.mark.parametrize("busy", [QUEUE, "other"])
def test_doorbell_rings_for_each_way_in(w: World, busy: str) -> None:
    """Whatever may make a job claimable rings the doorbell with the queue's name."""
    w.serve(busy)
    keys = w.store.keys
    with w.store.subscribe(keys.doorbell(), keys.wake()) as heard:

        def rung() -> list[str]:
            found = []
            while (message := heard.get(timeout=0.2)) is not None:
                found.append(message[1].decode())
            return found

        job = w.enqueue(queue=busy).id
        assert busy in rung()
        claim = w.claim(queues=(busy,))
        w.run(ops.release(Fence(job=job, execution=claim.execution, worker=WORKER), reason="x"))
        assert busy in rung()
        claim = w.claim(queues=(busy,))
        w.run(ops.cancel(job, by="ann"))
        assert job in rung()
        w.finish(claim, Next.CANCEL)
        assert busy in rung()


def test_doorbell_rings_when_a_place_is_freed(w: World) -> None:
    """An attempt that ends or is given back for later leaves its place at once, to a job that waits for one."""
    with w.store.subscribe(w.store.keys.doorbell()) as heard:

        def rung() -> bool:
            found = False
            while heard.get(timeout=0.2) is not None:
                found = True
            return found

        job = w.enqueue().id
        claim = w.claim()
        assert rung()
        w.run(ops.release(Fence(job=job, execution=claim.execution, worker=WORKER), reason="x", delay_ms=60_000))
        assert rung()
        w.run(ops.promote(job))
        claim = w.claim()
        w.record(claim)
        assert rung()
        w.finish(claim, Next.RETRY, delay_ms=60_000)
        assert rung()
        w.run(ops.promote(job))
        claim = w.claim()
        w.redis.delete(w.store.keys.job(job))
        assert rung()
        w.run(ops.check(Fence(job=job, execution=claim.execution, worker=WORKER)))
        assert rung()
