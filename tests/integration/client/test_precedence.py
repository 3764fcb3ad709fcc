"""Whose word counts: enqueue, then @task, then the HeavyQueue's defaults; and what ``allow`` refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import heavylift
from heavylift import Backoff, Client, InvalidInputError, InvalidPayloadError, Timeouts, tasks
from heavylift.spec.following import backoff_from

if TYPE_CHECKING:
    from tests.integration.client.conftest import Player

HOUR, MINUTE = 3_600_000, 60_000
DEFAULTS: dict[str, Any] = {
    "maxAttempts": 2,
    "backoff": {"type": "Fixed", "delay": "7s", "max": "9s", "jitterPercent": 10},
}
QUEUE = (2, ("Fixed", 7000, 9000, 0.1), HOUR, 10 * MINUTE)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test registers its own tasks."""
    monkeypatch.setattr(tasks, "_registry", {})


@dataclass
class Row:
    """One row of the table: what the task says, what the enqueue says, what counts."""

    task: dict[str, Any]
    given: dict[str, Any]
    attempts: int = QUEUE[0]
    backoff: tuple[str, int, int, float] = QUEUE[1]
    run: int = QUEUE[2]
    pending: int = QUEUE[3]


TASK_BACKOFF, OWN_BACKOFF = Backoff.exponential("2s", max="4s", jitter=0), Backoff.fixed("1s", jitter=1)
TABLE = {
    "the queue's": Row({}, {}),
    "the task's attempts": Row({"max_attempts": 3}, {}, attempts=3),
    "the enqueue's attempts": Row({}, {"max_attempts": 4}, attempts=4),
    "the enqueue's before the task's": Row({"max_attempts": 3}, {"max_attempts": 4}, attempts=4),
    "fewer than the queue's": Row({"max_attempts": 3}, {"max_attempts": 1}, attempts=1),
    "None says nothing": Row({"max_attempts": 3}, {"max_attempts": None}, attempts=3),
    "the task's backoff": Row({"backoff": TASK_BACKOFF}, {}, backoff=("Exponential", 2000, 4000, 0.0)),
    "the enqueue's backoff": Row(
        {"backoff": TASK_BACKOFF}, {"backoff": OWN_BACKOFF}, backoff=("Fixed", 1000, 9000, 1.0)
    ),
    "max of the queue": Row(
        {}, {"backoff": Backoff.exponential("2s", jitter=0)}, backoff=("Exponential", 2000, 9000, 0)
    ),
    "a delay over the queue's max": Row(
        {}, {"backoff": Backoff.exponential("1h", jitter=0)}, backoff=("Exponential", HOUR, HOUR, 0)
    ),
    "the task's timeouts": Row({"timeouts": Timeouts(run="30m")}, {}, run=30 * MINUTE),
    "timeouts one by one": Row(
        {"timeouts": Timeouts(run="30m", pending="3m")},
        {"timeouts": Timeouts(run="20m")},
        run=20 * MINUTE,
        pending=3 * MINUTE,
    ),
}


def test_precedence(player: Player, client: Client) -> None:
    """Enqueue before @task before the queue, option by option."""
    player.serve("reports", defaults=DEFAULTS, timeouts={"run": "1h", "pending": "10m"})
    defaults = {"backoff": {"type": "Fixed", "delay": 7000, "max": 9000, "jitterPercent": 10}}
    for name, row in TABLE.items():

        def work(year: int) -> int:
            return year

        made = heavylift.task(queue="reports", name=name.replace(" ", "_").replace("'", ""), **row.task)(work)
        made.options(client=client, **row.given).enqueue(2026)
        claim = player.claim()
        assert claim is not None, name
        player.complete(claim)
        backoff = backoff_from(claim.options, defaults)
        found = (
            claim.frozen["maxAttempts"],
            (backoff.kind, backoff.delay_ms, backoff.longest_ms, backoff.jitter),
            claim.frozen["timeouts"]["run"],
            claim.frozen["timeouts"]["pending"],
        )
        assert found == (row.attempts, row.backoff, row.run, row.pending), name


@pytest.mark.parametrize(
    ("settings", "given", "want"),
    [({}, {}, 5), ({"priority": 3}, {}, 3), ({"priority": 3}, {"priority": 0}, 0), ({"priority": 0}, {}, 0)],
    ids=str,
)
def test_precedence_of_priorities(
    player: Player, client: Client, settings: dict[str, Any], given: dict[str, Any], want: int
) -> None:
    """Enqueue before @task before the queue, and 0 is a priority as any other."""
    player.serve("reports", defaults={"priority": 5})

    @heavylift.task(queue="reports", **settings)
    def annual(year: int) -> int:
        return year

    assert annual.options(client=client, **given).enqueue(2026).info().priority == want


@pytest.mark.parametrize(
    ("settings", "given", "words"),
    [
        ({"priority": -1}, {}, "priority is -1, more urgent than the 0 that spec.allow.minPriority"),
        ({"max_attempts": 11}, {}, "max_attempts is 11, more than the 10 that spec.allow.maxAttempts"),
        ({}, {"max_attempts": 11}, "max_attempts is 11"),
        ({"timeouts": Timeouts(run="25h")}, {}, "timeouts.run is 25h, more than the 24h that spec.allow.runTimeout"),
        ({}, {"timeouts": Timeouts(total="2h")}, "timeouts.total is 2h, more than the 1h that spec.timeouts.total"),
        ({}, {"timeouts": Timeouts(pending="2h")}, "timeouts.pending is 2h, more than the 1h"),
        ({}, {"resources": {"memory": "4Gi"}}, "resources.memory is not allowed"),
        ({}, {"env": {"LEVEL": "x"}}, "env.LEVEL is not allowed"),
        ({}, {"delay": "721h"}, "delay is 721h, more than the 720h"),
    ],
)
def test_allow_refuses_by_name(
    player: Player, client: Client, settings: dict[str, Any], given: dict[str, Any], words: str
) -> None:
    """Whoever said it, what is over a maximum never becomes a job, and nothing is clamped."""
    player.serve("reports", timeouts={"total": "1h"})

    @heavylift.task(queue="reports", **settings)
    def annual(year: int) -> int:
        return year

    with pytest.raises(InvalidInputError, match=words.replace(".", r"\.")):
        annual.options(client=client, **given).enqueue(2026)
    assert player.claim() is None


def test_data_is_held_against_the_annotations_before_it_is_stored(served: Player, client: Client) -> None:
    """The field is named, and nothing is enqueued."""

    @heavylift.task(queue="reports")
    def annual(year: int) -> int:
        return year

    with pytest.raises(InvalidPayloadError, match=r'data\.year is "2026": give a whole number'):
        annual.options(client=client).enqueue("2026")  # type: ignore[arg-type]  # bad on purpose
    assert served.claim() is None


def test_the_same_job_again_gives_the_stored_result(served: Player, client: Client) -> None:
    """`if_exists="return"` after success: no second run, and `wait` has the result at once."""

    @heavylift.task(queue="reports")
    def annual(year: int) -> dict[str, int]:
        return {"year": year}

    bound = annual.options(client=client, id="annual-2026", if_exists="return")
    assert bound.enqueue(2026).created
    served.run_one('{"pages": 12}')
    again = bound.enqueue(2026)
    assert (again.created, again.wait(timeout="5s")) == (False, {"pages": 12})
    assert served.claim() is None
