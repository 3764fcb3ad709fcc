"""Killed at each boundary of an attempt, again and again: each job still gets one Job per attempt and one end."""

from __future__ import annotations

import itertools
import random
import signal
from collections.abc import Mapping, Sequence

import pytest

from heavylift.contract.keys import Field
from tests.proofs.kills import assert_sound, staged, wait_killed
from tests.proofs.length import rounds
from tests.proofs.processes import FAILPOINT, Daemon, Supervisor, stop_all
from tests.proofs.run import Run
from tests.proofs.waiting import until

KILLS = rounds(8, 20)
JOBS = rounds(16, 30)

BOUNDARIES = {
    "between claim and create": ("dispatcher.claim.after", "dispatcher.create.before"),
    "between create and record": ("dispatcher.create.after",),
}


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_dispatcher_killed(run: Run, boundary: str) -> None:
    """Many dispatchers die at one boundary, each with a job in hand: two others take over, nothing runs twice."""
    points = itertools.cycle(BOUNDARIES[boundary])
    armed = [
        run.daemon("dispatcher", f"armed-{n:02}", SLOTS="1", FAILPOINT=f"{next(points)}:kill") for n in range(KILLS)
    ]
    jobs = staged(KILLS)
    operators = [run.daemon("operator", f"operator-{n}") for n in range(2)]
    heirs = [run.daemon("dispatcher", f"heir-{n}") for n in range(2)]
    with run.recorder() as recorder, Supervisor(*operators) as supervisor:
        supervisor.wait_ready()
        run.wait_settings()
        try:
            for daemon in armed:
                daemon.start()
            for daemon in armed:
                daemon.wait_ready()
            freeze(operators)
            run.enqueue_all(jobs)
            wait_killed(armed, limit=120)
        finally:
            stop_all(*armed)
            thaw(operators)
        with Supervisor(*heirs):
            run.wait_ended()
            run.wait_quiet()
        assert_sound(run, jobs, run.history(recorder))
    claims = [line for line in run.events() if line.name == "active"]
    assert len({line.fields["worker"] for line in claims}) > KILLS, "each killed dispatcher had claimed, and an heir"


def freeze(operators: Sequence[Daemon]) -> None:
    """Stop the operators' clocks: a job handed back too early would be claimed by a second armed dispatcher.

    Three silent claims in a row end a job as invalid, and rightly so.
    """
    for daemon in operators:
        daemon.signal(signal.SIGSTOP)


def thaw(operators: Sequence[Daemon]) -> None:
    """Let them go on."""
    for daemon in operators:
        daemon.signal(signal.SIGCONT)


def _arming(run: Run, point: str) -> tuple[list[Daemon], Supervisor]:
    """Return two operators that die at a point, again and again until so many deaths, at their 1st to 4th hit."""
    choice = random.Random(point)
    setting = FAILPOINT.removeprefix("HEAVYLIFT_")
    operators = [run.daemon("operator", f"operator-{n}", **{setting: f"{point}:kill@{n + 1}"}) for n in range(2)]

    def rearm(daemon: Daemon) -> Mapping[str, str]:
        rest = {key: value for key, value in daemon.settings.items() if key != FAILPOINT}
        return rest if supervisor.killed >= KILLS else {**rest, FAILPOINT: f"{point}:kill@{choice.randint(1, 4)}"}

    supervisor = Supervisor(*operators, rearm=rearm)
    return operators, supervisor


@pytest.mark.parametrize("point", ["operator.observe.after", "operator.finish.after"])
def test_operator_killed(run: Run, point: str) -> None:
    """Two operators die many times between observe and finish, or finish and PATCH: each job still ends once."""
    operators, supervisor = _arming(run, point)
    jobs = staged(JOBS)
    more = staged(200, prefix="more")
    names = iter(more)
    dispatcher = run.daemon("dispatcher", "dispatcher")
    with run.recorder() as recorder, supervisor, Supervisor(dispatcher):
        run.wait_settings()
        run.enqueue_all(jobs)

        def killed_enough() -> bool:
            if all(status in {"finished", "failed"} for status in run.statuses().values()):
                some = {name: more[name] for name in itertools.islice(names, 5)}
                run.enqueue_all(some)  # the operators ran out of work before they ran out of deaths
                jobs.update(some)
            return supervisor.killed >= KILLS

        until(killed_enough, f"{KILLS} deaths at {point}", limit=240, every=0.2)
        run.wait_ended()
        run.wait_quiet()
        assert_sound(run, jobs, run.history(recorder))
    assert supervisor.crashed == []
    assert all(daemon.starts > KILLS // 8 for daemon in operators)
    assert all(run.fields(job)[Field.STARTS] for job in jobs)
