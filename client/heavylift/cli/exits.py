"""Exit codes of the command line, and the one place that turns errors into them."""

from __future__ import annotations

import os
import re
import sys
import traceback
from enum import IntEnum

from heavylift.errors import (
    BatchError,
    ClusterUnavailableError,
    DuplicateJobError,
    HeavyliftError,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    JobStateError,
    NotAllowedError,
    RedisUnavailableError,
    ScheduleNotFoundError,
    ScheduleOwnedError,
    StoreCorruptError,
    UnknownQueueError,
    WaitTimeoutError,
)


class Exit(IntEnum):
    """What an exit code says."""

    DONE = 0
    JOB_FAILED = 1
    """A job failed, or a check of ``doctor``."""
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNREACHABLE = 5
    BUG = 70
    """Something in Heavylift itself; HEAVYLIFT_TRACEBACK=1 shows where."""
    WAIT_TIMED_OUT = 124
    INTERRUPTED = 130


_CODES: tuple[tuple[type[BaseException], Exit], ...] = (
    (WaitTimeoutError, Exit.WAIT_TIMED_OUT),
    (JobFailedError, Exit.JOB_FAILED),
    (JobCancelledError, Exit.JOB_FAILED),
    (JobNotFoundError, Exit.NOT_FOUND),
    (UnknownQueueError, Exit.NOT_FOUND),
    (ScheduleNotFoundError, Exit.NOT_FOUND),
    (ScheduleOwnedError, Exit.REFUSED),
    (DuplicateJobError, Exit.REFUSED),
    (NotAllowedError, Exit.REFUSED),
    (JobStateError, Exit.REFUSED),
    (StoreCorruptError, Exit.REFUSED),
    (BatchError, Exit.REFUSED),
    (RedisUnavailableError, Exit.UNREACHABLE),
    (ClusterUnavailableError, Exit.UNREACHABLE),
    (HeavyliftError, Exit.USAGE),
)


def exit_code(error: BaseException) -> Exit:
    """Return the exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.BUG)


def say(message: str) -> None:
    """Write one line for people to standard error."""
    print(f"heavylift: {safe(message)}", file=sys.stderr)


_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    """Return text that cannot steer a terminal: control and direction characters become replacement characters."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def safe_json(text: str) -> str:
    """Return JSON text in which those characters stand as escapes."""
    return _UNSAFE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def report(error: BaseException) -> Exit:
    """Say what went wrong, without a traceback, and return the exit code."""
    code = exit_code(error)
    if isinstance(error, BatchError):
        for inner in error.exceptions:
            say(str(inner))
        say(f"{len(error.exceptions)} refused, {len(error.jobs)} enqueued")
    elif code is Exit.BUG:
        say(f"unexpected {type(error).__name__}: {error} (HEAVYLIFT_TRACEBACK=1 shows where)")
    else:
        say(str(error))
    if os.environ.get("HEAVYLIFT_TRACEBACK") == "1":
        traceback.print_exception(error)
    return code
