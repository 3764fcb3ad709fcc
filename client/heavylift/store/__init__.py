"""The only code that talks to Redis: Lua scripts in files, operations without I/O, two short runners."""

from __future__ import annotations

from heavylift.store import ops
from heavylift.store.aio import AsyncStore, AsyncSubscription
from heavylift.store.model import (
    Claim,
    ClaimReply,
    ClaimRequest,
    Enqueued,
    EnqueueRequest,
    Event,
    Fence,
    FinishReply,
    FinishRequest,
    InFlight,
    JobRecord,
    Json,
    Next,
    Observation,
    Outcome,
    QueueCounts,
    QueueGauges,
    Reply,
    SettingsOwner,
    Snapshot,
    Spend,
    Verdict,
)
from heavylift.store.steps import Op
from heavylift.store.sync import Store, Subscription

__all__ = [
    "AsyncStore",
    "AsyncSubscription",
    "Claim",
    "ClaimReply",
    "ClaimRequest",
    "EnqueueRequest",
    "Enqueued",
    "Event",
    "Fence",
    "FinishReply",
    "FinishRequest",
    "InFlight",
    "JobRecord",
    "Json",
    "Next",
    "Observation",
    "Op",
    "Outcome",
    "QueueCounts",
    "QueueGauges",
    "Reply",
    "SettingsOwner",
    "Snapshot",
    "Spend",
    "Store",
    "Subscription",
    "Verdict",
    "ops",
]
