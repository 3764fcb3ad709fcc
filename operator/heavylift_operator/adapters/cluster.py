"""Jobs, pods, events and HeavyQueues in the namespaces we watch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from heavylift.contract import names
from heavylift.contract.ids import short_hash
from heavylift.contract.names import FINALIZER, Annotation, Label
from heavylift.runtime.kube import (
    MERGE_PATCH,
    STRATEGIC_PATCH,
    KubeApi,
    KubeReply,
    KubeStatusError,
    Listing,
    events_path,
    heavyqueues_path,
    heavyschedules_path,
    jobs_path,
    pods_path,
)
from heavylift_operator.adapters.clock import ClusterClock
from heavylift_operator.core.evidence import JobEvidence, PodEvidence, read_job, read_pod
from heavylift_operator.core.interest import is_dull_job, is_dull_pod, left
from heavylift_operator.core.reading import Json, items, text

NOT_FOUND: Final = 404
CONFLICT: Final = 409
UNPROCESSABLE: Final = 422
CONTROLLER_UID: Final = "batch.kubernetes.io/controller-uid"
GROUP_PATH: Final = f"/apis/{names.API_VERSION}"
WATCH_S: Final = 280
"""How long the server keeps a watch open."""
_PAGE: Final = 200
"""Objects listed at once: as many bytes as are held, and as long as nothing else runs."""


def job_selector(install: str, *, finalized: bool = False) -> str:
    """Return the label selector of an install's Jobs that are, or are not yet, finalized."""
    return f"{Label.INSTALL}={short_hash(install)},{'' if finalized else '!'}{Label.FINALIZED}"


def pod_selector(install: str) -> str:
    """Return the label selector of an install's pods."""
    return f"{Label.INSTALL}={short_hash(install)}"


class Kind(StrEnum):
    """What informers hear of, by its name in the API."""

    JOB = "Job"
    POD = "Pod"


