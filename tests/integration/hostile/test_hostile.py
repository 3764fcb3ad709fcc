"""Malformed entries placed by hand stop nothing, are told of, and nothing of them is ever executed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from heavylift.contract.keys import Field
from tests.integration.hostile.entries import CANARY_MODULE, KEYS, QUEUE_KEYS, End, entries, job, packed
from tests.proofs.install import apply_queue, condition, heavyqueue
from tests.proofs.kube import Kube
from tests.proofs.processes import Daemon, Supervisor
from tests.proofs.run import Run
from tests.proofs.waiting import until
from tests.servers import StoreServer, redis_binary

Json = dict[str, Any]
WITHIN_MS = 2000
KINDS = list(entries("/nonexistent"))


@dataclass
class Target:
    """The processes under fire, and where a hostile program would leave its mark."""

    run: Run
    dispatcher: Daemon
    operator: Daemon
    canary: Path
    imported: Path
    queues: int = 0

    def queue(self) -> str:
        """Make one more queue with a HeavyQueue, served by now."""
        self.queues += 1
        name = f"q{self.queues}"
        apply_queue(self.run.kube, heavyqueue(name, self.run.name))
        self.run.wait_settings(name)
        return name

    def served(self, queue: str) -> None:
        """Run one job of the queue, so that the dispatcher is known to serve it."""
        self.dispatched(queue, self.run.enqueue(f"{queue}-first", queue=queue))

    def dispatched(self, queue: str, job: str) -> int:
        """Wait until a job has its Job; return the milliseconds between the events ``added`` and ``recorded``."""

        def times() -> list[int]:
            lines = [line for line in self.run.events(job, queue) if line.name in {"added", "recorded"}]
            return [line.at for line in lines] if {line.name for line in lines} == {"added", "recorded"} else []

        added, *_, recorded = until(times, f"a Job for {job} of {queue}", limit=30)
        return recorded - added

    def unharmed(self) -> None:
        """Assert that nothing was executed, that both processes live, and that none of them stumbled."""
        assert not self.canary.exists()
        assert not self.imported.exists()
        for daemon in (self.dispatcher, self.operator):
            assert (daemon.starts, daemon.returncode) == (1, None)
            assert "Traceback" not in daemon.log()


@pytest.fixture(scope="module")
def target(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Give one dispatcher and one operator, with a module on their path that tells when it is imported."""
    folder = tmp_path_factory.mktemp("hostile")
    imported = folder / "imported"
    (folder / f"{CANARY_MODULE}.py").write_text(
        f"open({str(imported)!r}, 'w').close()\ndef run(*args, **kwargs): open({str(imported)!r}, 'w').close()\n"
    )
    server = StoreServer(redis_binary(), folder / "redis").start()
    run = Run(kube, server, folder, f"hostile-{folder.name[-1]}-{server.port}")
    run.prepare()
    daemons = run.pair()
    for daemon in daemons:
        daemon.settings = {**daemon.settings, "PYTHONPATH": str(folder)}
    try:
        with Supervisor(*daemons) as supervisor:
            supervisor.wait_ready()
            yield Target(run, daemons[1], daemons[0], folder / "canary", imported)
    finally:
        server.kill()


def quarantine(target: Target, queue: str) -> list[Json]:
    """Return the notes in a queue's quarantine."""
    with target.run.client() as client:
        raw: Any = client.lrange(KEYS.quarantine(queue), 0, -1)
    return [json.loads(note) for note in raw]


def counted(target: Target, queue: str) -> int:
    """Return how many entries the queue's counters say were dropped."""
    with target.run.client() as client:
        raw: Any = client.hgetall(KEYS.counters(queue))
    return sum(int(value) for name, value in raw.items() if b"dropped" in name or b"ghost" in name)


def ended(target: Target, queue: str, job: str, end: End, words: str) -> bool:
    """Return whether a bad entry has become what it must."""
    if end is End.DROPPED:
        return counted(target, queue) > 0
    if end is End.QUARANTINED:
        return any(note.get("message") and note["id"][:20] == job[:20] for note in quarantine(target, queue))
    if end is End.RUNS:
        made = [line for line in target.run.events(job, queue) if line.name == "recorded"]
        return [line.execution.rpartition("-")[2] for line in made] == ["1"]
    fields = target.run.fields(job)
    outcome = json.loads(fields.get(Field.OUTCOME) or "{}")
    final = [line for line in target.run.events(job, queue) if line.final]
    return (
        fields.get("status") == "failed"
        and outcome.get("class") == "invalid"
        and words in outcome.get("message", "")
        and bool(outcome.get("message"))
        and len(final) == 1
    )


