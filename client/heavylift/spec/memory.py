"""A container's memory that grew after an end as oom; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heavylift.errors import InvalidInputError
from heavylift.spec import quantities


def grown_resources(written: Mapping[str, Any], wanted: int) -> dict[str, Any]:
    """Return a container's resources with a memory limit of ``wanted`` bytes and the request in the ratio as before.

    A limit that is as large already stays as written, and so does a container without one. All that remains is kept.
    """
    limits, requests = dict(written.get("limits") or {}), dict(written.get("requests") or {})
    before = _bytes(limits.get("memory"))
    if before is None or before == 0 or before >= wanted:
        return dict(written)
    limits["memory"] = quantities.memory(wanted)
    asked = _bytes(requests.get("memory"))
    if asked is not None:
        requests["memory"] = quantities.memory(wanted if asked >= before else -(-asked * wanted // before))
    return {**written, "limits": limits, **({"requests": requests} if requests else {})}


def _bytes(quantity: object) -> int | None:
    if isinstance(quantity, bool) or not isinstance(quantity, str | int):
        return None
    try:
        return quantities.to_bytes(str(quantity))
    except InvalidInputError:
        return None
