"""The checks of a crowd's history find each kind of broken promise, and nothing in a sound history."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

import pytest

from tests.proofs.crowd.checks import check, most, width_breaches
from tests.proofs.crowd.plan import SLOTS, Asked, Bounds
from tests.proofs.crowd.trail import Trail
from tests.proofs.history import Line

Step = tuple[int, str, str, Mapping[str, str]]
UID, FINAL = {"uid": "u"}, {"final": "1"}


def lines(*steps: Step) -> list[Line]:
    """Return events from (ms, name, ``job/seq``, more fields)."""
    found = []
    for n, (at, name, which, more) in enumerate(steps):
        job, _, seq = which.partition("/")
        fields = {"execution": f"{job}-{seq}"} if seq else {}
        if name == "active":
            fields["worker"] = "w0"
        found.append(Line(f"{at}-{n}", "q", name, job, at, {**fields, **more}))
    return found


def trail(asked: Mapping[str, Asked], *steps: Step, bounds: Bounds, told: tuple[Step, ...] = ()) -> Trail:
    """Return a trail in which every claim was told once, unless ``told`` says which were."""
    claims = [line for line in lines(*(told or steps)) if line.name == "active"]
    return Trail(
        queue="q",
        bounds=bounds,
        asked=asked,
        lines=lines(*steps),
        added=len(steps),
        told=Counter((line.job, line.execution, "w0") for line in claims),
        accepted=Counter(asked.keys()),
    )


ORDERED = Bounds(cap=2, per_key=1, limit=2, period=10)
ASKED = {"a": Asked(), "b": Asked(key="k0"), "c": Asked(key="k0"), "d": Asked(level=7)}
STEPS: list[Step] = [
    (0, "added", "a", {}),
    (2, "added", "b", {}),
    (4, "added", "c", {}),
    (6, "added", "d", {}),
    (10, "active", "a/1", {}),
    (10, "active", "b/1", {}),
    (11, "recorded", "a/1", UID),
    (11, "recorded", "b/1", UID),
    (12, "retrying", "a/1", {"delay": "0"}),
    (21, "active", "a/2", {}),  # c came before, but its key is at its cap
    (22, "completed", "b/1", FINAL),
    (23, "active", "c/1", {}),
    (24, "released", "c/1", {}),
    (25, "active", "c/1", {}),
    (26, "recorded", "c/1", UID),
    (30, "completed", "a/2", FINAL),
    (31, "completed", "c/1", FINAL),
    (36, "active", "d/1", {}),
    (37, "failed", "d/1", FINAL),
]


def moved(old: int, new: int, at: int | None = None) -> list[Step]:
    """Return the steps with one put elsewhere, at another time if need be."""
    steps = [step for index, step in enumerate(STEPS) if index != old]
    step = STEPS[old]
    steps.insert(new, step if at is None else (at, *step[1:]))
    return steps


def test_a_sound_history_breaks_nothing() -> None:
    """Retries, releases and keys at their caps are sound, and are counted as they were."""
    sound = trail(ASKED, *STEPS, bounds=ORDERED)
    assert check(sound) == []
    assert width_breaches([sound], 1) == []
    assert most([sound]) == {"cap": 2, "key": 1, "rate": 2}


BROKEN: dict[str, tuple[list[Step], str]] = {
    "a doubled claim": ([*STEPS[:6], STEPS[4], *STEPS[6:]], "claimed as a-1 while a-1 was current"),
    "claimed after its end": ([*STEPS, (50, "active", "b/2", {})], "claimed as b-2 after its end"),
    "two ends": ([*STEPS, (50, "failed", "d", FINAL)], "job d has 2 ends"),
    "no end": (STEPS[:-1], "job d has 0 ends"),
    "the end of another execution": ([*STEPS[:-1], (37, "failed", "d/2", FINAL)], "by d-2, but d-1 was current"),
    "never added": (STEPS[1:], "accepted 1 times and added 0 times"),
    "an exceeded cap": (moved(17, 6, at=11), "job d started while 2 ran; the cap is 2"),
    "an exceeded key": (moved(11, 9, at=21), "job c started while 1 of key k0 ran; 1 may"),
    "a window above the limit": (moved(9, 9, at=19), "job a was start 3 within 10 ms at 19; 2 may"),
    "a start that had a Job, and counts": (moved(14, 12, at=23), "start 3 within 10 ms at 25; 2 may"),
    "an order turned round": (moved(5, 4), "job b (key 'k0') was taken before a (key ''), which came first"),
    "an order turned round within a key": (
        [(step[0], step[1], step[2].translate(str.maketrans("bc", "cb")), step[3]) if step[0] >= 10 else step
         for step in STEPS],
        "job c was taken before b of the same level and key",
    ),
    "a level turned round": (moved(17, 9, at=21), "job d of level 7 was taken before a of level 0"),
    "taken without waiting": (moved(3, 18), "job d was taken, and did not wait"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_each_breach_is_named(case: str) -> None:
    """A history with one thing wrong is told by the sentence for it."""
    steps, sentence = BROKEN[case]
    assert [found for found in check(trail(ASKED, *steps, bounds=ORDERED)) if sentence in found]


SOUND = trail(ASKED, *STEPS, bounds=ORDERED)
REST: dict[str, tuple[Trail, str]] = {
    "a gap": (dataclasses.replace(SOUND, added=20), "20 events were written, 19 were read"),
    "a claim nobody got": (
        trail(ASKED, *STEPS, bounds=ORDERED, told=tuple(STEPS[:-2])),
        "('d', 'd-1', 'w0') was made 1 times and told 0 times",
    ),
    "a claim two got": (
        trail(ASKED, *STEPS, bounds=ORDERED, told=(*STEPS, STEPS[-2])),
        "('d', 'd-1', 'w0') was made 1 times and told 2 times",
    ),
    "accepted twice": (dataclasses.replace(SOUND, accepted=Counter("aabcd")), "job a was asked for once, accepted 2"),
    "something left": (dataclasses.replace(SOUND, left={"rq:wip:q": ["a:a-2"]}), "rq:wip:q still holds 1"),
}


@pytest.mark.parametrize("case", REST)
def test_each_breach_beside_the_events_is_named(case: str) -> None:
    """What does not fit to the events is told, too."""
    changed, sentence = REST[case]
    assert [found for found in check(changed) if sentence in found]


TURNS = {"e": Asked(key="k0"), "f": Asked(key="k0", level=-5), "g": Asked(key="k1"), "h": Asked(), "i": Asked(key="k0")}
_ADDED: list[Step] = [(n, "added", job, {}) for n, job in enumerate("egfhi")]
_ENDED: list[Step] = [(60, "completed", f"{job}/1", FINAL) for job in "egfhi"]


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        ("fghei", ""),
        ("fehgi", "job e: key 'k0' had a second turn while 'k1' waited for one"),
        ("egfhi", "job e of level 0 was taken before f of level -5, key 'k0'"),
        ("fghie", "job i was taken before e of the same level and key"),
    ],
)
def test_keys_take_turns(order: str, sentence: str) -> None:
    """Round robin over keys, and by level and in order within each."""
    claims: list[Step] = [(10 + n, "active", f"{job}/1", {}) for n, job in enumerate(order)]
    found = check(trail(TURNS, *_ADDED, *claims, *_ENDED, bounds=Bounds(cap=9, per_key=9, limit=9, fair=True)))
    assert found if sentence else not found
    assert all(sentence in told for told in found[:1])


def test_the_width_counts_over_queues() -> None:
    """What runs in all queues together is held against slots times processes, at the end of each millisecond."""
    starts: list[Step] = [(1 + n // SLOTS, "active", f"j{n}/1", {}) for n in range(SLOTS + 1)]
    both = [trail({}, *starts[:4], bounds=ORDERED), trail({}, *starts[4:], bounds=ORDERED)]
    assert width_breaches(both, 1) == [f"{SLOTS + 1} ran at 2; the width is {SLOTS}"]
