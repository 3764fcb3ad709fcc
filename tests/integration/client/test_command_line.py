"""The command line against a real Redis: what people type, what they read, what scripts get."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from heavylift.contract.outcomes import OutcomeClass
from heavylift.spec import HeavyQueue, settings
from heavylift.store import ops
from heavylift.store.model import Outcome

if TYPE_CHECKING:
    from heavylift import Client
    from tests.integration.client.conftest import Player, Run
    from tests.servers import StoreServer


def test_enqueue_prints_the_id(served: Player, run: Run) -> None:
    """``-o name`` gives the id alone, which the next command takes."""
    said = run("enqueue", "reports", "annual", "--data", '{"year": 2026}', "--max-attempts", "3", "-o", "name")
    claim = served.claim()

    assert (said.code, said.err) == (0, "")
    assert claim is not None
    assert (said.out.strip(), claim.frozen["maxAttempts"]) == (claim.job, 3)


def test_enqueue_reads_data_from_file_and_pipe(
    served: Player, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``@file`` and ``-`` are read as JSON."""
    (tmp_path / "data.json").write_text('{"from": "file"}')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"from": "pipe"}')))

    assert run("enqueue", "reports", "annual", "--data", f"@{tmp_path}/data.json").code == 0
    assert run("enqueue", "reports", "annual", "--data", "-").code == 0

    assert served.claim() is not None
    assert served.claim() is not None


def test_enqueue_and_wait_prints_the_result(served: Player, run: Run) -> None:
    """``--wait`` ends with the result on standard output, nothing else there."""
    player = threading.Thread(target=_run_next, args=(served, '{"rows": 3}'))
    player.start()

    said = run("enqueue", "reports", "annual", "--wait", "--wait-timeout", "30s")
    player.join(timeout=30)

    assert (said.code, said.json) == (0, {"rows": 3})


def _run_next(player: Player, result: str) -> None:
    claim = None
    while claim is None:
        claim = player.claim()
    player.complete(claim, result)


