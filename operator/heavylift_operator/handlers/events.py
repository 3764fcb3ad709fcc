"""kopf's registry: one ``on.event`` handler per kind; they return nothing, or kopf would patch it into the object."""

from __future__ import annotations

from typing import Any

import kopf

from heavylift.contract import names
from heavylift_operator.handlers.sink import Sink


def registry(sink: Sink) -> kopf.OperatorRegistry:
    """Return a registry of our handlers and of the way in."""
    ours = kopf.OperatorRegistry()

    async def on_heavyqueue(event: Any, **_: Any) -> None:
        sink.heavyqueue(event)

    async def on_heavyschedule(event: Any, **_: Any) -> None:
        sink.heavyschedule(event)

    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    kopf.on.event(names.GROUP, names.VERSION, "heavyqueues", registry=ours)(on_heavyqueue)
    kopf.on.event(names.GROUP, names.VERSION, "heavyschedules", registry=ours)(on_heavyschedule)
    kopf.on.login(registry=ours)(login)
    return ours
