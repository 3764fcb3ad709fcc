"""The processes of a crowd: producers that enqueue, and consumers that claim, record, give back and finish."""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.queues import Queue as Pipe
from multiprocessing.synchronize import Event as Gate
from typing import Any

from heavylift.contract import failpoints, ids
from heavylift.contract.outcomes import OutcomeClass
from heavylift.errors import HeavyliftError
from heavylift.store import (
    Claim,
    ClaimRequest,
    Fence,
    FinishReply,
    FinishRequest,
    Next,
    Op,
    Outcome,
    Reply,
    Spend,
    Store,
    ops,
)
from tests.proofs.crowd.plan import INSTALL, QUEUES, SLOTS, Fate, asked, batches, number_of, request

_GIVEN_BACK = 0.04
"""Of the claims, before a Job is recorded; half as often after it."""
_KEPT = 0.4
"""Of what is in hand, to the next turn: so that the caps bind."""
_HOARDS = 0.05
"""Of the turns, those at which it begins to keep all it gets of one queue, until more than the rate limit holds that
back: a fast machine would meet no other bound."""
_TWICE = 0.02
"""Of the ends, reported twice."""
_LOST_EVERY = 40
"""Turns after which one reply of Redis is lost."""
_PAUSE_S = 0.004
_LATER_MS = 20
Told = tuple[str, str, str]
"""(job, execution, worker) of a claim as its process was told."""


