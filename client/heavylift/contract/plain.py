"""Plain JSON out of what users pass: mappings, sequences, dataclasses, pydantic models; nothing is coerced silently."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from heavylift.contract import limits
from heavylift.errors import InvalidPayloadError

_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGER_BITS = 1024
_HINTS = {
    "date": "pass value.isoformat()",
    "datetime": "pass value.isoformat()",
    "time": "pass value.isoformat()",
    "timedelta": "pass value.total_seconds()",
    "Decimal": "pass str(value)",
    "UUID": "pass str(value)",
    "Path": "pass str(value)",
    "PosixPath": "pass str(value)",
    "bytes": "pass base64 text, or store it elsewhere and pass a reference",
    "bytearray": "pass base64 text, or store it elsewhere and pass a reference",
    "ndarray": "pass value.tolist(), or store it elsewhere and pass a reference",
    "DataFrame": "store it elsewhere and pass a reference",
    "set": "pass sorted(value)",
    "frozenset": "pass sorted(value)",
}


def to_plain(value: Any, where: str = "data") -> Any:
    """Return ``value`` as dict, list, str, int, float, bool and None only.

    Args:
        value: JSON-like; dataclasses become objects of their fields, pydantic models their ``model_dump(mode="json")``.
        where: the name of the value in messages, for example ``data`` or ``result``.

    Raises:
        InvalidPayloadError: another type, NaN, Infinity, a lone surrogate, a key that is not text, deeper than
            limits.JSON_DEPTH; the message starts with the path to the bad value, for example ``data.rows[3].price``.
    """
    return value if _is_plain(value, limits.JSON_DEPTH) else _convert(value, where, 1)


_SMALL = range(-(2**63), 2**63)


def _is_plain(value: Any, depth: int) -> bool:
    """Whether it is plain JSON beyond doubt, told quickly; what it does not know is for ``_convert``."""
    kind = type(value)
    if depth < 1:
        return False
    if kind is str:
        return value.isascii() or not _SURROGATE.search(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not key.isascii() or not _is_plain(item, depth - 1):
                return False
        return True
    if kind is list:
        return all(_is_plain(item, depth - 1) for item in value)
    return (
        value is None or kind is bool or (kind is int and value in _SMALL) or (kind is float and math.isfinite(value))
    )


def dumps(value: Any, where: str = "data") -> str:
    """Return compact JSON of ``to_plain(value, where)``, keys in the order given, non-ASCII kept."""
    return json.dumps(to_plain(value, where), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _convert(value: Any, where: str, depth: int) -> Any:
    if depth > limits.JSON_DEPTH:
        raise InvalidPayloadError(f"{where[:200]} is nested deeper than {limits.JSON_DEPTH} levels")
    if value is None or isinstance(value, bool | str | int | float):
        return _scalar(value, where)
    if isinstance(value, Mapping):
        return {_key(key, where): _convert(item, f"{where}.{key[:40]}", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_asdict"):
        return [_convert(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    return _structure(value, where, depth)


def _structure(value: Any, where: str, depth: int) -> Any:
    """Dataclasses, named tuples and pydantic models; everything else is refused with a hint."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(((field.name, getattr(value, field.name)) for field in dataclasses.fields(value)), where, depth)
    if isinstance(value, tuple):
        return _fields(iter(value._asdict().items()), where, depth)  # type: ignore[attr-defined]  # a named tuple
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return _convert(dump(mode="json"), where, depth)
    kind = type(value).__name__
    hint = _HINTS.get(kind)
    if hint is None and callable(getattr(value, "item", None)):  # numpy's scalars
        hint = "pass value.item()"
    raise InvalidPayloadError(f"{where[:200]} is a {kind}, which JSON cannot hold" + (f": {hint}" if hint else ""))


def _fields(pairs: Iterator[tuple[str, Any]], where: str, depth: int) -> dict[str, Any]:
    return {name: _convert(item, f"{where}.{name}", depth + 1) for name, item in pairs}


def _scalar(value: str | float | bool | None, where: str) -> Any:  # noqa: FBT001 - a JSON value, no flag
    if isinstance(value, str):
        return str.__str__(_text(value, where))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidPayloadError(f"{where[:200]} is {value}: JSON has no such number; pass None or text")
        return float(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() > _INTEGER_BITS:
            raise InvalidPayloadError(f"{where[:200]} is an integer of {value.bit_length()} bits: pass it as text")
        return int(value)
    return value


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise InvalidPayloadError(f"{where[:200]} has the key {key!r}: keys must be text")
    return _text(key, f"a key of {where}")


def _text(text: str, where: str) -> str:
    if _SURROGATE.search(text):
        raise InvalidPayloadError(f"{where[:200]} holds a lone surrogate: it is not valid Unicode text")
    return text
