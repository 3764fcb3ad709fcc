"""What RQ's ``Retry`` leaves in a job's hash, read as RQ reads it.

RQ picks the delay of a retry from its list by the retries that are left (``Job.get_retry_interval``): a list shorter
than the retries repeats its first entry, a longer one ends with its last.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from heavylift.errors import InvalidInputError

_ENTRIES_MAX = 1_000
_SECONDS_MAX = 10**9
"""About 30 years; what a queue allows is far less."""
_RETRIES_MAX = 100
"""More starts no job gets."""


def intervals(text: str) -> tuple[int, ...]:
    """Return the seconds in a job's ``retry_intervals``; empty for none, and for RQ's default, a single 0.

    Raises:
        InvalidInputError: not a JSON list of whole seconds.
    """
    if not text:
        return ()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or len(found) > _ENTRIES_MAX or not all(map(_is_seconds, found)):
        raise InvalidInputError(
            f"Retry(interval=...) is stored as {text[:40]!r}: give whole seconds, or a list of at most {_ENTRIES_MAX}"
        )
    return tuple(found) if any(found) else ()


def _is_seconds(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _SECONDS_MAX


def by_failure(found: Sequence[int], retries: int) -> tuple[int, ...]:
    """Return the ms to wait after each failure, the first one first; empty without a list.

    Args:
        found: as of ``intervals``.
        retries: ``Retry.max``.
    """
    if not found:
        return ()
    most = min(max(retries, 0), _RETRIES_MAX)
    places = (max(len(found) - (retries - done), 0) for done in range(most))
    return tuple(1_000 * found[min(place, len(found) - 1)] for place in places)