@pytest.mark.parametrize("kind", KINDS)
def test_malformed_entry(target: Target, kind: str) -> None:
    """A malformed entry is told of as it must, and the good job behind it has its Job within 2 s."""
    entry = entries(str(target.canary))[kind]
    queue = target.queue()
    target.served(queue)
    with target.run.client() as client:
        bad = entry.place(client, queue, f"{queue}-bad")
    good = target.run.enqueue(f"{queue}-good", queue=queue)
    assert target.dispatched(queue, good) <= WITHIN_MS
    until(lambda: ended(target, queue, bad, entry.end, entry.words), f"{kind}: it {entry.end.value}", limit=10)
    with target.run.client() as client:
        assert client.lpos(KEYS.queue(queue), bad) is None, "it was taken out of the list"
        assert client.zscore(KEYS.inflight(target.run.install), f"{bad}:x") is None
    target.unharmed()


@pytest.mark.parametrize("kind", QUEUE_KEYS)
def test_malformed_key_of_a_queue(target: Target, kind: str) -> None:
    """A wrong value at one queue's own key keeps no other queue waiting, and that queue says what is wrong."""
    bad, good = target.queue(), target.queue()
    target.served(good)
    target.served(bad)
    with target.run.client() as client:
        key = QUEUE_KEYS[kind].place(client, bad)
        placed = client.type(key)
        assert target.dispatched(good, target.run.enqueue(f"{good}-good", queue=good)) <= WITHIN_MS

        def told() -> bool:
            ready = condition(target.run.kube, target.run.name, bad)
            return ready.get("status") == "False" and key in ready.get("message", "")

        until(
            lambda: told() or client.type(key) != placed, f"{bad} to say that {key} is wrong, or to mend it", limit=45
        )
        client.delete(key)
    target.run.wait_settings(bad)
    target.dispatched(bad, target.run.enqueue(f"{bad}-after", queue=bad))
    target.unharmed()


def test_function_named_in_redis_is_not_called(target: Target) -> None:
    """A plain RQ job that names a function of ours to call gets a pod; no process of ours calls or imports it."""
    queue = target.queue()
    target.served(queue)
    with target.run.client() as client:
        place = job(packed(["os.system", None, [f"touch {target.canary}"], {}]))
        bad = place(client, queue, f"{queue}-func")
    until(lambda: any(line.name == "recorded" for line in target.run.events(bad, queue)), "its Job", limit=20)
    until(lambda: target.run.fields(bad).get("status") == "finished", "its end", limit=30)
    target.unharmed()


def test_junk_on_the_channels_and_in_the_sets(target: Target) -> None:
    """Junk on the doorbell and wake channels and in our zsets stops neither process."""
    queue = target.queue()
    target.served(queue)
    with target.run.client() as client:
        for channel in (KEYS.doorbell(), KEYS.wake()):
            for junk in (b"", b"\xff\xfe\x00", b"x" * 100_000, b"no such queue", b"\r\n*1\r\n"):
                client.publish(channel, junk)
        client.zadd(KEYS.inflight(target.run.install), {b"junk": 1, b"\xff:\xfe": 2, b":": 3, b"gone:inc-1": 4})
        client.zadd(KEYS.unfinalized(target.run.install), {b"junk": 1, b"\xff/\xfe": 2, b"/": 3})
        client.zadd(KEYS.delayed(queue), {b"gone": 1, b"\xff\xfe": 2, b"h" * 500_000: 3})
        good = target.run.enqueue(f"{queue}-good", queue=queue)
        assert target.dispatched(queue, good) <= WITHIN_MS
        until(lambda: client.zcard(KEYS.delayed(queue)) == 0, "junk to leave the delayed jobs", limit=20)
        until(
            lambda: client.zscore(KEYS.inflight(target.run.install), "gone:inc-1") is None, "ghosts to leave", limit=30
        )
    until(lambda: target.run.fields(good).get("status") == "finished", "the good job's end", limit=30)
    target.unharmed()
