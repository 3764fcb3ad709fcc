"""A real Redis, a served queue, and a player that does to jobs what the dispatcher and the operator would."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from heavylift import Client
from heavylift.cli.app import main
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import Phase
from heavylift.spec import HeavyQueue, settings
from heavylift.store import Store, ops
from heavylift.store.model import (
    Claim,
    ClaimRequest,
    Fence,
    FinishReply,
    FinishRequest,
    Next,
    Observation,
    Outcome,
    Spend,
    Verdict,
)
from tests.servers import StoreServer

INSTALL = "heavylift/heavylift"
NAMESPACE = "analytics"


@dataclass
class Player:
    """Serves queues and moves their jobs along, by the same operations as the processes."""

    store: Store
    worker: str = "player"
    generation: int = 1

    def serve(self, queue: str, **spec: Any) -> None:
        """Write the settings of a HeavyQueue, as the operator does."""
        template = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "example"}]}}}}
        manifest = {
            "apiVersion": "heavylift.dev/v1alpha1",
            "kind": "HeavyQueue",
            "metadata": {"name": queue, "namespace": NAMESPACE, "uid": f"uid-{queue}", "generation": self.generation},
            "spec": {"jobTemplate": template, **spec},
        }
        parsed = settings(HeavyQueue.parse(manifest))
        reply = self.store.run(
            ops.put_settings(
                queue, parsed, generation=self.generation, install=INSTALL, namespace=NAMESPACE, uid=f"uid-{queue}"
            )
        )
        assert reply.verdict is Verdict.APPLIED
        self.generation += 1

    def alive(self) -> None:
        """Register as a live dispatcher."""
        self.store.run(ops.register_dispatcher(INSTALL, self.worker, 600_000))

    def claim(self, *queues: str) -> Claim | None:
        """Claim one job."""
        self.alive()
        reply = self.store.run(
            ops.claim(
                ClaimRequest(
                    worker=self.worker,
                    request=secrets.token_hex(8),
                    install=INSTALL,
                    queues=queues or ("reports",),
                    max=1,
                    slots=10,
                    deadline_ms=60_000,
                )
            )
        )
        return reply.claims[0] if reply.claims else None

    def pending(self, claim: Claim, reason: str = "", **evidence: Any) -> Fence:
        """Record the claim's Job and observe its pod pending."""
        fence = Fence(job=claim.job, execution=claim.execution, worker=self.worker)
        name = f"{claim.queue}-{claim.seq}"
        self.store.run(ops.record(fence, job_name=name, uid=f"uid-{claim.execution}", namespace=NAMESPACE))
        fence = Fence(job=claim.job, execution=claim.execution, uid=f"uid-{claim.execution}")
        self.store.run(ops.observe(fence, Observation(phase=Phase.PENDING, reason=reason, evidence=evidence)))
        return fence

    def running(self, claim: Claim) -> Fence:
        """Record the claim's Job and observe its container running."""
        fence = self.pending(claim)
        self.store.run(ops.observe(fence, Observation(phase=Phase.RUNNING, running_at=claim.claimed_at)))
        return fence

    def complete(self, claim: Claim, result: str | None = None) -> FinishReply:
        """End the attempt as a success."""
        outcome = Outcome(cls=OutcomeClass.SUCCEEDED, message="completed")
        return self._finish(claim, outcome, Next.COMPLETE, result=result)

    def fail(self, claim: Claim, outcome: Outcome | None = None, *, retry_ms: int | None = None) -> FinishReply:
        """End the attempt as a failure: for good, or with another attempt after ``retry_ms``."""
        outcome = outcome or Outcome(cls=OutcomeClass.ERROR, message="ValueError: no such year", exit_code=1)
        if retry_ms is None:
            return self._finish(claim, outcome, Next.FAIL, spend=Spend.ATTEMPT)
        return self._finish(claim, outcome, Next.RETRY, spend=Spend.ATTEMPT, delay_ms=retry_ms)

    def cancelled(self, claim: Claim) -> FinishReply:
        """End the attempt as cancelled."""
        return self._finish(claim, Outcome(cls=OutcomeClass.CANCELLED, message="stopped on request"), Next.CANCEL)

    def _finish(self, claim: Claim, outcome: Outcome, following: Next, **more: Any) -> FinishReply:
        reply = self.store.run(
            ops.finish(FinishRequest(fence=self.running(claim), outcome=outcome, next=following, **more))
        )
        assert reply.verdict is Verdict.APPLIED, reply
        return reply

    def run_one(self, result: str | None = None) -> Claim:
        """Take the next job of ``reports`` through its life to success."""
        claim = self.claim()
        assert claim is not None
        self.complete(claim, result)
        return claim


@pytest.fixture
def player(redis_server: StoreServer) -> Iterator[Player]:
    """A player on the test's Redis."""
    with Store.connect(redis_server.url) as store:
        yield Player(store)


@pytest.fixture
def served(player: Player) -> Player:
    """A player that serves the queue ``reports`` with defaults."""
    player.serve("reports")
    return player


@pytest.fixture
def client(redis_server: StoreServer) -> Iterator[Client]:
    """A client of the test's Redis."""
    with Client(redis_server.url) as made:
        yield made


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


Run = Callable[..., Said]


@pytest.fixture
def run(redis_server: StoreServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``heavylift ...`` on the test's Redis."""
    monkeypatch.setenv("HEAVYLIFT_REDIS_URL", redis_server.url)
    monkeypatch.setenv("USER", "ada")

    def call(*arguments: str) -> Said:
        code = main(arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Said(code, out, err)

    return call
