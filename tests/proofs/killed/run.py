"""Rounds of kills on one server: who is killed when, what the audit finds, and how each job came to its end."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from typing import Any, TypeAlias

import redis

from heavylift.contract import failpoints
from heavylift.store import Store, ops
from tests.proofs import audit, forking
from tests.proofs.crowd.plan import QUEUES
from tests.proofs.crowd.trail import Reader
from tests.proofs.history import Line
from tests.proofs.killed.acts import Actor, serve, settle, tour
from tests.proofs.waiting import until

Counted: TypeAlias = "Synchronized[int]"  # not subscriptable at run time
_TOGETHER = 2
"""Processes at once: they meet each other's jobs."""
_ACTS = 25
"""A process does one to so many things before it is killed, in the midst of the next."""


def _act(url: str, name: str, seed: int, acts: Counted) -> None:
    """Act for ever."""
    with Store.connect(url) as store:
        actor = Actor(store, name, random.Random(f"{seed} {name}"))
        while True:
            actor.act()
            acts.value += 1


def _tour_until(url: str, seed: int, reply: int) -> None:
    """Make the tour, and die when so many replies have come."""
    failpoints.load({failpoints.ENV: f"store.reply:kill@{reply}"})
    with Store.connect(url) as store:
        tour(store, seed)


@dataclass(kw_only=True)
class Deaths:
    """What rounds of kills left behind."""

    broken: list[str] = field(default_factory=list)
    kills: int = 0
    acts: int = 0
    """Events that the killed ones left, all lives together."""
    happened: dict[str, int] = field(default_factory=dict)
    """Events by name."""
    found_running: int = 0
    """Executions that audits met: their process was dead."""
    found_held: int = 0
    """Deduplication keys that audits met."""


def random_kills(
    client: redis.Redis, url: str, *, kills: int, seed: int, say: Callable[[str], None] = lambda _: None
) -> Deaths:
    """Kill pairs of processes at random moments, with an audit after each pair; then bring all to its end."""
    deaths, choice, context = Deaths(), random.Random(seed), forking.context()
    with Store.connect(url) as store:
        serve(store)
        reader = Reader(client, QUEUES)
        ours = connections(client)
        while deaths.kills < kills and not deaths.broken:
            pair = []
            for n in range(_TOGETHER):
                acts = context.Value("i", 0)
                arguments = (url, f"a{deaths.kills + n}", seed, acts)
                pair.append((context.Process(target=_act, args=arguments, daemon=True), acts))
            _kill_all(pair, choice)
            deaths.kills += len(pair)
            rest(client, ours)
            _audited(client, deaths, f"seed {seed}, kill {deaths.kills}")
            while reader.read(wait_ms=1):
                pass
            say(f"{deaths.kills} of {kills} killed, {sum(map(len, reader.lines.values())):,} events")
        _to_the_end(client, store, deaths, f"seed {seed}, the end")
        while reader.read(wait_ms=1):
            pass
        _judge(reader, deaths)
    return deaths


def _kill_all(pair: Sequence[tuple[BaseProcess, Counted]], choice: random.Random) -> None:
    for process, _ in pair:
        process.start()
    for process, acts in pair:
        enough = choice.randint(1, _ACTS)
        until(
            partial(_has_done, process, acts, enough), f"{process.name} to act {enough} times", limit=120, every=0.0005
        )
        process.kill()
        process.join(60)
        if process.exitcode != -signal.SIGKILL:
            raise RuntimeError(f"{process.name} ended by itself: exit code {process.exitcode}")


def _has_done(process: BaseProcess, acts: Counted, enough: int) -> bool:
    return process.exitcode is not None or acts.value >= enough


def connections(client: redis.Redis) -> set[str]:
    """Return the ids of all that are connected."""
    peers: Any = client.client_list()
    return {peer["id"] for peer in peers}


def rest(client: redis.Redis, ours: set[str]) -> None:
    """Wait until what the dead had sent is done: the server closes their connections after it."""
    until(lambda: connections(client) <= ours, "the server to be done with the dead", every=0.002)


