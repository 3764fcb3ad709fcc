"""One namespace that refuses (deleted, or without a Role) takes nothing from the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from heavylift.runtime.kube import KubeReply, KubeStatusError
from heavylift.runtime.link import RedisLink
from heavylift.store.model import InFlight, Reply, SettingsOwner, Verdict
from heavylift.store.steps import Call, Op
from heavylift_operator.adapters.clock import ClusterClock
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.queues import read
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.services.queues import Queues
from heavylift_operator.services.reconciler import Reconciler
from heavylift_operator.services.workqueue import WorkQueue
from tests.unit.operator.objects import job

REFUSED = "gone"
QUEUE = {
    "apiVersion": "heavylift.dev/v1alpha1",
    "kind": "HeavyQueue",
    "metadata": {"name": "reports", "namespace": "analytics", "uid": "uid-1"},
    "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "x"}]}}}}},
}


class HalfApi:
    """Lists what it was given in one namespace and refuses the other."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items

    async def pages(self, path: str, *, query: Any = None) -> AsyncIterator[dict[str, Any]]:
        """Yield the items, or refuse."""
        if f"/{REFUSED}/" in path:
            raise KubeStatusError(403, path, "forbidden")
        for item in self.items if query is None or "heavylift.dev/job=" not in query["labelSelector"] else []:
            yield item

    async def request(self, _method: str, _path: str, **_: Any) -> KubeReply:
        """Answer with an empty object."""
        return KubeReply(200, {})


class Listed:
    """Redis' side: answers by the name of the script or command; what was run stands in ``ran``."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers, self.ran = answers, list[str]()

    async def run(self, op: Op[Any]) -> Any:
        """Answer an operation by its first step."""
        step = next(op)
        op.close()
        keys: Any = type("Keys", (), {"__getattr__": lambda _, name: lambda *_: name})()
        name = step.script if isinstance(step, Call) else str(step.build(keys)[1])
        self.ran.append(name)
        return self.answers.get(name)

    async def run_many(self, operations: list[Op[Any]]) -> list[Any]:
        """Answer each by itself."""
        return [await self.run(op) for op in operations]


def _cluster(api: HalfApi) -> Cluster:
    return Cluster(cast("Any", api), install="ns/rel", namespaces=(REFUSED, "analytics"), clock=ClusterClock())


def _queues(link: Listed) -> Queues:
    return Queues(
        link=cast("RedisLink", link),
        cluster=_cluster(HalfApi([])),
        install="ns/rel",
        identity="op-1",
        interval_ms=1000,
        status_interval_ms=1000,
    )


async def test_the_reconciler_attends_to_the_others() -> None:
    """Their Jobs, and executions without a Job, reach the work queue; the refusal is raised at the end."""
    link = Listed({"inflight": (0, [InFlight(job="other", execution="inc-9", claimed_at=1)]), "unfinalized": []})
    queue, metrics = WorkQueue(), Metrics()
    reconciler = Reconciler(
        link=cast("RedisLink", link),
        cluster=_cluster(HalfApi([job()])),
        queue=queue,
        metrics=metrics,
        install="ns/rel",
        passes=lambda *_: False,
    )
    with pytest.raises(KubeStatusError, match="403"):
        await reconciler.once()
    assert queue.depth == 1
    assert (await queue.get()).job_id == "annual-2026"
    assert link.ran == ["inflight", "get_job", "get_job", "unfinalized"]


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        ("former", "which is not watched any more: watch it again (watchNamespaces), or, once none of its jobs"),
        (REFUSED, "whose HeavyQueues cannot be read now: restore the operator's access to it, or, once none of its"),
    ],
)
async def test_a_name_that_nobody_gives_up_says_what_to_do(holder: str, words: str) -> None:
    """Our own settings from a namespace that is not watched, or not readable, name the key that holds the queue."""
    why = f"the queue reports is owned by install ns/rel, namespace {holder}"
    link = Listed(
        {
            "settings": SettingsOwner(install="ns/rel", namespace=holder, uid="uid-0", generation=1),
            "put_settings": Reply(verdict=Verdict.REFUSED, message=why),
            "queues": [],
            "snapshot": {},
        }
    )
    queues = _queues(link)
    with pytest.raises(KubeStatusError):
        await queues.once(leads=False)  # learns which namespace cannot be read
    (said,) = {await queues._settle(read(QUEUE))}

    assert said.startswith(f"{why}, {words}")
    assert said.endswith("delete the key heavylift:settings:reports in Redis")


async def test_settings_owned_by_a_namespace_that_cannot_be_read_stay() -> None:
    """Its HeavyQueues may stand: nothing of theirs is taken away, and the others are served."""
    owner = SettingsOwner(install="ns/rel", namespace=REFUSED, uid="uid-1", generation=1)
    owners = {"queues": ["reports"], "settings": owner, "snapshot": {"queues": {}, "dispatchers": 1}}
    link = Listed(owners)
    queues = _queues(link)
    with pytest.raises(KubeStatusError, match="403"):
        await queues.once(leads=True)
    assert link.ran == ["queues", "settings", "snapshot"]
