"""RQ's side of the benchmarks: RQ's own worker, timed without a change to what it does, if all its jobs end."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator

import pytest
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker

from heavylift.store import ops
from tests.benchmarks.backing import COMPACT, Backing, chart, words
from tests.benchmarks.load import RESULT, RETURNED
from tests.benchmarks.rq_peer import MarkedWorker, Spent, Theirs, signals_kept, split, theirs
from tests.benchmarks.signs import BEAT_S, RENEWAL_S
from tests.benchmarks.stores import INSTALL, WORKER, ours


@pytest.fixture(scope="module")
def one_side() -> Iterator[Theirs]:
    """Return RQ's side on one server for all tests here."""
    with theirs(Backing()) as side:
        yield side


@pytest.fixture
def them(one_side: Theirs) -> Theirs:
    """Return RQ's side with nothing in it."""
    one_side.redis.flushall()
    return one_side


def sent(them: Theirs, kind: type[SimpleWorker]) -> dict[str, int]:
    """Return the commands of a worker that works off five jobs, by how often it sent each."""
    them.redis.flushall()
    them.enqueue_many(6)
    worker = kind([them.queue], connection=them.redis, serializer=JSONSerializer)
    them.redis.config_resetstat()
    with signals_kept():
        worker.work(burst=True, logging_level="CRITICAL", max_jobs=5)
    stats = them.redis.info("commandstats")
    return {name: told["calls"] for name, told in stats.items() if name != "cmdstat_hello"}  # of a connection it opens


def test_the_timed_worker_sends_what_rqs_own_does(them: Theirs) -> None:
    """Command by command: heartbeats, states, the look for a suspension, and nothing of ours."""
    marked, plain = sent(them, MarkedWorker), sent(them, SimpleWorker)
    assert marked == plain
    assert plain["cmdstat_exists"] >= 5, "the loop's look for a suspension"
    assert plain["cmdstat_hset"] >= 5 * 7, "heartbeats and states, beside what concerns the job"


def test_the_worker_takes_what_it_is_told_and_one_before_that_does_not_count(them: Theirs) -> None:
    """The rest waits on; the task returned what our side finishes its jobs with; Ctrl+C is ours again."""
    before = signal.getsignal(signal.SIGINT)
    them.enqueue_many(8)
    first = them.queue.job_ids[0]
    spent = them.work(5)
    assert min(spent.claims, spent.ends) > 0
    assert them.queue.count == 2
    job = them.queue.fetch_job(first)
    assert job is not None
    latest = job.latest_result()
    assert latest is not None
    assert latest.type is Result.Type.SUCCESSFUL
    assert latest.return_value == RETURNED == json.loads(RESULT)
    assert signal.getsignal(signal.SIGINT) is before


def test_jobs_that_do_not_end_as_finished_are_no_measurement(them: Theirs) -> None:
    """A task that cannot be imported would end sooner than one that ran."""
    them.queue.enqueue("app.absent")
    them.enqueue_many(1)
    with pytest.raises(RuntimeError, match="of 2 jobs that RQ's worker ran, 1 are finished"):
        them.work(1)


def test_a_queue_that_runs_empty_is_no_measurement(them: Theirs) -> None:
    """The worker would leave its loop early."""
    them.enqueue_many(2)
    with pytest.raises(RuntimeError, match="ran, 2 are finished"):
        them.work(5)


def test_time_is_split_at_the_loops_top_and_at_the_tasks_begin_and_return() -> None:
    """The first job is left out, and so is what tasks take."""
    marks = [0.0, 90.0, 91.0, 100.0, 103.0, 108.0, 109.0, 112.0, 112.5, 114.5]
    assert split(marks, 3) == Spent(claims=6.0, ends=3.0)
    with pytest.raises(RuntimeError, match="was to run 2 jobs; it ran 3"):
        split(marks, 2)


def test_signs_of_life_are_sent_and_their_share_is_added() -> None:
    """A dispatcher counts as live, stands among RQ's workers, and an operator holds the lock."""
    with ours(Backing()) as us:
        us.redis.config_resetstat()
        assert us.signs.with_dispatchers(1.0) > 1.0
        assert us.signs.with_operators(1.0) > 1.0
        assert us.redis.info("commandstats")["cmdstat_evalsha"]["calls"] == 2
        assert us.store.run(ops.register_dispatcher(INSTALL, "another", 1000)) == 2
        assert us.redis.sismember("rq:workers", f"rq:worker:{WORKER}")
    assert (BEAT_S, RENEWAL_S) == (10.0, 1.5)


@pytest.mark.parametrize(
    ("backing", "said"),
    [
        (Backing(), rf"^Redis 7\S+ at its defaults \(nothing on disk; {COMPACT} 64\)$"),
        (
            Backing("valkey", "chart"),
            rf"^Valkey 9\S+ as the chart sets it up \(append-only file, fsync everysec; {COMPACT} 1024\)$",
        ),
    ],
)
def test_the_store_is_told_as_the_server_itself_tells_it(backing: Backing, said: str) -> None:
    """Name, version and the settings that the chart sets."""
    described = backing.describe()
    assert re.match(said, words(described))
    assert described["settings"]["maxmemory-policy"] == "noeviction"


def test_the_charts_settings_are_the_charts() -> None:
    """Its redis.conf line by line, but for its place and for its memory, which is a value of the chart."""
    assert chart() == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        COMPACT: "1024",
        "save": "",
        "tcp-keepalive": "60",
    }
