"""How attempts end: staged on simulated nodes, seen by the operator, told by Redis and by the Job itself."""

from __future__ import annotations

import json

import redis
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

from heavylift.contract.envelope import encode_checkpoint
from heavylift.contract.states import JobState
from heavylift.spec import HeavyQueue
from heavylift.store import ops
from tests.integration.operator.bench import Bench, Started
from tests.proofs.kube import batch, core
from tests.proofs.waiting import until


def rq_job(bench: Bench, started: Started) -> RqJob:
    """Return the job as RQ's own tools see it."""
    connection = redis.Redis.from_url(bench.server.url)
    return RqJob.fetch(started.claim.job, connection=connection, serializer=JSONSerializer)


def test_a_success_brings_its_result_and_the_job_keeps_the_outcome(bench: Bench, reports: HeavyQueue) -> None:
    """Redis has the result; the Job has label, annotation and time to live, and no finalizer of ours."""
    started = bench.start(reports, {"message": '{"rows": 7}'})
    record = bench.ended(started)
    assert (record.state, json.loads(record.result or "")) == (JobState.COMPLETED, {"rows": 7})
    job = bench.finalized(started)
    assert job["metadata"].get("finalizers", []) == []
    outcome = json.loads(job["metadata"]["annotations"]["heavylift.dev/outcome"])
    assert (outcome["class"], outcome["result"], outcome["execution"]) == (
        "succeeded",
        '{"rows":7}',
        started.claim.execution,
    )
    assert 600 <= job["spec"]["ttlSecondsAfterFinished"] <= 630
    until(lambda: not bench.in_flight(started), "the execution to leave the in-flight set")
    until(lambda: bench.store.run(ops.unfinalized(bench.install)) == [], "the PATCH to be confirmed")


def test_an_exit_code_spends_an_attempt_and_is_retried(bench: Bench, reports: HeavyQueue) -> None:
    """Three attempts, three Jobs, three entries of history, then failed."""
    job = bench.enqueue("reports", {"exit-code": 3, "message": "Boom!"})
    for attempt in (1, 2, 3):
        claim = bench.claim("reports", job)
        assert (claim.attempt, claim.seq) == (attempt, attempt)
        record = bench.ended(bench.create(bench.prepare(reports, claim)))
    assert record.state is JobState.FAILED
    assert [(entry["class"], entry["exitCode"]) for entry in record.history] == [("error", 3)] * 3
    assert record.outcome["message"] == "exit code 3: Boom!"


def test_an_oom_is_told_from_an_error(bench: Bench, reports: HeavyQueue) -> None:
    """137 with OOMKilled."""
    record = bench.ended(bench.start(reports, {"reason": "OOMKilled", "message": "loading 1990"}))
    assert (record.outcome["class"], record.outcome["exitCode"]) == ("oom", 137)
    assert record.outcome["evidence"]["log"] == "loading 1990"


def test_an_oom_hands_its_checkpoint_and_more_memory_to_the_next_attempt(bench: Bench) -> None:
    """What the killed program had kept, and half as much memory again, are in the next Job."""
    oom = {"action": "Retry", "memory": {"growthPercent": 50, "max": "1Gi"}}
    main = {"name": "main", "image": "x.invalid/y:1", "resources": {"limits": {"memory": "96Mi"}}}
    annotations = {"heavylift-test/from-env": "HEAVYLIFT_JOB_PAYLOAD"}
    pod = {"metadata": {"annotations": annotations}, "spec": {"containers": [main]}}
    queue = bench.queue("growing", outcomes={"oom": oom}, jobTemplate={"spec": {"template": pod}})
    started = bench.prepare(queue, bench.claim("growing", bench.enqueue("growing")))
    kept = encode_checkpoint(started.claim.execution, '{"page":7}')
    variables = started.manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    staged = json.dumps({"reason": "OOMKilled", "message": kept}).replace("$", "$$")
    next(entry for entry in variables if entry["name"] == "HEAVYLIFT_JOB_PAYLOAD")["value"] = staged
    record = bench.ended(bench.create(started))
    assert (record.outcome["class"], record.outcome["memory"], record.checkpoint) == (
        "oom",
        144 * 1024**2,
        '{"page":7}',
    )
    again = bench.prepare(queue, bench.claim("growing", started.claim.job))
    container = again.manifest["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["memory"] == "144Mi"
    assert {"name": "HEAVYLIFT_JOB_CHECKPOINT", "value": '{"page":7}'} in container["env"]
    assert bench.ended(bench.create(again)).state is JobState.COMPLETED


def test_an_evicted_pod_spends_no_attempt(bench: Bench, reports: HeavyQueue) -> None:
    """The Eviction API: disrupted, from the pod's last event; its object is gone before the Job's condition."""
    started = bench.start(reports, {"hold": "true"})
    bench.running(started)
    pod = bench.pods(started)[0]["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": started.claim.namespace},
    }
    bench.kube.create(core(started.claim.namespace, "pods", f"{pod}/eviction"), eviction)
    record = bench.ended(started)
    assert (record.outcome["class"], record.attempts_made) == ("disrupted", 0)
    assert record.budgets == {"disrupted": 1}
    assert record.state in {JobState.DELAYED, JobState.WAITING}


