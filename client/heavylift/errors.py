"""Every error a user of Heavylift can meet, as one tree under HeavyliftError.

```
HeavyliftError
├── ConfigurationError            fix the settings it names
├── InvalidInputError             fix what was passed
│   ├── InvalidDurationError
│   ├── InvalidJobIdError
│   ├── InvalidQueueNameError
│   ├── InvalidPayloadError
│   │   └── PayloadTooLargeError  pass a reference instead of the data
│   ├── InvalidTemplateError
│   ├── NotAllowedError           ask the queue's owner: spec.allow
│   └── JobStateError             too late, or too early: look at the job
├── DuplicateJobError             choose another id, or if_exists="return"
├── UnknownQueueError             apply a HeavyQueue of that name, or strict=False
├── JobNotFoundError              never existed, deleted, or past its retention
├── ScheduleNotFoundError         never defined, or deleted
├── ScheduleOwnedError            of another queue, or of a HeavySchedule: change it there
├── JobFailedError                the job's own end; .outcome says why
├── JobCancelledError
├── WaitTimeoutError              also a TimeoutError: the job goes on
├── RedisUnavailableError         Redis cannot be reached or refuses
├── StoreCorruptError             a key of ours has the wrong type; the message names it
├── ClusterUnavailableError       the Kubernetes API cannot be reached
└── BatchError                    an ExceptionGroup: entries of enqueue_many were refused; .jobs were accepted
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class HeavyliftError(Exception):
    """Root of all errors Heavylift raises on purpose."""


class ConfigurationError(HeavyliftError):
    """A setting is missing or wrong; the message names it and says what to do."""


class InvalidInputError(HeavyliftError, ValueError):
    """Something passed in cannot be used as it is."""


class InvalidDurationError(InvalidInputError):
    """Not a duration: write 90s, 15m, 168h, a timedelta or seconds."""


class InvalidJobIdError(InvalidInputError):
    """Not a usable job id."""


class InvalidQueueNameError(InvalidInputError):
    """Not a usable queue name."""


class InvalidPayloadError(InvalidInputError):
    """The data is not plain JSON within the limits."""


class PayloadTooLargeError(InvalidPayloadError):
    """The data is too large: store it elsewhere and enqueue a reference (URL, object key, path)."""


class InvalidTemplateError(InvalidInputError):
    """The HeavyQueue's template cannot be used; the message says what to change."""


class NotAllowedError(InvalidInputError):
    """What the queue's HeavyQueue does not allow, or only less of; the message names the field."""


class JobStateError(InvalidInputError):
    """What the job's state does not admit: it has ended, it is active, or something else has its place."""


class DuplicateJobError(HeavyliftError):
    """A job of this id exists already."""


class UnknownQueueError(HeavyliftError):
    """No HeavyQueue serves this queue."""


class JobNotFoundError(HeavyliftError, LookupError):
    """No job of this id: never enqueued, deleted, or past its retention."""


class ScheduleNotFoundError(HeavyliftError, LookupError):
    """No schedule of this id: never defined, or deleted."""


class ScheduleOwnedError(HeavyliftError):
    """The schedule belongs to another queue, or to a HeavySchedule: change it there."""


class JobFailedError(HeavyliftError):
    """The job ended as failed; ``outcome`` is a mapping with ``class``, ``message`` and evidence."""

    def __init__(self, message: str, outcome: Any = None) -> None:
        super().__init__(message)
        self.outcome = outcome


class JobCancelledError(HeavyliftError):
    """The job was cancelled."""


class WaitTimeoutError(HeavyliftError, TimeoutError):
    """The wait ended before the job did; the job goes on."""


class RedisUnavailableError(HeavyliftError):
    """Redis cannot be reached, is loading, read-only, full or refuses the credentials."""


class StoreCorruptError(HeavyliftError):
    """A key in Redis has a type or content it cannot have; nothing was written."""


class ClusterUnavailableError(HeavyliftError):
    """The Kubernetes API cannot be reached or refuses the credentials."""


class BatchError(HeavyliftError, ExceptionGroup[HeavyliftError]):
    """Some entries of a batch were refused; ``jobs`` holds the accepted ones."""

    jobs: Sequence[Any] = ()

    def derive(self, excs: Sequence[HeavyliftError]) -> BatchError:  # type: ignore[override, explicit-override]  # only ours are in it
        """Return a part of the group (``except*``, ``split``); it knows the accepted jobs too."""
        part = BatchError(self.message, excs)
        part.jobs = self.jobs
        return part