@pytest.mark.parametrize(
    ("arguments", "want_code", "want"),
    [
        (("enqueue", "reports", "annual", "--data", "{year: 1}"), 2, "--data is not JSON"),
        (("enqueue", "reports", "annual", "--data", "[1]"), 2, "data is a list"),
        (("enqueue", "reports", "annual", "--data", '{"x": NaN}'), 2, "NaN is not JSON"),
        (("enqueue", "reports", "annual", "--data", "@/nowhere"), 2, "cannot read /nowhere"),
        (("enqueue", "reports", "annual", "--delay", "soon"), 2, "delay: 'soon' is not a duration"),
        (("enqueue", "reports", "annual", "--set", "memory"), 2, "--set 'memory' is not NAME=VALUE"),
        (("enqueue", "reports"), 2, "give QUEUE and TASK"),
        (("enqueue", "nowhere", "annual"), 3, "no HeavyQueue serves queue 'nowhere'"),
        (("enqueue", "reports", "annual", "--id", "taken"), 4, "taken exists already"),
        (("enqueue", "reports", "annual", "--frobnicate"), 2, "No such option"),
        (("jobs", "show", "nope"), 3, "there is no job nope"),
        (("jobs", "wait", "taken", "--timeout", "10ms"), 124, "has not ended yet"),
        (("jobs", "cancel", "nope"), 3, "there is no job nope"),
        (("jobs", "retry", "taken"), 4, "job taken cannot be retried, it is waiting: only failed and cancelled"),
        (("enqueue", "reports", "annual", "--set", "memory=1Gi"), 4, "resources.memory is not allowed in this queue"),
        (("enqueue", "reports", "annual", "--max-attempts", "50"), 4, "more than the 10 that spec.allow.maxAttempts"),
        (("enqueue", "reports", "annual", "--delay", "800h"), 4, "delay is 800h, more than the 720h"),
        (("jobs", "change", "taken", "--priority", "-5"), 4, "more urgent than the 0 that spec.allow.minPriority"),
        (("jobs", "retry"), 2, "give job ids, or --state failed"),
        (("jobs", "retry", "taken", "--class", "oom"), 2, "give job ids, or --state failed"),
        (("jobs", "retry", "--state", "waiting"), 2, "cannot be retried"),
        (("jobs", "retry", "--state", "failed", "--class", "broken"), 2, "there is no outcome class 'broken'"),
        (("jobs", "retry", "--state", "failed", "--priority", "5000", "--yes"), 2, "priority is 5000"),
        (("jobs", "promote", "nope"), 3, "there is no job nope"),
        (("jobs", "change", "taken"), 2, "nothing is to change"),
        (("jobs", "change", "taken", "--priority", "5000"), 2, "priority is 5000"),
        (("queues", "purge", "reports", "--state", "active", "--yes"), 2, "active jobs cannot be purged"),
        (("enqueue", "reports", "annual", "--dedupe-ttl", "1h"), 2, "go with --dedupe KEY"),
        (("enqueue", "reports", "annual", "--dedupe", "a", "--dedupe-mode", "last"), 2, "the mode is 'last'"),
        (("enqueue", "reports", "annual", "--backoff", "linear:2s"), 2, "--backoff 'linear:2s' is not"),
        (("enqueue", "reports", "annual", "--backoff", "soon"), 2, "backoff delay: 'soon' is not a duration"),
        (("completion", "csh"), 2, "'csh' is not one of"),
        (("jobs", "list", "--state", "broken"), 2, "there is no state 'broken'"),
        (("jobs", "list", "--class", "broken"), 2, "there is no outcome class 'broken'"),
        (("jobs", "list", "--since", "1d"), 2, "--since: '1d' is not a duration"),
        (("jobs", "logs", "taken"), 3, "has not started yet"),
        (("queues", "pause", "a b"), 2, "queue name"),
        (("queues", "pause", "report"), 3, "there is no queue report in this Redis: see `heavylift queues list`"),
        (("queues", "resume", "report"), 3, "there is no queue report"),
        (("jobs", "list", "--queue", "report"), 3, "there is no queue report"),
        (("jobs", "retry", "--state", "failed", "--queue", "report", "--yes"), 3, "there is no queue report"),
        (("queues", "show", "report"), 3, "there is no queue report"),
        (("queues", "purge", "report", "--yes"), 3, "there is no queue report"),
        (("nonsense",), 2, "No such command"),
        (("--redis", "http://x", "queues", "list"), 2, "the Redis URL has the scheme 'http'"),
        (("--redis", "redis://127.0.0.1:1/0", "queues", "list"), 5, "cannot be reached"),
        (("--redis", "redis://x/0", "--kube", "y", "queues", "list"), 2, "exclude each other"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    served: Player, run: Run, arguments: tuple[str, ...], want_code: int, want: str, kubeconfig: Path
) -> None:
    """Each error has its exit code and a message; never a traceback."""
    del served, kubeconfig
    run("enqueue", "reports", "annual", "--id", "taken")

    said = run(*arguments)

    assert said.code == want_code
    assert want in said.err
    assert said.out == ""


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubeconfig of a cluster that does not answer."""
    path = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": True}}
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [cluster],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "c",
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


def test_file_of_jobs(served: Player, run: Run, tmp_path: Path) -> None:
    """Each line is a job; bad ones are named by their number and keep nobody out."""
    served.serve("other")
    lines = [
        '{"queue": "reports", "task": "annual", "data": {"year": 1}, "id": "a"}',
        "",
        "not json",
        '{"task": "annual", "queue": "other", "max_attempts": 2, "delay": "1h", "id": "b"}',
        '{"task": "annual", "data": {"x": 1}, "colour": "red"}',
        '{"queue": "reports", "task": "annual", "id": "a"}',
        '{"queue": "nowhere", "task": "annual"}',
        '{"data": {}}',
        '{"queue": "reports", "task": "annual", "id": "c", "timeouts": {"run": "1h"}, "backoff": {"delay": "2s"}}',
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))

    said = run("enqueue", "--from-file", f"{tmp_path}/jobs.jsonl", "-o", "name")

    assert said.code == 4
    assert sorted(said.out.split()) == ["a", "b", "c"]
    for want in (
        "line 3: the line is not JSON",
        "line 5: unknown field 'colour'",
        "line 6: job a exists already",
        "line 7: no HeavyQueue serves queue 'nowhere'",
        "line 8: no queue",
        "5 lines refused, 3 jobs enqueued",
    ):
        assert want in said.err


def test_list_shows_jobs_of_all_states(served: Player, run: Run) -> None:
    """The table has a line per job; filters choose; JSON has it all."""
    for name in ("done", "broken", "waits"):
        run("enqueue", "reports", "annual", "--id", name)
    served.run_one("1")
    claim = served.claim()
    assert claim is not None
    served.fail(claim, Outcome(cls=OutcomeClass.OOM, message="needed more than 64Mi"))

    table = run("jobs", "list")
    failed = run("jobs", "list", "--state", "failed", "--class", "oom", "--since", "1h", "-o", "json")

    lines = table.out.splitlines()
    assert lines[0].split() == ["ID", "QUEUE", "TASK", "STATE", "ATTEMPT", "OUTCOME", "AGE", "REASON"]
    assert {line.split()[0] for line in lines[1:]} == {"done", "broken", "waits"}
    assert any("needed more than 64Mi" in line for line in lines)
    assert [(job["id"], job["outcome"]["class"]) for job in failed.json] == [("broken", "oom")]
    assert run("jobs", "list", "--class", "timeout", "-o", "name").out == ""


def test_show_in_each_format(served: Player, run: Run) -> None:
    """One job, for people and for programs."""
    run("enqueue", "reports", "annual", "--id", "a")
    served.run_one('{"rows": 3}')

    shown = run("jobs", "show", "a", "-o", "json").json

    assert (shown["state"], shown["result"], shown["history"][0]["outcome"]["class"]) == (
        "completed",
        {"rows": 3},
        "succeeded",
    )
    assert yaml.safe_load(run("jobs", "show", "a", "-o", "yaml").out) == shown
    assert "completed" in run("jobs", "show", "a").out
    assert run("jobs", "show", "a", "-o", "name").out == "a\n"


def test_wait_cancel_and_retry_of_many(served: Player, run: Run, client: Client) -> None:
    """Several ids go in one command; the first error decides the exit code, the others are done."""
    for name in ("a", "b"):
        run("enqueue", "reports", "annual", "--id", name)

    cancelled = run("jobs", "cancel", "nope", "a", "b", "--reason", "obsolete")
    waited = run("jobs", "wait", "a")
    retried = run("jobs", "retry", "--state", "cancelled", "--yes")
    served.run_one("7")
    late = run("jobs", "cancel", "a")

    assert (cancelled.code, cancelled.out.count("is cancelled")) == (3, 2)
    assert waited.code == 1
    assert "obsolete" in waited.err
    assert (retried.code, retried.out.count("waits again")) == (0, 2)
    assert client.job("b").info().cancel == {} or client.job("b").info().state == "waiting"
    assert late.code in {0, 4}


def test_retry_asks_before_it_retries_many(served: Player, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --yes a person must agree."""
    run("enqueue", "reports", "annual", "--id", "a")
    run("jobs", "cancel", "a")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))

    said = run("jobs", "retry", "--state", "cancelled")

    assert said.code != 0
    assert served.claim() is None