class Cluster:
    """The cluster as the operator uses it.

    Every call raises ClusterUnavailableError without a reply and KubeStatusError for a refusal it does not expect.
    """

    def __init__(self, api: KubeApi, *, install: str, namespaces: tuple[str, ...], clock: ClusterClock) -> None:
        self._api, self._install = api, install
        self.namespaces = namespaces
        self.clock = clock
        self.echoes: Callable[[tuple[str, str]], bool] = lambda _: False
        """Whether nobody needs to be told that a Job (namespace, name) left the watch."""

    async def _request(self, method: str, path: str, **more: Any) -> KubeReply:
        reply = await self._api.request(method, path, **more)
        self.clock.learn(reply.headers)
        return reply

    async def serves_heavyqueues(self) -> bool:
        """Return whether discovery shows our custom resources."""
        reply = await self._request("GET", GROUP_PATH)
        if reply.status == NOT_FOUND:
            return False
        return any(text(found, "name") == "heavyqueues" for found in items(_expect(reply, GROUP_PATH), "resources"))

    # -- Jobs and pods as they change ---------------------------------------------------------------------------------
    def listings(self, kind: Kind, namespace: str) -> AsyncIterator[Listing]:
        """Yield this install's unfinalized Jobs, or its pods, page by page; an expired listing starts anew."""
        path, query = self._of_kind(kind, namespace)
        return self._api.listings(path, query=query, limit=_PAGE)

    def watch(self, kind: Kind, namespace: str, version: str, opened: Callable[[], None]) -> AsyncIterator[Json]:
        """Yield what happens to them from a version on; see ``KubeApi.watch``. What can say nothing is not read."""
        path, query = self._of_kind(kind, namespace)
        return self._api.watch(
            path,
            query=query,
            resource_version=version,
            timeout_seconds=WATCH_S,
            opened=opened,
            skips=self._is_dull_job if kind is Kind.JOB else self._is_dull_pod,
        )

    def _is_dull_job(self, line: bytes) -> bool:
        if is_dull_job(line):
            return True
        key = left(line)
        return key is not None and self.echoes(key)

    def _is_dull_pod(self, line: bytes) -> bool:
        return is_dull_pod(line, self.clock.now_ms())

    def _of_kind(self, kind: Kind, namespace: str) -> tuple[str, Json]:
        if kind is Kind.JOB:
            return jobs_path(namespace), {"labelSelector": job_selector(self._install)}
        return pods_path(namespace), {"labelSelector": pod_selector(self._install)}

    # -- Jobs ---------------------------------------------------------------------------------------------------------
    async def get_job(self, namespace: str, name: str) -> JobEvidence | None:
        """Return a Job by a live GET, None if there is none."""
        path = jobs_path(namespace, name)
        reply = await self._request("GET", path)
        return None if reply.status == NOT_FOUND else read_job(_expect(reply, path))

    async def jobs(self, *, finalized: bool = False) -> AsyncIterator[JobEvidence]:
        """Yield this install's Jobs of all namespaces, page by page; a namespace that refuses is told of at the end."""
        query = {"labelSelector": job_selector(self._install, finalized=finalized)}
        refusal: KubeStatusError | None = None
        for namespace in self.namespaces:
            try:
                async for found in self._api.pages(jobs_path(namespace), query=query):
                    yield read_job(found)
            except KubeStatusError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal

    async def find_job(self, job: str, execution: str) -> JobEvidence | None:
        """Return the Job of an execution whose name is not known, None if no namespace of ours has it."""
        query = {"labelSelector": f"{Label.INSTALL}={short_hash(self._install)},{Label.JOB}={short_hash(job)}"}
        refusal: KubeStatusError | None = None
        for namespace in self.namespaces:
            try:
                async for found in self._api.pages(jobs_path(namespace), query=query):
                    seen = read_job(found)
                    if seen.execution == execution:
                        return seen
            except KubeStatusError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        return None

    async def patch_finished(self, job: JobEvidence, annotation: str | None, ttl_s: int) -> bool:
        """Send the finishing PATCH: label, outcome, our finalizer out (nobody else's), time to live.

        Returns whether it was applied; False = the Job is gone, or is another one of that name: nothing to do.
        """
        notes = {} if annotation is None else {"annotations": {Annotation.OUTCOME: annotation}}
        body = {
            "metadata": {
                "uid": job.uid,
                "labels": {Label.FINALIZED: "true"},
                "$deleteFromPrimitiveList/finalizers": [FINALIZER],
                **notes,
            },
            "spec": {"ttlSecondsAfterFinished": max(0, min(ttl_s, 2**31 - 1))},
        }
        path = jobs_path(job.namespace, job.name)
        reply = await self._request("PATCH", path, body=body, content_type=STRATEGIC_PATCH)
        if reply.status == NOT_FOUND or (reply.status in {CONFLICT, UNPROCESSABLE} and _is_about_uid(reply)):
            return False
        _expect(reply, path)
        return True

    async def delete_job(self, job: JobEvidence, *, pods_first: bool) -> None:
        """Delete a Job by UID; already gone, or another one of that name, is fine.

        Args:
            job: which.
            pods_first: it stands until its pods are gone; else its pods follow once it is gone.
        """
        body = {
            "propagationPolicy": "Foreground" if pods_first else "Background",
            "preconditions": {"uid": job.uid},
        }
        path = jobs_path(job.namespace, job.name)
        reply = await self._request("DELETE", path, body=body)
        if reply.status not in {NOT_FOUND, CONFLICT}:
            _expect(reply, path)

    # -- pods and events ----------------------------------------------------------------------------------------------
    async def pods_of(self, job: JobEvidence) -> list[PodEvidence]:
        """Return a Job's pods by a live list."""
        query = {"labelSelector": f"{CONTROLLER_UID}={job.uid}"}
        return [
            read_pod(found, container=job.container)
            async for found in self._api.pages(pods_path(job.namespace), query=query)
        ]

    async def check_pods(self) -> None:
        """Make sure that pods may be listed, in every namespace."""
        for namespace in self.namespaces:
            await self.check(Kind.POD, namespace)

    async def check(self, kind: Kind, namespace: str) -> None:
        """Make sure that objects of a kind may be listed."""
        path, query = self._of_kind(kind, namespace)
        _expect(await self._request("GET", path, query={**query, "limit": 1}), path)

    async def failed_create(self, job: JobEvidence) -> str:
        """Return the newest words of the Job controller about a pod it could not create, or an empty string."""
        query = {
            "fieldSelector": f"involvedObject.kind=Job,involvedObject.uid={job.uid},reason=FailedCreate",
            "limit": 50,
        }
        path = events_path(job.namespace)
        found = [
            (text(event, "lastTimestamp") or text(event, "eventTime"), text(event, "message", 1000))
            for event in items(_expect(await self._request("GET", path, query=query), path), "items")
        ]
        return max(found, default=("", ""))[1]

    # -- HeavyQueues --------------------------------------------------------------------------------------------------
    async def heavyqueues(self) -> tuple[list[Json], dict[str, KubeStatusError]]:
        """Return the HeavyQueues of all namespaces as they stand, and the refusals of those that cannot be read."""
        found: list[Json] = []
        refusals: dict[str, KubeStatusError] = {}
        for namespace in self.namespaces:
            try:
                found += [item async for item in self._api.pages(heavyqueues_path(namespace))]
            except KubeStatusError as error:
                refusals[namespace] = error
        return found, refusals

    async def heavyschedules(self) -> tuple[list[Json], dict[str, KubeStatusError]]:
        """Return the HeavySchedules of all namespaces, as ``heavyqueues`` does."""
        found: list[Json] = []
        refusals: dict[str, KubeStatusError] = {}
        for namespace in self.namespaces:
            try:
                found += [item async for item in self._api.pages(heavyschedules_path(namespace))]
            except KubeStatusError as error:
                refusals[namespace] = error
        return found, refusals

    async def patch_schedule_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Merge into a HeavySchedule's status; gone is fine."""
        path = heavyschedules_path(namespace, name) + "/status"
        reply = await self._request("PATCH", path, body={"status": status}, content_type=MERGE_PATCH)
        if reply.status != NOT_FOUND:
            _expect(reply, path)

    async def patch_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Merge into a HeavyQueue's status; gone is fine."""
        path = heavyqueues_path(namespace, name) + "/status"
        reply = await self._request("PATCH", path, body={"status": status}, content_type=MERGE_PATCH)
        if reply.status != NOT_FOUND:
            _expect(reply, path)


def _expect(reply: KubeReply, path: str) -> Json:
    if not reply.ok:
        raise KubeStatusError(reply.status, path, reply.message)
    return reply.object


def _is_about_uid(reply: KubeReply) -> bool:
    return "uid" in reply.message.lower()