def test_a_deleted_pod_that_exits_0_is_no_success(bench: Bench, reports: HeavyQueue) -> None:
    """The Job says Complete; the pod was being deleted when it ended."""
    started = bench.start(reports, {"hold": "true", "term-exit-code": 0})
    bench.running(started)
    bench.kube.delete(core(started.claim.namespace, "pods", bench.pods(started)[0]["metadata"]["name"]))
    record = bench.ended(started)
    assert (record.outcome["class"], record.outcome["exitCode"], record.attempts_made) == ("pod-deleted", 0, 0)
    job = bench.finalized(started)
    assert any(one["type"] == "Complete" for one in job["status"]["conditions"])


def test_other_peoples_finalizers_stay(bench: Bench, reports: HeavyQueue) -> None:
    """The finishing PATCH takes ours out of the list and nothing else."""
    job = bench.enqueue("reports")
    started = bench.prepare(reports, bench.claim("reports", job), finalizers=("example.com/theirs",))
    bench.create(started)
    bench.ended(started)
    assert bench.finalized(started)["metadata"]["finalizers"] == ["example.com/theirs"]
    bench.kube.merge(batch(started.claim.namespace, started.name), {"metadata": {"finalizers": None}})


def test_a_deleted_job_is_cancelled_and_its_pod_goes(bench: Bench, reports: HeavyQueue) -> None:
    """Whoever deletes the Job means it; our finalizer holds it no longer than it takes to say so."""
    started = bench.start(reports, {"hold": "true"})
    bench.running(started)
    bench.kube.delete(batch(started.claim.namespace, started.name), propagationPolicy="Background")
    record = bench.ended(started)
    assert (record.state, record.outcome["class"]) == (JobState.CANCELLED, "job-deleted")
    bench.gone(started)


def test_a_cancel_stops_the_pod_before_it_counts(bench: Bench, reports: HeavyQueue) -> None:
    """Cancelled once the pod is gone; nothing stays."""
    started = bench.start(reports, {"hold": "true"})
    bench.running(started)
    bench.store.run(ops.cancel(started.claim.job, by="test", reason="obsolete"))
    record = bench.ended(started)
    assert not any(pod["status"]["phase"] == "Running" for pod in bench.pods(started))
    assert (record.state, record.outcome["class"]) == (JobState.CANCELLED, "cancelled")
    bench.gone(started)
    assert not bench.in_flight(started)


def test_rqs_own_cancel_stops_the_pod(bench: Bench, reports: HeavyQueue) -> None:
    """RQ marks the hash and tells nobody: the next pass finds it."""
    started = bench.start(reports, {"hold": "true"})
    bench.running(started)
    rq_job(bench, started).cancel()
    bench.gone(started)
    assert bench.record(started).state is JobState.CANCELLED
    until(lambda: not bench.in_flight(started), "the execution to leave the in-flight set")