def test_queues_are_listed_paused_and_resumed(served: Player, run: Run) -> None:
    """Pause has a holder and a reason; both are shown until resume."""
    run("enqueue", "reports", "annual")

    assert run("queues", "pause", "reports", "--reason", "upgrade").code == 0
    listed = run("queues", "list", "-o", "json").json
    shown = run("queues", "show", "reports", "-o", "json").json
    assert served.claim() is None
    assert run("queues", "resume", "reports").code == 0

    assert [(row["name"], row["served"], row["waiting"]) for row in listed] == [("reports", True, 1)]
    assert shown["pause"]["reason"] == "upgrade"
    assert shown["heavyQueue"] == "analytics/reports"
    assert served.claim() is not None


def test_a_queue_shows_its_heavyqueue_by_its_own_name(player: Player, run: Run) -> None:
    """What kubectl calls it, which need not be the queue's name."""
    pod = {"spec": {"containers": [{"name": "main", "image": "example"}]}}
    post = HeavyQueue.parse({
        "apiVersion": "heavylift.dev/v1alpha1", "kind": "HeavyQueue",
        "metadata": {"name": "post", "namespace": "analytics", "uid": "u", "generation": 1},
        "spec": {"queue": "mails", "jobTemplate": {"spec": {"template": pod}}},
    })  # fmt: skip
    put = ops.put_settings("mails", settings(post), generation=1, install="i", namespace="analytics", uid="u")
    player.store.run(put)
    assert run("queues", "show", "mails", "-o", "json").json["heavyQueue"] == "analytics/post"


def test_why_names_what_holds_a_job(served: Player, run: Run) -> None:
    """Each reason is a sentence of its own."""
    run("enqueue", "reports", "annual", "--id", "a")
    alone = run("jobs", "why", "a").out
    run("queues", "pause", "reports", "--reason", "upgrade")
    paused = run("jobs", "explain", "a").out
    run("queues", "resume", "reports")
    claim = served.claim()
    assert claim is not None
    served.pending(claim, "Unschedulable", message="0/1 nodes are available: 1 Insufficient memory.")
    pending = run("jobs", "why", "a").out

    assert "No dispatcher is running" in alone
    assert "paused by" in paused
    assert ": upgrade." in paused
    assert "It is pending as Job analytics/reports-1: Unschedulable." in pending
    assert "Kubernetes says: 0/1 nodes are available: 1 Insufficient memory." in pending


