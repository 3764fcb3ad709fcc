"""What the command line changes, one job or many, against a real Redis."""

from __future__ import annotations

import io
import json
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from heavylift import schedules
from heavylift.contract import payload
from heavylift.contract.outcomes import OutcomeClass
from heavylift.spec.schedule import ScheduleDefinition
from heavylift.store import ops
from heavylift.store.model import Outcome, Verdict
from heavylift.store.schedules import ScheduleOwner
from tests.integration.client.terminal import on_a_terminal

if TYPE_CHECKING:
    from heavylift import Client
    from tests.integration.client.conftest import Player, Run
    from tests.servers import StoreServer

OOM = Outcome(cls=OutcomeClass.OOM, message="needed more than 64Mi")


def fail_one(player: Player, outcome: Outcome | None = None) -> None:
    """Let the next job of ``reports`` fail for good."""
    claim = player.claim()
    assert claim is not None
    player.fail(claim, outcome)


@pytest.fixture
def failed(player: Player, run: Run) -> Player:
    """Two jobs that failed as oom and one as error."""
    player.serve("reports", allow={"resources": {"memory": "16Gi"}, "minPriority": -100})
    for name, outcome in (("a", OOM), ("b", OOM), ("c", None)):
        assert run("enqueue", "reports", "annual", "--id", name).code == 0
        fail_one(player, outcome)
    return player


def test_every_option_of_enqueue_arrives(player: Player, run: Run, client: Client) -> None:
    """Priority, LIFO, keys, backoff and both timeouts reach the job as typed."""
    player.serve("reports", allow={"minPriority": -100})
    options = ["--priority", "-5", "--lifo", "--key", "acme", "--dedupe", "annual", "--dedupe-ttl", "1h"]
    times = ["--backoff", "2s..10m", "--timeout", "30m", "--total-timeout", "6h", "--max-attempts", "4"]

    said = run("enqueue", "reports", "annual", "--id", "a", *options, *times)
    again = run("enqueue", "reports", "annual", "--dedupe", "annual", "--dedupe-ttl", "1h", "-o", "json")
    info = client.job("a").info()
    claim = player.claim()

    assert said.code == 0, said.err
    assert (info.priority, info.lifo, info.key, info.dedupe) == (-5, True, "acme", "annual")
    assert again.json == [{"id": "a", "queue": "reports", "created": False}]
    assert claim is not None
    assert claim.frozen["timeouts"]["run"] == 30 * 60_000
    assert claim.options["timeouts"]["total"] == 6 * 3_600_000
    assert claim.options["backoff"] == {"type": "Exponential", "delay": 2000, "max": 600_000, "jitterPercent": 50}
    assert claim.frozen["maxAttempts"] == 4


