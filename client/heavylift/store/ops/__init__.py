"""Every operation on the store, without I/O: ``store.run(ops.claim(...))``.

Each returns a generator that a runner drives (``heavylift.store.Store`` or ``AsyncStore``). All are idempotent: a
runner repeats a step whose reply was lost.
"""

from __future__ import annotations

from heavylift.store.ops.executions import (
    check,
    finalized,
    finish,
    observe,
    own_claims,
    record,
    release,
    unfinalized,
)
from heavylift.store.ops.jobs import cancel, claim, enqueue, enqueue_many, retry
from heavylift.store.ops.queues import (
    clear_trouble,
    delete_settings,
    get_settings,
    pause,
    paused,
    put_settings,
    resume,
    set_trouble,
    settings_owner,
    trim,
    troubles,
)
from heavylift.store.ops.reads import (
    counters,
    counts,
    events,
    get_job,
    inflight,
    inflight_count,
    list_jobs,
    quarantine,
    queues,
    snapshot,
)
from heavylift.store.ops.service import (
    drop_lock,
    ensure_epoch,
    get_epoch,
    hold_rq_locks,
    ping,
    register_dispatcher,
    release_rq_locks,
    server_report,
    take_lock,
    unregister_dispatcher,
)

__all__ = [
    "cancel",
    "check",
    "claim",
    "clear_trouble",
    "counters",
    "counts",
    "delete_settings",
    "drop_lock",
    "enqueue",
    "enqueue_many",
    "ensure_epoch",
    "events",
    "finalized",
    "finish",
    "get_epoch",
    "get_job",
    "get_settings",
    "hold_rq_locks",
    "inflight",
    "inflight_count",
    "list_jobs",
    "observe",
    "own_claims",
    "pause",
    "paused",
    "ping",
    "put_settings",
    "quarantine",
    "queues",
    "record",
    "register_dispatcher",
    "release",
    "release_rq_locks",
    "resume",
    "retry",
    "server_report",
    "set_trouble",
    "settings_owner",
    "snapshot",
    "take_lock",
    "trim",
    "troubles",
    "unfinalized",
    "unregister_dispatcher",
]