def test_doctor_tells_a_sound_redis_from_a_bad_one(
    own_store_server: StoreServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would lose jobs is a failure with its remedy; a sound Redis is ok."""
    own_store_server.start(maxmemory_policy="allkeys-lru")
    monkeypatch.setenv("HEAVYLIFT_REDIS_URL", own_store_server.url)
    bad = run("doctor", "-o", "json")
    own_store_server.stop()
    own_store_server.start(appendonly="yes", maxmemory_policy="noeviction")
    good = run("doctor", "-o", "json")

    levels = {row["check"]: (row["level"], row["message"]) for row in bad.json}
    assert bad.code == 1
    assert levels["redis maxmemory-policy"][0] == "fail"
    assert "CONFIG SET maxmemory-policy noeviction" in levels["redis maxmemory-policy"][1]
    assert levels["redis persistence"][0] == "fail"
    assert good.code == 0
    assert {row["level"] for row in good.json} <= {"ok", "warn"}


def test_doctor_without_redis(run: Run) -> None:
    """An unreachable Redis is a finding and its own exit code."""
    said = run("--redis", "redis://127.0.0.1:1/0", "doctor")

    assert said.code == 5
    assert "cannot be reached" in said.out


def test_doctor_names_queues_nobody_serves(served: Player, run: Run, client: Client) -> None:
    """A queue without HeavyQueue or dispatcher, and a dispatcher's trouble, are findings."""
    from heavylift.store import ops  # noqa: PLC0415 - one test plays the dispatcher's trouble

    client.strict = False
    client.queue("orphan").enqueue("annual")
    client.queue("reports").enqueue("annual")
    served.store.run(ops.set_trouble("reports", "Forbidden", {"message": "may not create Jobs"}))

    rows = {(row["check"], row["message"].split(":")[0]): row["level"] for row in run("doctor", "-o", "json").json}

    assert rows["queue orphan", "no HeavyQueue serves it"] == "warn"
    assert rows["queue reports", "Forbidden"] == "fail"
    assert any(check == "queue reports" and "no dispatcher" in message for check, message in rows)


def test_control_characters_never_reach_the_terminal(served: Player, run: Run) -> None:
    """What a producer or a pod wrote cannot steer the reader's terminal."""
    run("enqueue", "reports", "annual", "--id", "a")
    claim = served.claim()
    assert claim is not None
    served.fail(claim, Outcome(cls=OutcomeClass.ERROR, message="\x1b[2Jgone\x07 [bold]not markup[/bold]"))

    for command in (("jobs", "list"), ("jobs", "show", "a"), ("jobs", "why", "a"), ("jobs", "wait", "a")):
        said = run(*command)
        assert not any(mark in said.out + said.err for mark in ("\x1b", "\x07"))
        assert "[bold]not markup[/bold]" in said.out + said.err


def test_queue_names_of_others_hurt_nobody(served: Player, run: Run, redis_server: StoreServer) -> None:
    """RQ takes any text as a queue's name; ours are listed whatever stands beside them."""
    with redis_server.client() as redis:
        redis.sadd("rq:queues", "rq:queue:a b", "rq:queue:\x1b[2J", b"rq:queue:\xff", "rq:queue:reports")

    assert (served.claim(), run("queues", "list", "-o", "name").out) == (None, "reports\n")
    assert run("jobs", "list").code == 0
    assert run("doctor").code in {0, 1}


def test_as_a_program(redis_server: StoreServer, served: Player) -> None:
    """The installed command works in a process of its own, and a closed pipe is no error."""
    env = {**os.environ, "HEAVYLIFT_REDIS_URL": redis_server.url}
    command = [sys.executable, "-m", "heavylift"]
    served.serve("more")

    made = subprocess.run(
        [*command, "enqueue", "reports", "annual"], env=env, capture_output=True, text=True, check=True
    )
    with subprocess.Popen(
        [*command, "queues", "list"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as piped:
        assert piped.stdout is not None
        piped.stdout.close()
        assert piped.stderr is not None
        complaint = piped.stderr.read()

    assert made.stdout.startswith("ID ")
    assert "Traceback" not in complaint