def test_lines_take_every_option_and_can_be_waited_for(
    player: Player, run: Run, tmp_path: Path, client: Client
) -> None:
    """A file's lines have priority, key and dedupe too; ``--wait`` prints each result as it comes."""
    player.serve("reports", allow={"minPriority": -100})
    lines = [
        {"id": "a", "data": {"year": 1}, "priority": -3, "key": "acme", "timeouts": {"total": "1h"}},
        {"id": "b", "dedupe": {"key": "annual", "mode": "keep_last"}},
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    helper = threading.Thread(target=_run_two, args=(player,))
    helper.start()

    said = run("enqueue", "reports", "annual", "--from-file", f"{tmp_path}/jobs.jsonl", "--wait", "-o", "json")
    helper.join(timeout=30)

    assert said.code == 1, said.err
    assert said.json[0] == {"id": "a", "state": "completed", "result": {"rows": 3}}
    assert (said.json[1]["id"], said.json[1]["state"]) == ("b", "failed")
    assert "no such year" in said.json[1]["error"]
    assert (client.job("a").info().key, client.job("b").info().dedupe) == ("acme", "annual")


@pytest.mark.usefixtures("served")
def test_a_line_that_is_refused_keeps_nobody_from_the_wait(run: Run, tmp_path: Path) -> None:
    """What became of the others is printed, and the exit code says that not all were taken."""
    (tmp_path / "jobs.jsonl").write_text('{"task": "annual", "id": "a"}\nnot json\n')

    said = run("enqueue", "reports", "--from-file", f"{tmp_path}/jobs.jsonl", "--wait-timeout", "20ms", "-o", "json")

    assert said.code == 4
    assert [(row["id"], row["state"]) for row in said.json] == [("a", "unknown")]
    assert "1 line refused, 1 jobs enqueued" in said.err


@pytest.mark.usefixtures("served")
def test_a_longest_wait_is_a_wait(run: Run) -> None:
    """``--wait-timeout`` alone waits, as it does for a pause."""
    said = run("enqueue", "reports", "annual", "--wait-timeout", "20ms")

    assert said.code == 124
    assert "has not ended yet" in said.err


def _run_two(player: Player) -> None:
    """Complete the first job that comes, the one of the lower priority, and fail the second."""
    done = 0
    while done < 2:
        claim = player.claim()
        if claim is None:
            continue
        done += 1
        if claim.job == "a":
            player.complete(claim, '{"rows": 3}')
        else:
            player.fail(claim)


def test_bulk_retry_takes_a_filter_and_new_resources(failed: Player, run: Run, client: Client) -> None:
    """Only the jobs of a class run again, with what was set anew, oldest first."""
    filters = ("--state", "failed", "--class", "oom", "--since", "24h", "--queue", "reports")

    said = run("jobs", "retry", *filters, "--set", "memory=8Gi", "--priority", "-7", "--yes", "-o", "name")
    first, second = failed.claim(), failed.claim()

    assert (said.code, said.out.split()) == (0, ["a", "b"])
    assert "2 jobs wait again" in said.err
    assert first is not None
    assert second is not None
    assert [first.job, second.job] == ["a", "b"]
    assert first.options["resources"] == {"memory": "8Gi"}
    assert client.job("a").info().priority == -7
    assert client.job("c").info().state == "failed"


def test_bulk_retry_counts_before_it_asks(failed: Player, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person sees how many jobs are meant before agreeing; a refusal changes nothing."""
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))

    declined = run("jobs", "retry", "--state", "failed", "--class", "oom")
    none = run("jobs", "retry", "--state", "cancelled")
    refused = run("jobs", "retry", "--state", "failed", "--set", "memory=64Gi", "--yes")

    assert declined.code == 130
    assert "Retry 2 failed jobs?" in declined.err
    assert (none.code, none.err) == (0, "heavylift: no cancelled jobs match\n")
    assert refused.code == 4
    assert "memory" in refused.err
    assert failed.claim() is None


def test_promote_change_and_remove(player: Player, run: Run, client: Client) -> None:
    """A delayed job is brought forward, changed and removed by id; programs read what was done."""
    player.serve("reports", allow={"minPriority": -100})
    for name in ("a", "b"):
        run("enqueue", "reports", "annual", "--id", name, "--delay", "1h")

    promoted = run("jobs", "promote", "a", "-o", "json")
    again = run("jobs", "promote", "a")
    changed = run("jobs", "change", "b", "--priority", "-9", "--delay", "0s", "--data", '{"year": 7}')
    claim = player.claim()
    removed = run("jobs", "remove", "a", "--yes", "-o", "yaml")

    assert promoted.json == [{"id": "a", "did": "promoted"}]
    assert again.out == "job a waits already\n"
    assert changed.out == "job b is changed\n"
    assert claim is not None
    assert (claim.job, payload.decode(claim.data).data_json) == ("b", '{"year":7}')
    assert yaml.safe_load(removed.out) == [{"id": "a", "did": "removed"}]
    assert run("jobs", "show", "a").code == 3
    assert run("jobs", "remove", "b", "--yes").code == 4
    assert client.job("b").info().state == "active"


def test_purge_counts_asks_and_removes(served: Player, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run says how many, a person must agree, and only the named state is emptied."""
    for name in ("a", "b", "c"):
        run("enqueue", "reports", "annual", "--id", name)
    fail_one(served)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))

    dry = run("queues", "purge", "reports", "--dry-run", "-o", "json")
    declined = run("queues", "purge", "reports")
    left = run("jobs", "list", "--state", "waiting", "-o", "name").out
    done = run("queues", "purge", "reports", "--yes")

    assert dry.json == [{"name": "reports", "did": "none", "jobs": 2}]
    assert declined.code == 130
    assert "Remove 2 waiting jobs of queue reports?" in declined.err
    assert left.split() == ["b", "c"]
    assert (done.code, done.out) == (0, "2 waiting jobs of queue reports are removed\n")
    assert run("jobs", "list", "-o", "name").out == "a\n"