def after_each_script(client: redis.Redis, url: str, *, seed: int, first: int = 1, step: int = 1) -> Deaths:
    """Kill a process that makes the tour after its first reply, on an empty server again after its second, and so on.

    A death after a reply is one before the next script, too.
    """
    deaths, context = Deaths(), forking.context()
    for reply in range(first, 10_000, step):
        client.flushall()
        with Store.connect(url) as store:
            serve(store)
            reader, ours = Reader(client, QUEUES), connections(client)
            process = context.Process(target=_tour_until, args=(url, seed, reply), daemon=True)
            process.start()
            process.join(60)
            if process.exitcode == 0:
                return deaths  # the tour has fewer replies
            deaths.kills += 1
            rest(client, ours)
            where = f"seed {seed}, after reply {reply}"
            _audited(client, deaths, where)
            _to_the_end(client, store, deaths, where)
            reader.read(wait_ms=1)
            _judge(reader, deaths)
        if deaths.broken or process.exitcode != -signal.SIGKILL:
            deaths.broken.append(f"{where}: exit code {process.exitcode}")
            return deaths
    raise RuntimeError("the tour has no end")


def _audited(client: redis.Redis, deaths: Deaths, where: str) -> None:
    found = audit.take(client)
    deaths.broken += [f"{where}: {sentence}" for sentence in audit.unsound(found)]
    deaths.found_running += len(found.running)
    deaths.found_held += sum(len(found.table(audit.KEYS.dedup(queue))) for queue in found.queues)


def _to_the_end(client: redis.Redis, store: Store, deaths: Deaths, where: str) -> None:
    """Let another process finish the work; nothing may be left then, and no sweep or claim has had to mend anything."""
    settle(store)
    found = audit.take(client)
    deaths.broken += [f"{where}: {sentence}" for sentence in (*audit.unsound(found), *_left(found))]
    for queue in QUEUES:
        deaths.broken += [f"{where}: {sentence}" for sentence in _mended(store, queue)]


def _left(found: audit.Standing) -> Iterator[str]:
    for job in found.jobs:
        if found.state(job) not in audit.ENDED:
            yield f"job {job} has no end: {found.state(job)}"
    for queue in found.queues:
        names = (audit.KEYS.lanes, audit.KEYS.heads, audit.KEYS.full, audit.KEYS.keyed, audit.KEYS.keyof)
        for key in [name(queue) for name in names]:
            if found.table(key):
                yield f"{key} holds {list(found.table(key))[:3]} after the end of all jobs"


def _mended(store: Store, queue: str) -> Iterator[str]:
    """Yield what the product's own sweeps find to mend, or found before."""
    keys, cursor = ops.KeyCursor(), 0
    while True:
        keys, mended = store.run(ops.sweep_keys(queue, keys))
        if mended:
            yield f"the sweep of {queue} mended {mended} entries of keys"
        if keys == ops.KeyCursor():
            break
    while True:
        cursor, stale = store.run(ops.sweep_dedupe(queue, cursor))
        if stale:
            yield f"the sweep of {queue} found {stale} stale deduplication keys"
        if not cursor:
            break
    for name, count in store.run(ops.counters(queue)).items():
        if name in {"repaired:keys", "repaired:dedupe", "quarantined", "dropped"}:
            yield f"{queue} counts {name} {count} times"


def _judge(reader: Reader, deaths: Deaths) -> None:
    for queue, lines in reader.lines.items():
        if len(lines) != reader.added(queue):
            deaths.broken.append(f"{queue}: {len(lines)} events read of {reader.added(queue)}")
        for line in lines:
            deaths.happened[line.name] = deaths.happened.get(line.name, 0) + 1
        deaths.acts += len(lines)
    deaths.broken += ends([line for lines in reader.lines.values() for line in lines])


def ends(lines: Iterable[Line]) -> list[str]:
    """Return a sentence for each job whose lives and ends do not alternate: one end for each enqueue and each retry."""
    alive: dict[str, bool] = {}
    broken = []
    for line in lines:
        begins = line.name == "added" or (line.name == "waiting" and line.fields.get("reason") == "retry")
        if begins or line.final:
            if alive.get(line.job, False) == begins:
                broken.append(
                    f"job {line.job}: {line.name} at {line.at} of one that {'lives' if begins else 'has ended'}"
                )
            alive[line.job] = begins
    return broken + [f"job {job} has no end" for job, lives in alive.items() if lives]
