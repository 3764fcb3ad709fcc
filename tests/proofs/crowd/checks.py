"""What must hold in the history of a crowd's queue, whatever the processes did. Pure; one sentence for each breach."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import TypeVar

from tests.proofs.crowd.plan import SLOTS
from tests.proofs.crowd.trail import Trail
from tests.proofs.crowd.yard import Entry, Lane, Yard, replay
from tests.proofs.history import LEAVES_ACTIVE, Line

T = TypeVar("T", str, tuple[str, str, str])
SHOWN = 20
"""Sentences of one rule; a broken promise tends to be broken often."""


def check(trail: Trail) -> list[str]:
    """Return one sentence per broken promise; empty means that all held."""
    return [f"{trail.queue}: {sentence}" for rule in RULES for sentence in islice(rule(trail), SHOWN)]


def _whole(trail: Trail) -> Iterator[str]:
    if len(trail.lines) != trail.added:
        yield f"{trail.added} events were written, {len(trail.lines)} were read: the history has gaps"


def _all_accepted(trail: Trail) -> Iterator[str]:
    added = Counter(line.job for line in trail.lines if line.name == "added")
    for job in _differing(added, trail.accepted, Counter(trail.asked.keys())):
        yield f"job {job} was asked for once, accepted {trail.accepted[job]} times and added {added[job]} times"


def _each_once(trail: Trail) -> Iterator[str]:
    active: dict[str, str] = {}
    ends: Counter[str] = Counter()
    for line in trail.lines:
        if line.name == "active":
            if line.job in active:
                yield f"job {line.job} was claimed as {line.execution} while {active[line.job]} was current"
            if ends[line.job]:
                yield f"job {line.job} was claimed as {line.execution} after its end"
            active[line.job] = line.execution
        elif line.final or line.name in LEAVES_ACTIVE:
            ends[line.job] += line.final
            current = active.pop(line.job, "")
            if line.execution and line.execution != current:
                yield f"job {line.job} {line.name} by {line.execution}, but {current or 'nothing'} was current"
    for job in trail.asked:
        if ends[job] != 1:
            yield f"job {job} has {ends[job]} ends"


def _as_told(trail: Trail) -> Iterator[str]:
    claims = Counter(
        (line.job, line.execution, line.fields.get("worker", "")) for line in trail.lines if line.name == "active"
    )
    for claim in _differing(claims, trail.told):
        yield f"the claim {claim} was made {claims[claim]} times and told {trail.told[claim]} times"


def _differing(first: Counter[T], *others: Counter[T]) -> Iterator[T]:
    members = set(first).union(*others)
    yield from sorted(member for member in members if any(first[member] != other[member] for other in others))


def _within_cap(trail: Trail) -> Iterator[str]:
    for yard, line in replay(trail.lines, trail.asked):
        if line.name == "active" and len(yard.running) >= trail.bounds.cap:
            yield f"job {line.job} started while {len(yard.running)} ran; the cap is {trail.bounds.cap}"


def _within_keys(trail: Trail) -> Iterator[str]:
    for yard, line in replay(trail.lines, trail.asked):
        key = yard.lane(line.job)[1]
        if line.name == "active" and key and yard.of_key[key] >= trail.bounds.per_key:
            yield f"job {line.job} started while {yard.of_key[key]} of key {key} ran; {trail.bounds.per_key} may"


def windows(trail: Trail) -> Iterator[tuple[Line, int]]:
    """Yield each start and how many fell into the window that ends with it, itself included.

    A start that was given back before it had a Job counts until then.
    """
    starts: deque[tuple[int, str]] = deque()
    recorded: set[str] = set()
    for line in trail.lines:
        if line.name == "active":
            while starts and starts[0][0] <= line.at - trail.bounds.period:
                starts.popleft()
            starts.append((line.at, line.job))
            recorded.discard(line.job)
            yield line, len(starts)
        elif line.name == "recorded":
            recorded.add(line.job)
        elif line.name == "released" and line.job not in recorded:
            last = next((entry for entry in reversed(starts) if entry[1] == line.job), None)
            if last is not None:
                starts.remove(last)


def _within_rate(trail: Trail) -> Iterator[str]:
    bounds = trail.bounds
    for line, count in windows(trail):
        if count > bounds.limit:
            yield f"job {line.job} was start {count} within {bounds.period} ms at {line.at}; {bounds.limit} may"


def _in_order(trail: Trail) -> Iterator[str]:
    """First in, first out: by level, and within a level by time, but for keys at their cap."""
    if trail.bounds.fair:
        return
    for yard, line in replay(trail.lines, trail.asked):
        if line.name == "active":
            yield from _overtaken(yard, line, trail.bounds.per_key)


def _overtaken(yard: Yard, line: Line, per_key: int) -> Iterator[str]:
    level, key = mine = yard.lane(line.job)
    entry, sentence = _head(yard, mine, line.job)
    if sentence:
        yield sentence
        return
    for other, head in yard.waiting():
        if other == mine or (other[1] and yard.of_key[other[1]] >= per_key):
            continue
        if other[0] < level:
            yield f"job {line.job} of level {level} was taken before {head.job} of level {other[0]}"
        elif other[0] == level and head.since + 1 < entry.since:  # within a millisecond they came at once
            yield f"job {line.job} (key {key!r}) was taken before {head.job} (key {other[1]!r}), which came first"


def _head(yard: Yard, lane: Lane, job: str) -> tuple[Entry, str]:
    waiting = yard.lanes.get(lane)
    if not waiting:
        return Entry(job, 0), f"job {job} was taken, and did not wait"
    if waiting[0].job != job:
        return waiting[0], f"job {job} was taken before {waiting[0].job} of the same level and key"
    return waiting[0], ""


def _in_turn(trail: Trail) -> Iterator[str]:
    """Round robin: no key has two turns while another waits through both; within a key by level, then in order."""
    if not trail.bounds.fair:
        return
    turns: dict[str, int] = {}
    ready: dict[str, int] = {}
    changed = ""
    for index, (yard, line) in enumerate(replay(trail.lines, trail.asked)):
        if not yard.first(changed) or (changed and yard.of_key[changed] >= trail.bounds.per_key):
            ready.pop(changed, None)
        else:
            ready.setdefault(changed, index)
        changed = yard.lane(line.job)[1]
        if line.name == "active":
            yield from _out_of_turn(yard, line, turns, ready)
            turns[changed] = index


def _out_of_turn(yard: Yard, line: Line, turns: Mapping[str, int], ready: Mapping[str, int]) -> Iterator[str]:
    _, key = lane = yard.lane(line.job)
    first = yard.first(key)
    if first and first[0] != lane:
        yield f"job {line.job} of level {lane[0]} was taken before {first[1].job} of level {first[0][0]}, key {key!r}"
    elif sentence := _head(yard, lane, line.job)[1]:
        yield sentence
    before = turns.get(key)
    for other, since in ready.items():
        if before is not None and other != key and max(since, turns.get(other, -1)) < before:
            yield f"job {line.job}: key {key!r} had a second turn while {other!r} waited for one"


def _nothing_left(trail: Trail) -> Iterator[str]:
    for key, members in sorted(trail.left.items()):
        if members:
            yield f"{key} still holds {len(members)}: {list(members)[:3]}"


RULES: tuple[Callable[[Trail], Iterable[str]], ...] = (
    _whole,
    _all_accepted,
    _each_once,
    _as_told,
    _within_cap,
    _within_keys,
    _within_rate,
    _in_order,
    _in_turn,
    _nothing_left,
)


def width_breaches(trails: Sequence[Trail], processes: int) -> list[str]:
    """Return where more ran over all queues than slots times processes, at the end of each millisecond.

    Within one the events of two queues have no order.
    """
    running: set[str] = set()
    found: list[str] = []
    lines = sorted((line for trail in trails for line in trail.lines), key=lambda line: line.at)
    for line, following in zip_longest(lines, lines[1:]):
        if line.name == "active":
            running.add(line.job)
        elif line.final or line.name in LEAVES_ACTIVE:
            running.discard(line.job)
        last = following is None or following.at != line.at
        if last and len(running) > SLOTS * processes:
            found.append(f"{len(running)} ran at {line.at}; the width is {SLOTS * processes}")
    return found[:SHOWN]


def most(trails: Sequence[Trail]) -> dict[str, int]:
    """Return the most executions there were at once, of a queue and of a key, and the most starts in a window."""
    cap = key = rate = 0
    for trail in trails:
        for yard, _ in replay(trail.lines, trail.asked):
            cap = max(cap, len(yard.running))
            key = max(key, *(count for name, count in yard.of_key.items() if name), 0)
        rate = max([rate, *(count for _, count in windows(trail))])
    return {"cap": cap, "key": key, "rate": rate}
