"""Lets go of what runs, before an uninstall: ``python -m heavylift_operator.unstick``, the chart's pre-delete hook.

Stops the dispatchers, so that nothing new is created, then takes our finalizer off this installation's Jobs: without an
operator it would hold them, and their namespaces, for ever. Pods run on and Redis keeps their jobs as started; an
operator that comes back with the same install id finishes them.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, ClassVar, Final

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from heavylift.contract import ids, names
from heavylift.errors import ConfigurationError, HeavyliftError
from heavylift.runtime import logs
from heavylift.runtime.kube import MERGE_PATCH, STRATEGIC_PATCH, Json, KubeApi, KubeReply, KubeStatusError, jobs_path
from heavylift.runtime.settings import PREFIX, Names, Seconds

_NOT_FOUND: Final = 404
_GONE: Final = frozenset({_NOT_FOUND, 409, 422})
"""The Job is gone, or another one has its name: nothing of ours holds it."""
_PAUSED: Final[Json] = {"metadata": {"annotations": {"autoscaling.keda.sh/paused": "true"}}}
"""KEDA starts dispatchers again from none unless it is told not to."""
_FROM_ONE: Final[Json] = {"spec": {"minReplicas": 1}}
"""An autoscaler whose least number is not 0 leaves a Deployment alone that was scaled to none."""


class UnstickSettings(BaseSettings):
    """What to let go of; each field is the variable ``HEAVYLIFT_<NAME>``."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    install_id: Annotated[str, Field(min_length=1)]
    namespaces: Names
    dispatcher: str = ""
    """``namespace/name`` of the dispatchers' Deployment; empty = there is none."""
    scaled_object: str = ""
    """``namespace/name`` of KEDA's ScaledObject of it; empty = there is none."""
    autoscaler: str = ""
    """``namespace/name`` of their HorizontalPodAutoscaler, where it may start them again from none; else empty."""
    kubeconfig: str | None = None
    log_level: str = "info"
    patience: Seconds = 90.0
    """How long the dispatchers may take to stop."""
    settle: Seconds = 10.0
    """How long after that a create that was under way is waited for, where the cluster does not say whether pods still
    end (before Kubernetes 1.35); a fifth of it where it does."""
    pause: Seconds = 1.0
    """Between two looks."""


async def unstick(api: KubeApi, settings: UnstickSettings) -> int:
    """Stop the dispatchers, then clear our finalizer until no Job has it; return how many had it.

    Raises:
        KubeStatusError: the API server refuses (RBAC); the message says what to check.
        ClusterUnavailableError: no answer.
    """
    if settings.scaled_object:
        await _hold(api, "keda.sh/v1alpha1", "scaledobjects", settings.scaled_object, _PAUSED)
    if settings.autoscaler:
        await _hold(api, "autoscaling/v2", "horizontalpodautoscalers", settings.autoscaler, _FROM_ONE)
    certain = await _stop(api, settings) if settings.dispatcher else False
    settle = settings.settle / 5 if certain else settings.settle
    cleared = 0
    quiet_since = asyncio.get_running_loop().time()
    while True:
        found = [await _clear(api, settings.install_id, namespace) for namespace in settings.namespaces]
        cleared += sum(found)
        now = asyncio.get_running_loop().time()
        if any(found):
            quiet_since = now
        elif now - quiet_since >= settle:
            return cleared
        await asyncio.sleep(settings.pause)


async def _hold(api: KubeApi, group: str, kind: str, which: str, patch: Json) -> None:
    """Have an autoscaler leave the dispatchers alone."""
    namespace, _, name = which.partition("/")
    path = f"/apis/{group}/namespaces/{namespace}/{kind}/{name}"
    reply = await api.request("PATCH", path, body=patch, content_type=MERGE_PATCH)
    if reply.status != _NOT_FOUND:
        _must(reply, path)


async def _stop(api: KubeApi, settings: UnstickSettings) -> bool:
    """Scale the dispatchers to none and wait; return whether it is certain that no pod of theirs is left."""
    log = logs.get("unstick")
    namespace, _, name = settings.dispatcher.partition("/")
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    reply = await api.request("PATCH", path, body={"spec": {"replicas": 0}}, content_type=MERGE_PATCH)
    end = asyncio.get_running_loop().time() + settings.patience
    while reply.status != _NOT_FOUND:
        _must(reply, path)
        if _is_down(reply.object):
            log.info("the dispatchers have stopped")
            return "terminatingReplicas" in reply.object["status"]
        if asyncio.get_running_loop().time() >= end:
            log.warning("the dispatchers have not stopped in time; going on without waiting for them")
            return False
        await asyncio.sleep(settings.pause)
        reply = await api.request("GET", path)
    log.info("there is no Deployment of dispatchers any more", deployment=settings.dispatcher)
    return False


def _is_down(deployment: Json) -> bool:
    status = deployment.get("status") or {}
    current = status.get("observedGeneration", 0) >= deployment.get("metadata", {}).get("generation", 0)
    return bool(current and not status.get("replicas") and not status.get("terminatingReplicas"))


async def _clear(api: KubeApi, install: str, namespace: str) -> int:
    """Take our finalizer off the installation's Jobs in one namespace; return how many had it."""
    cleared = 0
    query = {"labelSelector": f"{names.Label.INSTALL}={ids.short_hash(install)}"}
    async for job in api.pages(jobs_path(namespace), query=query):
        metadata = job["metadata"]
        if names.FINALIZER not in (metadata.get("finalizers") or []):
            continue
        path = jobs_path(namespace, metadata["name"])
        patch = {"metadata": {"uid": metadata["uid"], "$deleteFromPrimitiveList/finalizers": [names.FINALIZER]}}
        reply = await api.request("PATCH", path, body=patch, content_type=STRATEGIC_PATCH)
        if reply.status not in _GONE:
            _must(reply, path)
        cleared += 1
    return cleared


def _must(reply: KubeReply, path: str) -> None:
    if not reply.ok:
        raise KubeStatusError(reply.status, path, reply.message)


def _load() -> UnstickSettings:
    try:
        return UnstickSettings()
    except ValidationError as error:
        wrong = ", ".join(PREFIX + str(entry["loc"][0]).upper() for entry in error.errors(include_url=False))
        raise ConfigurationError(f"missing or wrong: {wrong} (the chart's hook sets them)") from None


async def _main() -> int:
    settings = _load()
    logs.configure("unstick", settings.log_level)
    api = await KubeApi.connect(kubeconfig=settings.kubeconfig)
    try:
        cleared = await unstick(api, settings)
    finally:
        await api.aclose()
    logs.get("unstick").info(
        f"{cleared} Jobs have been let go: their pods run on, and a reinstall with install id {settings.install_id!r} "
        "finishes them"
    )
    return 0


def main() -> int:
    """Run the hook; return its exit status."""
    try:
        return asyncio.run(_main())
    except HeavyliftError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - may come before logging is set up
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
