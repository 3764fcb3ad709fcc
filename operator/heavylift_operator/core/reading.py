"""Reading dicts from outside: every accessor answers the type it promises, whatever is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from typing_extensions import TypeIs

Json = dict[str, Any]

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_QUANTITY = re.compile(r"[0-9.]+[A-Za-z]{0,2}")


def is_mapping(value: Any) -> TypeIs[Mapping[str, Any]]:
    """Return whether it is a mapping; asked a hundred times per event, so what JSON gives is told first."""
    return isinstance(value, dict) or isinstance(value, Mapping)  # noqa: SIM101 - an abstract class takes ten times as long


def child(value: Any, *path: str) -> Mapping[str, Any]:
    """Return the mapping at a path of keys, or an empty one."""
    for key in path:
        value = value.get(key) if is_mapping(value) else None
    return value if is_mapping(value) else {}


def items(value: Any, key: str) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings in the list under a key."""
    found = value.get(key) if is_mapping(value) else None
    if isinstance(found, list):
        yield from (item for item in found if is_mapping(item))


def text(value: Any, key: str, limit: int = 256) -> str:
    """Return the text under a key, cut to ``limit`` bytes of valid UTF-8; anything else is an empty string."""
    found = value.get(key) if is_mapping(value) else None
    return cut(found, limit) if isinstance(found, str) else ""


def integer(value: Any, key: str) -> int | None:
    """Return the whole number under a key, or None."""
    found = value.get(key) if is_mapping(value) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def flag(value: Any, key: str) -> bool:
    """Return whether the value under a key is exactly true."""
    return is_mapping(value) and value.get(key) is True


def stamp(value: Any, key: str) -> int | None:
    """Return a Kubernetes time (RFC 3339) under a key as ms since the epoch, or None."""
    found = text(value, key, 64)
    if not found:
        return None
    try:
        moment = datetime.fromisoformat(found)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def cut(value: str, limit: int) -> str:
    """Return text as valid UTF-8 of at most ``limit`` bytes: lone surrogates replaced, no half characters."""
    if len(value) <= limit and value.isascii():
        return value
    clean = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value[:limit])
    return clean.encode()[:limit].decode("utf-8", "ignore")


def printable(value: str, limit: int = 2048) -> str:
    """Return text fit to be shown: control characters and bidi overrides replaced, cut to ``limit`` bytes."""
    return cut(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", cut(value, limit * 2)), limit)


def quantity(value: Any, key: str) -> str:
    """Return a Kubernetes quantity under a key as written, or an empty string."""
    found = text(value, key, 32)
    return found if _QUANTITY.fullmatch(found) else ""
