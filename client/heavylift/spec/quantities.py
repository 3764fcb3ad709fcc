"""Kubernetes quantities (``64Ki``, ``1.5``, ``250m``, ``2e3``) as whole numbers of thousandths."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from heavylift.errors import InvalidInputError

_FORM = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?P<suffix>[numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?")
_LENGTH_MAX = 32
_FACTORS = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
PATTERN = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$"
"""The same form for schemas (no sign: nothing of ours can be negative)."""


def _decimal(text: str) -> Decimal:
    match = _FORM.fullmatch(text) if len(text) <= _LENGTH_MAX else None
    if match is None:
        raise InvalidInputError(f"{text[:40]!r} is not a quantity: write it like 64Ki, 512Mi, 4Gi, 2 or 500m")
    suffix = match["suffix"] or ""
    factor = _FACTORS[suffix] if suffix in _FACTORS else Decimal(10) ** int(suffix[1:])
    return Decimal(match["number"]) * factor


def to_milli(text: str) -> int:
    """Return thousandths of the quantity's unit, rounded up as Kubernetes does (``500m`` -> 500, ``1Ki`` -> 1024000).

    Raises:
        InvalidInputError: not a quantity, or negative.
    """
    return math.ceil(_decimal(text) * 1000)


def memory(size: int) -> str:
    """Return bytes as a quantity: in whole Mi where they are (``150994944`` -> ``144Mi``)."""
    return f"{size // 1024**2}Mi" if size % 1024**2 == 0 else str(size)


def to_bytes(text: str) -> int:
    """Return whole bytes, rounded up (``64Ki`` -> 65536).

    Raises:
        InvalidInputError: not a quantity, or negative.
    """
    return math.ceil(_decimal(text))
