"""A crowd on one server: eight processes claim and finish what two enqueue, while their history is read along."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue as Pipe
from queue import Empty
from typing import Any

import redis

from heavylift.store import Store, Verdict, ops
from tests.proofs import forking
from tests.proofs.crowd import checks
from tests.proofs.crowd.hands import Gates, Report, consume, produce
from tests.proofs.crowd.plan import INSTALL, NAMESPACE, PROCESSES, QUEUES, Bounds, asked, job_id
from tests.proofs.crowd.trail import Reader, Trail
from tests.proofs.history import left_in_redis

PRODUCERS = 2
STEADY = 30.0
"""Seconds without any event after which a crowd is given up."""


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """How many do what."""

    jobs: int = 20_000
    processes: int = PROCESSES
    seed: int = 1
    bounds: Bounds = field(default_factory=Bounds)

    def of(self, queue: str) -> Bounds:
        """Return the bounds of one queue; in the second one keys take turns."""
        return Bounds(**{**asdict(self.bounds), "fair": queue == QUEUES[1]})


@dataclass(kw_only=True)
class Verdicts:
    """What a crowd did, and which promises it found broken."""

    broken: list[str]
    jobs: int
    seconds: float
    """From the first process's start to the last event."""
    events: int
    starts: int
    most: dict[str, int]
    """The most there was at once, of cap, key, window and width: what the checks compared with the bounds."""
    blocked: dict[str, int]
    """Why claims brought no more, by how often."""
    verdicts: dict[str, int]
    """What the scripts answered, by how often."""
    happened: dict[str, int] = field(default_factory=dict)
    """Events by name."""
    lost_replies: int = 0
    cpu_s: dict[str, float] = field(default_factory=dict)
    """Processor seconds of the processes together, and of the server."""


def play(server: redis.Redis, url: str, crowd: Crowd, say: Callable[[str], None] = lambda _: None) -> Verdicts:
    """Let a crowd work on an empty server until every job has ended; return the verdicts.

    Raises:
        RuntimeError: a process failed, or nothing happened any more before all jobs had ended.
    """
    with Store.connect(url) as store:
        for queue in QUEUES:
            settings = crowd.of(queue).settings(queue)
            done = store.run(
                ops.put_settings(
                    queue, settings, generation=1, install=INSTALL, namespace=NAMESPACE, uid=f"uid-{queue}"
                )
            )
            if done.verdict is not Verdict.APPLIED:
                raise RuntimeError(f"the settings of {queue} were not taken: {done.message}")
    began = time.monotonic()
    reader = Reader(server, QUEUES)
    with _working(url, crowd) as (gates, members, reports):
        _read_along(reader, gates, members, crowd.jobs, say)
        seconds = time.monotonic() - began
        gates.over.set()
        told = _collect(reports, members)
    while reader.read(wait_ms=1):
        pass
    found = judged(crowd, _trails(server, reader, crowd, told), told, seconds)
    info: Any = server.info("cpu")
    used = {"processes": sum(report.cpu_s for report in told), "server": info["used_cpu_user"] + info["used_cpu_sys"]}
    return replace(found, cpu_s={name: round(seconds, 1) for name, seconds in used.items()})


@contextlib.contextmanager
def _working(url: str, crowd: Crowd) -> Iterator[tuple[Gates, list[BaseProcess], Pipe[Report]]]:
    context = forking.context()
    gates, reports = Gates(context.Event(), context.Event()), context.Queue()
    gates.go.set()
    producers = [
        context.Process(target=produce, args=(url, crowd.jobs, (n, PRODUCERS), gates, reports), name=f"producer-{n}")
        for n in range(PRODUCERS)
    ]
    consumers = [
        context.Process(target=consume, args=(url, f"w{n}", crowd.seed, gates, reports), name=f"w{n}")
        for n in range(crowd.processes)
    ]
    members: list[BaseProcess] = [*producers, *consumers]
    for member in members:
        member.start()
    try:
        yield gates, members, reports
    finally:
        gates.over.set()
        for member in members:
            member.join(20)
            if member.is_alive():
                member.kill()
                member.join(20)
        reports.close()


