"""Queues that are there: a misspelt name is said to be one."""

from __future__ import annotations

from collections.abc import Iterable

from heavylift.client import Client, Queue
from heavylift.errors import UnknownQueueError
from heavylift.store import ops


def known(client: Client, name: str) -> Queue:
    """Return a queue that is there: a pause of a misspelt one would hold nothing back.

    Raises:
        UnknownQueueError: nobody enqueued into it, serves it or paused it.
    """
    queue = client.queue(name)
    if name not in client.queues() and not client.run(ops.get_settings(name)) and not client.run(ops.paused(name)):
        raise UnknownQueueError(f"there is no queue {name} in this Redis: see `heavylift queues list`")
    return queue


def known_names(client: Client, names: Iterable[str]) -> tuple[str, ...]:
    """Return these names, or those of all queues if there are none; raises as ``known``."""
    return tuple(known(client, name).name for name in names) or tuple(client.queues())