def test_rqs_own_delete_stops_the_pod(bench: Bench, reports: HeavyQueue) -> None:
    """The hash is gone; what Redis still lists of it leads to the Job."""
    started = bench.start(reports, {"hold": "true"})
    bench.running(started)
    rq_job(bench, started).delete()
    bench.gone(started)
    until(lambda: not bench.in_flight(started), "the execution to leave the in-flight set")


def test_a_run_limit_ends_the_pod_as_timeout(bench: Bench) -> None:
    """Our own deadline, long before Kubernetes'."""
    queue = bench.queue("short", timeouts={"pending": "1m", "run": "1s"})
    started = bench.start(queue, {"hold": "true"})
    record = bench.ended(started)
    assert (record.state, record.outcome["class"]) == (JobState.FAILED, "timeout")
    assert record.outcome["message"] == "ran longer than its limit of 1s"
    bench.gone(started)


def test_the_time_of_all_attempts_ends_the_job(bench: Bench) -> None:
    """The attempt is stopped, and the rule that would retry a timeout has no say."""
    retry = {"timeout": {"action": "Retry", "maxRetries": 9}}
    queue = bench.queue("whole", timeouts={"pending": "1m", "run": "1h", "total": "2s"}, outcomes=retry)
    started = bench.start(queue, {"hold": "true"})
    record = bench.ended(started)
    assert (record.state, record.outcome["class"]) == (JobState.FAILED, "timeout")
    assert "stopped at the end of its total time of 2s" in record.outcome["message"]
    bench.gone(started)


def test_an_image_that_does_not_come_is_requeued_with_the_kubelets_words(bench: Bench) -> None:
    """After the pending limit; no attempt is spent."""
    queue = bench.queue("images", timeouts={"pending": "4s", "run": "1h"})
    started = bench.start(queue, {"waiting": "ErrImagePull", "message": "no such host"})
    record = bench.ended(started)
    assert (record.outcome["class"], record.attempts_made, record.budgets) == ("image", 0, {"image": 1})
    assert "ErrImagePull: no such host" in record.outcome["message"]
    bench.gone(started)


def test_a_hopeless_image_is_not_waited_for(bench: Bench, reports: HeavyQueue) -> None:
    """InvalidImageName ends at once, an hour before the pending limit."""
    record = bench.ended(bench.start(reports, {"waiting": "InvalidImageName", "message": "couldn't parse"}))
    assert (record.outcome["class"], record.outcome["message"]) == ("image", "InvalidImageName: couldn't parse")


def test_an_impossible_pod_is_unschedulable_with_the_schedulers_words(bench: Bench) -> None:
    """The words are in the reason while it waits, and in the outcome."""
    queue = bench.queue(
        "huge",
        timeouts={"pending": "3s", "run": "1h"},
        jobTemplate={
            "spec": {
                "template": {
                    "spec": {
                        "containers": [
                            {"name": "main", "image": "x.invalid/y:1", "resources": {"requests": {"cpu": "10k"}}}
                        ]
                    }
                }
            }
        },
    )
    started = bench.start(queue)
    until(lambda: "Insufficient cpu" in bench.record(started).reason, "the scheduler's words")
    record = bench.ended(started)
    assert record.outcome["class"] == "unschedulable"
    assert "Insufficient cpu" in record.outcome["message"]


def test_a_full_quota_is_told_by_the_job_controllers_words(bench: Bench) -> None:
    """Only events say so: there is no pod."""
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    bench.kube.create(core(bench.second, "resourcequotas"), {"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    path = core(bench.second, "resourcequotas", "none")
    until(lambda: "pods" in ((bench.kube.get(path) or {}).get("status", {}).get("used", {})), "the quota to count")
    queue = bench.queue("full", namespace=bench.second, timeouts={"pending": "6s", "run": "1h"})
    record = bench.ended(bench.start(queue))
    assert (record.outcome["class"], record.attempts_made) == ("quota", 0)
    assert "exceeded quota" in record.outcome["message"]


def test_a_required_result_that_is_missing_is_no_result(bench: Bench) -> None:
    """Exit code 0 is not enough."""
    queue = bench.queue("strict", result={"policy": "Required"})
    record = bench.ended(bench.start(queue, {"message": "not json"}))
    assert (record.outcome["class"], record.outcome["exitCode"]) == ("no-result", 0)
