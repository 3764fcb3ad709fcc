"""Script replies as values."""

from __future__ import annotations

from typing import Any

from heavylift.errors import StoreCorruptError
from heavylift.store import decode
from heavylift.store.model import Reply, Verdict


def verdict(value: Any) -> Verdict:
    """Return a verdict.

    Raises:
        StoreCorruptError: a script of another version answered.
    """
    try:
        return Verdict(decode.text(value))
    except ValueError:
        raise StoreCorruptError(f"a script answered {value!r:.100}: are all parts of the same version?") from None


def reply(answer: Any) -> Reply:
    """Return ``{verdict, message}``."""
    return Reply(verdict=verdict(answer[0]), message=decode.text(answer[1]))
