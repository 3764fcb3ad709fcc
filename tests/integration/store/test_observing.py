"""What observers say of an execution: evidence grows, ends stand, and what stands is not written again."""

from __future__ import annotations

from typing import Any

from heavylift.contract.states import Phase
from heavylift.store import Fence, Observation, Verdict, ops
from tests.integration.store.kit import NAMESPACE, WORKER, World, name_of


def test_observe_merges_and_never_forgets_an_end(w: World) -> None:
    """Evidence grows; what a terminal observation wrote stands against a later, poorer one."""
    claim = w.active()
    fence = Fence(job=claim.job, execution=claim.execution, uid=f"uid-{claim.execution}")

    def see(**obs: Any) -> Any:
        return w.run(ops.observe(fence, Observation(**obs)))

    assert see(phase=Phase.PENDING, reason="ErrImagePull", evidence={"pod": {"waiting": "ErrImagePull"}})[0] is (
        Verdict.APPLIED
    )
    see(phase=Phase.RUNNING, running_at=5, evidence={"pod": {"started": 5}})
    see(phase=Phase.RUNNING, evidence={"pod": {"exit": 3, "words": "no"}}, terminal=True)
    verdict, record = see(phase=Phase.PENDING, running_at=9, evidence={"pod": {"exit": 0}, "job": {"failed": True}})
    assert verdict is Verdict.APPLIED
    assert record.evidence == {"pod": {"exit": 3, "words": "no"}, "job": {"failed": True}}
    assert (record.phase, record.running_at) == (Phase.RUNNING, 5)
    _, record = see(phase=Phase.RUNNING, evidence={"pod": {"exit": 3, "words": "", "node": "n1"}}, terminal=True)
    assert record.evidence["pod"] == {"exit": 3, "words": "no", "node": "n1"}
    assert w.names(claim.job).count("running") == 1


def test_an_observer_that_remembers_asks_less_and_writes_the_same(w: World) -> None:
    """Its second word on an execution needs one call; what another wrote already is not written again."""
    claim = w.active()
    fence = Fence(job=claim.job, execution=claim.execution, uid=f"uid-{claim.execution}")
    first: dict[str, bytes] = {}
    second: dict[str, bytes] = {}
    runs = Observation(phase=Phase.RUNNING, reason="runs", running_at=5, evidence={"pod": {"name": "p", "started": 5}})
    ended = {"pod": {"name": "p", "started": 5, "exit": 3}}
    ends = Observation(phase=Phase.RUNNING, reason="error", running_at=5, evidence=ended, terminal=True)

    def see(obs: Observation, known: dict[str, bytes]) -> tuple[Verdict, Any, int]:
        steps, op = 0, ops.observe(fence, obs, known)

        def counted() -> Any:
            nonlocal steps
            step = next(op)
            while True:
                steps += 1
                answer = yield step
                try:
                    step = op.send(answer)
                except StopIteration as stop:
                    return stop.value

        verdict, record = w.run(counted())
        return verdict, record, steps

    assert see(runs, first)[::2] == (Verdict.APPLIED, 1)
    assert see(ends, first)[::2] == (Verdict.APPLIED, 1)
    verdict, record, steps = see(ends, second)
    assert (verdict, steps) == (Verdict.ALREADY, 1)
    assert (record.evidence, record.reason, record.running_at) == (ended, "error", 5)
    more = Observation(phase=Phase.RUNNING, reason="gone", evidence={"pod": {"name": "p", "gone": True}}, terminal=True)
    assert see(more, second)[::2] == (Verdict.APPLIED, 2)
    assert see(ends, first)[::2] == (Verdict.ALREADY, 1)  # what it remembers is not what stands: it looks
    assert w.job(claim.job).evidence == {"pod": {**ended["pod"], "gone": True}}
    other = Fence(job=claim.job, execution=claim.execution, uid="another")
    assert w.run(ops.observe(other, ends, {}))[0] is Verdict.REFUSED


def test_observe_fills_in_a_missing_uid(w: World) -> None:
    """A Job that its dispatcher could not record any more is recorded by what the operator sees of it."""
    w.enqueue()
    claim = w.claim()
    fence = Fence(job=claim.job, execution=claim.execution, uid="seen")
    w.run(ops.observe(fence, Observation(phase=Phase.PENDING)))
    record = w.job(claim.job)
    assert (record.job_uid, record.phase, record.starts) == ("seen", Phase.PENDING, 1)
    late = w.run(
        ops.record(
            Fence(job=claim.job, execution=claim.execution, worker=WORKER),
            job_name=name_of(claim), uid="seen", namespace=NAMESPACE,
        )
    )  # fmt: skip
    assert late.verdict is Verdict.APPLIED
    assert (w.job(claim.job).starts, w.job(claim.job).job_name) == (1, name_of(claim))