def test_pause_waits_for_what_runs(served: Player, run: Run) -> None:
    """``--wait`` ends when nothing runs any more, and with 124 when its time is over; the queue stays paused."""
    run("enqueue", "reports", "annual", "--id", "a")
    claim = served.claim()
    assert claim is not None

    over = run("queues", "pause", "reports", "--wait-timeout", "20ms", "-o", "name")
    served.complete(claim)
    idle = run("queues", "pause", "reports", "--wait")

    assert (over.code, over.out) == (124, "reports\n")
    assert "still run; it stays paused" in over.err
    assert (idle.code, idle.out) == (0, "queue reports is paused\n")


def test_list_filters_by_class_label_and_time(player: Player, run: Run) -> None:
    """Ended jobs are filtered in Redis; several classes are one list."""
    player.serve("reports", allow={"labels": ["team"]})
    for name, team, outcome in (("a", "bi", OOM), ("b", "ops", OOM), ("c", "bi", None)):
        assert run("enqueue", "reports", "annual", "--id", name, "--label", f"team={team}").code == 0
        fail_one(player, outcome)
    listed = run("jobs", "list", "--class", "oom", "--class", "error", "--since", "1h", "-o", "name").out.split()

    assert sorted(listed) == ["a", "b", "c"]
    assert sorted(run("jobs", "list", "--class", "oom", "--limit", "5", "-o", "name").out.split()) == ["a", "b"]
    assert run("jobs", "list", "--class", "oom", "--limit", "1", "-o", "name").out == "b\n"
    assert sorted(run("jobs", "list", "--label", "team=bi", "-o", "name").out.split()) == ["a", "c"]


def test_why_for_programs(served: Player, run: Run) -> None:
    """``-o json`` has the sentences as a list."""
    del served
    run("enqueue", "reports", "annual", "--id", "a")

    said = run("jobs", "why", "a", "-o", "json").json

    assert (said["id"], said["state"]) == ("a", "waiting")
    assert any("No dispatcher is running" in sentence for sentence in said["why"])
    assert run("jobs", "explain", "a", "-o", "name").out == "a\n"


def test_why_reads_breaker_suspension_and_schedule(
    served: Player, run: Run, client: Client, redis_server: StoreServer
) -> None:
    """What Redis keeps of breaker, ``rq suspend`` and schedules becomes a sentence."""
    client.queue("reports").schedule("daily", "annual", every="1h")
    tick = client.schedule("daily").trigger().id
    redis_server.client().hset("heavylift:breaker:reports", mapping={"failures": 3, "next": 4_000_000_000_000})
    redis_server.client().set("rq:suspended", 1)
    served.alive()

    said = run("jobs", "why", tick).out

    assert "Schedule daily enqueued it" in said
    assert "The breaker of queue reports is open" in said
    assert "All queues of this Redis are suspended" in said
    assert "within seconds" not in said


