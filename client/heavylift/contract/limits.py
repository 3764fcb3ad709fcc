"""Bounds every part keeps, in one place."""

from __future__ import annotations

PAYLOAD_DEFAULT = 64 * 1024
"""Bytes of JSON a job's data may have unless its HeavyQueue says otherwise."""
PAYLOAD_MAX = 100 * 1024
"""Bytes; Linux holds one environment variable to 128 KiB."""
STORED_MAX = 128 * 1024
"""Bytes of RQ's ``data`` field that claim reads at all; larger = quarantined or invalid, never returned."""
INFLATED_MAX = 256 * 1024
"""Bytes a compressed ``data`` field may inflate to."""
JSON_DEPTH = 64
JOB_ID_MAX = 200
"""Characters of a job id."""
QUEUE_NAME_MAX = 100
TASK_NAME_MAX = 200
PRIORITY_MAX = 1000
"""Priorities go from minus this to this."""
CLAIM_MAX = 20
ENDS_MAX = 20
"""Ends that one call writes; with all they may bring it still holds Redis for less than 3 ms."""
CLAIM_LOOKED_AT = 200
"""Units of work of one claim: an id looked at is one; a job started, ended or moved is several (``COST`` there)."""
CLAIM_BYTES = 256 * 1024
CLAIM_PROMOTIONS = 50
CLAIM_DEADLINE_MS = 60_000
CREATE_RETRY_MS = 40_000
HISTORY_MAX = 20
EVIDENCE_MAX = 8 * 1024
OBSERVED_MAX = 40 * 1024
"""Bytes of evidence while an execution lasts: a termination message of 4,096 bytes must stay whole, and JSON may spell
each of them with six."""
MESSAGE_MAX = 2048
QUARANTINE_MAX = 1000
EVENTS_MAXLEN = 10_000
STARTS_MAX = 100
"""Executions of one job, whatever became of them."""
CHECKPOINT_MAX = 2048
"""Bytes of JSON a checkpoint may have: it shares a termination message of 4 KiB with an error."""
HOLD_MAX_MS = 3_600_000
"""The longest a program's RateLimited can hold its whole queue back."""
SILENT_CLAIMS_MAX = 3
BATCH_WORK = 120
"""Work of one enqueue_many script call (larger batches are split): 60 plain entries, 40 with keys."""
PURGE_STEP = 50
"""Jobs one script call removes at most when it purges."""
RETRY_STEP = 20
"""Jobs one script call retries at most."""
FIND_STEP = 50
"""Jobs one script call looks at when it lists or searches."""
SWEEP_STEP = 100
"""Deduplication keys one script call looks at."""
DEPENDENTS_SWEEP_STEP = 50
"""Jobs that wait for others one script call looks at."""
ENDED_SWEEP_STEP = 50
"""Ended jobs of each state one script call compares with RQ's registries."""
RETENTION_STEP = 20
"""Jobs one script call removes at most when it trims."""
WAIT_BOUNDS_MS = (
    10, 50, 100, 250, 500, 1000, 2500, 5000,
    10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000, 14_400_000, 86_400_000,
)  # fmt: skip
"""Upper bounds of the buckets in which claims count how long jobs waited; the last bucket has none."""
TALLIED_TASKS_MAX = 20
"""Tasks of one queue whose figures are kept apart."""
KEY_MAX = 200
"""Bytes of a concurrency key."""
KEY_SWEEP_STEP = 25
"""Entries of each kind that one step of a sweep over concurrency keys looks at."""
SNAPSHOT_QUEUES = 25
"""Queues whose gauges one script call reads."""
