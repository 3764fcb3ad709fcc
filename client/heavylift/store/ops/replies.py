"""Script replies as values."""

from __future__ import annotations

from typing import Any

from heavylift.errors import StoreCorruptError
from heavylift.store import decode
from heavylift.store.model import Reply, Verdict

_VERDICTS: dict[bytes, Verdict] = {one.value.encode(): one for one in Verdict}


def verdict(value: Any) -> Verdict:
    """Return a verdict.

    Raises:
        StoreCorruptError: a script of another version answered.
    """
    known = _VERDICTS.get(value) if isinstance(value, bytes) else None
    if known is not None:
        return known
    try:
        return Verdict(decode.text(value))
    except ValueError:
        raise StoreCorruptError(f"a script answered {value!r:.100}: are all parts of the same version?") from None


def reply(answer: Any) -> Reply:
    """Return ``{verdict, message}``."""
    return Reply(verdict=verdict(answer[0]), message=decode.text(answer[1]))