@pytest.mark.parametrize("name", ["daily", "daily.of-the.team"])
def test_why_knows_the_tick_of_a_heavyschedule(served: Player, run: Run, client: Client, name: str) -> None:
    """By the prefix of the job's id, which stands for namespace and name."""
    settings = client.run(ops.settings_owner("reports"))
    assert settings is not None
    owner = ScheduleOwner(install=settings.install, namespace=settings.namespace, name=name, uid="u1", generation=1)
    source = schedules.Source(owner=owner, since=0)
    client.queue("reports").schedule("other", "annual", every="1h")
    definition = client.run(schedules.record("other")).definition
    put = schedules.put(source.id, ScheduleDefinition.from_json(definition), by="ann", source=source)
    assert client.run(put).verdict is Verdict.APPLIED
    tick = client.run(schedules.trigger(source.id))
    served.alive()

    assert f"Schedule {settings.namespace}/{name} enqueued it" in run("jobs", "why", tick).out
    other = client.queue("reports").enqueue("annual", {}, id="daily-abcdefgh-1800000000")
    assert "Schedule" not in run("jobs", "why", other.id).out


def test_why_reads_who_slowed_a_queue_down(served: Player, run: Run, client: Client, redis_server: StoreServer) -> None:
    """A program's RateLimited holds the others back; so it is said, and for how long."""
    del served
    client.queue("reports").enqueue("annual", {}, id="a")
    redis_server.client().set("heavylift:hold:reports", "b", px=90_000)

    said = run("jobs", "why", "a").out

    assert "Queue reports is held back: Job b raised RateLimited; the next may start in 1m" in said


def test_a_list_says_when_it_is_cut(served: Player, run: Run) -> None:
    """A person or a program that counts lines learns that there are more."""
    for name in "abc":
        run("enqueue", "reports", "annual", "--id", name)

    cut, whole = run("jobs", "list", "--limit", "2", "-o", "name"), run("jobs", "list", "--limit", "3", "-o", "name")

    assert (cut.code, cut.out) == (0, "a\nb\n")
    assert "these are the first 2: --limit lists more" in cut.err
    assert (whole.out, whole.err) == ("a\nb\nc\n", "")
    assert served.claim() is not None


ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_a_terminal_of_80_columns_is_enough(player: Player, redis_server: StoreServer, run: Run) -> None:
    """Ids stay whole, reasons stand below their jobs, and bulk operations move a bar."""
    player.serve("reports", allow={"env": [f"VARIABLE_{number}" for number in range(9)]}, paused=True)
    run("queues", "pause", "reports", "--reason", "an upgrade of the database that takes until tomorrow at noon")
    words = ESCAPES.sub("", on_a_terminal(redis_server.url, "queues", "show", "reports")).replace("\r", "").splitlines()
    queues = ESCAPES.sub("", on_a_terminal(redis_server.url, "queues", "list")).replace("\r", "").splitlines()
    player.serve("reports")
    run("queues", "resume", "reports")
    reason = "the container needed more than its limit of 64Mi: raise resources, or let memory grow"
    for _ in range(2):
        run("enqueue", "reports", "annual")
        fail_one(player, Outcome(cls=OutcomeClass.OOM, message=reason))
    ids = run("jobs", "list", "-o", "name").out.split()

    listed = ESCAPES.sub("", on_a_terminal(redis_server.url, "jobs", "list")).replace("\r", "").splitlines()
    retried = on_a_terminal(redis_server.url, "jobs", "retry", "--state", "failed", "--yes")

    assert max(map(len, [*listed, *queues, *words])) <= 80
    assert any(line.endswith("pending 1h, run 24h") for line in words)
    assert all(any(line.startswith(job) for line in listed) for job in ids)
    assert " ".join(" ".join(listed).split()).count(reason) == 2
    assert len(queues) == 3
    assert queues[2] == "    paused by HeavyQueue, ada (heavylift command)"
    assert "queue reports" in retried
    assert "100%" in retried
    assert ESCAPES.search(retried)
