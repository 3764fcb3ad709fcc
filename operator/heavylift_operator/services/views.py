"""From what was read of an execution to the View that is planned from; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from heavylift.contract import limits
from heavylift.contract.outcomes import OutcomeClass
from heavylift.spec import rules_from_settings
from heavylift.spec.rules import Rule
from heavylift.store.model import JobRecord
from heavylift_operator.core.evidence import (
    Evidence,
    JobEvidence,
    PodEvidence,
    merge_pods,
    pod_from_json,
    stop_from_json,
)
from heavylift_operator.core.plan import View
from heavylift_operator.core.reading import Json, child, integer, text
from heavylift_operator.core.rules import Policy, Spent, backoff_from
from heavylift_operator.services.workqueue import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was read of an execution."""

    item: Item
    record: JobRecord | None
    settings: Json
    """Of the record's queue."""
    seen: Evidence
    listed: bool
    """Redis lists it as in flight."""
    epoch: bool = True
    """Redis' data is what the Job came from."""
    missing_since: int | None = None
    now: int
    """The cluster's time, ms."""


@dataclass(slots=True, kw_only=True)
class Views:
    """Makes Views for one install; keeps each queue's decoded rules for as long as its settings stay the same."""

    install: str
    grace_ms: int
    _rules: dict[str, tuple[Json, Mapping[OutcomeClass, Rule]]] = field(default_factory=dict)

    def view(self, known: Known) -> View:
        """Return what to plan from."""
        record, job = known.record, known.seen.job
        return View(
            install=self.install,
            execution=known.item.execution,
            record=record,
            evidence=known.seen,
            spent=_spent(record),
            policy=self._policy(record, known.settings),
            result_policy=text(child(known.settings, "result"), "policy") or "Optional",
            pending_ms=_limit(record, "pending", job.pending_ms if job else None),
            run_ms=_limit(record, "run", job.run_ms if job else None),
            total_ms=_total_ms(record),
            epoch=known.epoch,
            listed=known.listed,
            owed=known.item.owed,
            missing_since=known.missing_since,
            grace_ms=self.grace_ms,
            now=known.now,
        )

    def _policy(self, record: JobRecord | None, settings: Json) -> Policy:
        queue, options = (record.queue, record.options) if record is not None else ("", {})
        stored, rules = self._rules.get(queue, ({}, None))
        if rules is None or stored != settings:
            rules = rules_from_settings(settings)
            self._rules[queue] = (settings, rules)
        backoff = backoff_from(options, child(settings, "defaults"))
        if record is not None and record.retry_delays:
            backoff = replace(backoff, listed_ms=record.retry_delays)
        return Policy(rules=rules, backoff=backoff)


def merged(item: Item, record: JobRecord | None) -> Evidence:
    """Return what Redis keeps of an execution, with what the item brings besides.

    Args:
        item: it.
        record: the job's, if this is its current execution.
    """
    stored = record.evidence if record is not None else {}
    job = item.job
    if record is not None and record.job_uid and job is not None and job.uid != record.job_uid:
        job = None  # another Job under our name: ours is gone
    return Evidence(
        job=job,
        pod=merge_pods(pod_from_json(stored.get("pod")), item.pod),
        stop=stop_from_json(stored.get("stop"), item.execution),
    )


def needs_pods(job: JobEvidence, pod: PodEvidence | None) -> bool:
    """Return whether a decision about this Job wants a live look at its pods."""
    if job.finalized:
        return False
    if job.deleted_at is not None:
        return pod is None or not pod.over
    return job.over and (pod is None or not (pod.ended or pod.over))


def _spent(record: JobRecord | None) -> Spent:
    if record is None:
        return Spent()
    limit = record.max_attempts or integer(record.frozen, "maxAttempts") or 1
    return Spent(
        attempts=record.attempts_made,
        max_attempts=max(1, limit),
        starts=min(record.starts, limits.STARTS_MAX),
        budgets=record.budgets,
        total_due=integer(record.frozen, "totalDue"),
    )


def _total_ms(record: JobRecord | None) -> int | None:
    """Return the limit over all attempts as claim found it."""
    due = integer(record.frozen, "totalDue") if record is not None else None
    return due - record.first_claimed_at if record and due is not None and record.first_claimed_at is not None else None


def _limit(record: JobRecord | None, name: str, annotated: int | None) -> int | None:
    """Return a limit in ms as claim froze it; a Job says the same in whole seconds."""
    frozen = integer(child(record.frozen, "timeouts"), name) if record is not None else None
    return frozen if frozen is not None else annotated