def _read_along(
    reader: Reader, gates: Gates, members: Sequence[BaseProcess], jobs: int, say: Callable[[str], None]
) -> None:
    last, moved, shown = -1, time.monotonic(), time.monotonic()
    while reader.ended < jobs:
        (gates.go.clear if reader.read() else gates.go.set)()
        now = time.monotonic()
        total = sum(map(len, reader.lines.values()))
        if total != last:
            last, moved = total, now
        failed = [f"{member.name} ({member.exitcode})" for member in members if member.exitcode]
        if failed or now - moved > STEADY:
            why = f"these processes failed: {', '.join(failed)}" if failed else f"no event for {STEADY:g} s"
            raise RuntimeError(f"{reader.ended} of {jobs} jobs ended, then: {why}")
        if now - shown >= 1:
            shown = now
            say(f"{reader.ended:,} of {jobs:,} jobs ended, {total:,} events")


def _collect(reports: Pipe[Report], members: Sequence[BaseProcess]) -> list[Report]:
    told: list[Report] = []
    for _ in members:
        try:
            told.append(reports.get(timeout=60))
        except Empty:
            raise RuntimeError(f"{len(told)} of {len(members)} processes told what they did") from None
    failed = [report.error for report in told if report.error]
    if failed:
        raise RuntimeError("; ".join(failed))
    return told


def _trails(server: redis.Redis, reader: Reader, crowd: Crowd, told: Sequence[Report]) -> list[Trail]:
    claims = Counter(claim for report in told for claim in report.told)
    accepted = Counter(job for report in told for job in report.accepted)
    left = left_in_redis(server, QUEUES, INSTALL)
    trails = []
    for queue in QUEUES:
        mine = f"{queue}-"
        trails.append(
            Trail(
                queue=queue,
                bounds=crowd.of(queue),
                asked={job_id(queue, number): asked(number) for number in range(crowd.jobs // len(QUEUES))},
                lines=reader.lines[queue],
                added=reader.added(queue),
                told=Counter({claim: times for claim, times in claims.items() if claim[0].startswith(mine)}),
                accepted=Counter({job: times for job, times in accepted.items() if job.startswith(mine)}),
                left=left if queue == QUEUES[0] else {},
            )
        )
    return trails


def judged(crowd: Crowd, trails: Sequence[Trail], told: Sequence[Report], seconds: float) -> Verdicts:
    """Check what was left behind, and count what makes the checks mean something."""
    answers: Counter[str] = sum((report.verdicts for report in told), Counter())
    broken = [sentence for trail in trails for sentence in checks.check(trail)]
    broken += checks.width_breaches(trails, crowd.processes)
    lost = sum(report.lost for report in told)
    broken += [
        f"{times} answers {answer!r}" for answer, times in sorted(answers.items()) if _odd(answer, times <= lost)
    ]
    happened = Counter(line.name for trail in trails for line in trail.lines)
    return Verdicts(
        broken=broken,
        jobs=crowd.jobs,
        seconds=round(seconds, 1),
        events=happened.total(),
        starts=happened["active"],
        most=checks.most(trails),
        blocked=dict(sum((report.blocked for report in told), Counter())),
        verdicts=dict(answers),
        happened=dict(happened),
        lost_replies=lost,
    )


def _odd(answer: str, few: bool) -> bool:
    """Whether the holder of a claim was refused, or the end of a claim was written a second time.

    A few are right: who repeats a release whose reply was lost may come when somebody else has released the job since.
    """
    what, _, verdict = answer.partition(" ")
    if few and answer == "release refused":
        return False
    return verdict != "already" if what == "repeat" else verdict not in {"applied", "already"}


def summary(found: Verdicts) -> Mapping[str, Any]:
    """Return the verdicts as JSON knows them."""
    return asdict(found)