@dataclass(slots=True)
class Report:
    """What one process tells when it is done."""

    told: list[Told] = field(default_factory=list)
    uids: list[tuple[str, str, str]] = field(default_factory=list)
    """(job, execution, UID) of each Job recorded."""
    accepted: list[str] = field(default_factory=list)
    blocked: Counter[str] = field(default_factory=Counter)
    """Why claims brought no more, by how often."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """What the scripts answered, as ``finish applied``."""
    lost: int = 0
    """Replies of Redis that were lost on purpose."""
    cpu_s: float = 0.0
    """Processor seconds it took."""
    error: str = ""
    """What ended it before its time."""


@dataclass(frozen=True, slots=True)
class Gates:
    """How the crowd is steered: it goes on while ``go`` is set, and ends when ``over`` is."""

    go: Gate
    """Cleared while the reader of the history is behind: the stream keeps some 10,000 entries only."""
    over: Gate


def produce(url: str, jobs: int, part: tuple[int, int], gates: Gates, reports: Pipe[Report]) -> None:
    """Enqueue the batches whose number modulo ``part[1]`` is ``part[0]``."""
    report = Report()
    try:
        with Store.connect(url, timeout=60.0, patience=120.0) as store:
            for index, (queue, numbers) in enumerate(batches(jobs)):
                if index % part[1] == part[0]:
                    _passes(gates)
                    rows = store.run(ops.enqueue_many([request(queue, number) for number in numbers]))
                    report.accepted += [row.id for row in rows if row.created and not row.error]
    except HeavyliftError as error:
        report.error = str(error)
    report.cpu_s = time.process_time()
    reports.put(report)


def consume(url: str, worker: str, seed: int, gates: Gates, reports: Pipe[Report]) -> None:
    """Claim and carry on until all is over."""
    hand = None
    try:
        with Store.connect(url, timeout=60.0, patience=120.0) as store:
            hand = Hand(store, worker, random.Random(f"{seed} {worker}"))
            store.run(ops.register_dispatcher(INSTALL, worker, 3_600_000))
            while not gates.over.is_set():
                _passes(gates)
                if not hand.turn():
                    gates.over.wait(_PAUSE_S)
    except HeavyliftError as error:
        reports.put(Report(error=f"{worker}: {error}"))
    else:
        hand.report.cpu_s = time.process_time()
        reports.put(hand.report)


def _passes(gates: Gates) -> None:
    while not gates.go.wait(1.0) and not gates.over.is_set():
        pass


class Hand:
    """One consumer: what it holds, and what it does with it."""

    def __init__(self, store: Store, worker: str, choice: random.Random) -> None:
        self.store = store
        self.worker = worker
        self.choice = choice
        self.report = Report()
        self._held: list[tuple[Claim, str]] = []
        self._hoards = ""
        """The queue of which it keeps all, if any."""
        self._turns = 0

    def turn(self) -> bool:
        """Claim some, and carry on with what is in hand; whether there was anything to do."""
        self._turns += 1
        if self._turns % _LOST_EVERY == 0:
            failpoints.load({failpoints.ENV: f"store.reply:drop-reply@{self.choice.randint(1, 3)}"})
            self.report.lost += 1
        claims = self._claim()
        back = [claim for claim in claims if self.choice.random() < _GIVEN_BACK]
        made = [(claim, secrets.token_hex(4)) for claim in claims if claim not in back]
        self._say("record", [self._record(claim, uid) for claim, uid in made])
        self._say("release", [self._release(claim, "") for claim in back])
        self.report.uids += [(claim.job, claim.execution, uid) for claim, uid in made]
        ended = [entry for entry in self._held if not self._hoards and self.choice.random() >= _KEPT]
        self._held = [entry for entry in self._held if entry not in ended] + made
        self._end(ended)
        return bool(claims or ended)

    def _claim(self) -> Sequence[Claim]:
        asked_for = ClaimRequest(
            worker=self.worker,
            request=ids.new_job_id(),
            install=INSTALL,
            queues=(self._hoards,) if self._hoards else self.choice.choice((QUEUES, QUEUES[::-1])),
            max=self.choice.randint(1, 20),
            slots=SLOTS,
            deadline_ms=60_000,
        )
        reply = self.store.run(ops.claim(asked_for))
        self.report.blocked.update(reply.blocked.values())
        if self._hoards and set(reply.blocked.values()) - {"rate"}:
            self._hoards = ""
        elif not self._hoards and self.choice.random() < _HOARDS:
            self._hoards = self.choice.choice(QUEUES)
        self.report.told += [(claim.job, claim.execution, self.worker) for claim in reply.claims]
        return reply.claims

    def _end(self, entries: Sequence[tuple[Claim, str]]) -> None:
        released = [entry for entry in entries if self.choice.random() < _GIVEN_BACK / 2]
        ends = [self._finish(*entry) for entry in entries if entry not in released]
        repeated = [end for end in ends if self.choice.random() < _TWICE]
        self._say("release", [self._release(claim, uid) for claim, uid in released])
        self._say("finish", [ops.finish(end) for end in ends])
        self._say("repeat", [ops.finish(end) for end in repeated])

    def _say(self, what: str, asked_for: Sequence[Op[Any]]) -> None:
        replies: list[Reply | FinishReply | HeavyliftError] = self.store.run_many(asked_for) if asked_for else []
        for reply in replies:
            if isinstance(reply, HeavyliftError):
                raise reply
            self.report.verdicts[f"{what} {reply.verdict.value}"] += 1

    def _record(self, claim: Claim, uid: str) -> Op[Reply]:
        fence = Fence(job=claim.job, execution=claim.execution, worker=self.worker)
        return ops.record(fence, job_name=_name(claim), uid=uid, namespace=claim.namespace)

    def _release(self, claim: Claim, uid: str) -> Op[Reply]:
        fence = Fence(job=claim.job, execution=claim.execution, worker=self.worker, uid=uid or None)
        return ops.release(fence, reason="stopping")

    def _finish(self, claim: Claim, uid: str) -> FinishRequest:
        fate, first = asked(number_of(claim.job)).fate, claim.attempt == 1
        cls, next_, spend, delay = OutcomeClass.SUCCEEDED, Next.COMPLETE, Spend.ATTEMPT, 0
        if fate is Fate.FAIL:
            cls, next_ = OutcomeClass.ERROR, Next.FAIL
        elif fate in {Fate.RETRY, Fate.RETRY_LATER} and first:
            cls, next_ = OutcomeClass.ERROR, Next.RETRY
            delay = _LATER_MS if fate is Fate.RETRY_LATER else 0
        elif fate is Fate.SNOOZE and claim.seq == 1:
            next_, spend, delay = Next.RETRY, Spend.NONE, _LATER_MS
        return FinishRequest(
            fence=Fence(job=claim.job, execution=claim.execution, uid=uid),
            outcome=Outcome(cls=cls, message="done"),
            next=next_,
            spend=spend,
            delay_ms=delay,
            job_exists=False,  # no Kubernetes here whose PATCH would be waited for
        )


def _name(claim: Claim) -> str:
    return ids.job_name(claim.install, claim.queue, claim.job, claim.incarnation, claim.seq)
