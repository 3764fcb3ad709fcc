"""The payload as it lies in Redis: RQ's ``data`` field, zlib over JSON ``[func, instance, args, kwargs]``.

Strict in both directions: nothing here unpickles, imports or calls what it reads (promise 6), and no input makes it
use more memory than the limits allow.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from dataclasses import dataclass
from typing import Any, NoReturn

from heavylift.contract import limits
from heavylift.contract.names import OUTSIDE_POD_FUNC
from heavylift.errors import InvalidPayloadError, PayloadTooLargeError

_TASK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CANONICAL = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_PARTS = 4  # func, instance, args, kwargs
PICKLE_REMEDY = (
    "the payload is pickled, which is never read outside the job's pod: enqueue with "
    "rq.Queue(..., serializer=JSONSerializer)"
)


@dataclass(frozen=True, slots=True)
class Payload:
    """A decoded payload."""

    task: str
    data_json: str
    """The JSON text the pod gets, compact."""
    plain: bool
    """Enqueued by RQ's own client: the task is its function's path, the data its ``args`` and ``kwargs``."""


def check_task(task: str) -> str:
    """Return the task's name if it is usable: letters, digits, ``_ . : / -``, at most 200 characters.

    Raises:
        InvalidPayloadError: it is not.
    """
    if not _TASK.fullmatch(task) or len(task) > limits.TASK_NAME_MAX:
        raise InvalidPayloadError(
            f"task name {task[:60]!r} is not usable: use letters, digits and '_.:/-', "
            f"at most {limits.TASK_NAME_MAX} characters"
        )
    return task


def dumps(data: Any) -> str:
    """Return compact JSON of plain data, keys in the order given, non-ASCII kept.

    Raises:
        InvalidPayloadError: not plain JSON: other types, NaN, Infinity, lone surrogates, too deep, keys not text.
    """
    _check_plain(data, "data")
    try:
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayloadError(f"data is not plain JSON: {error}") from error


def _check_plain(data: Any, path: str) -> None:
    """Walk the data without recursion: depth and number of values are bounded by us, not by the interpreter."""
    stack: list[tuple[Any, str, int]] = [(data, path, 1)]
    seen = 0
    while stack:
        value, where, depth = stack.pop()
        seen += 1
        if depth > limits.JSON_DEPTH:
            raise InvalidPayloadError(f"{where[:200]} is nested deeper than {limits.JSON_DEPTH} levels")
        if seen > limits.INFLATED_MAX:  # each value takes a byte at least
            raise PayloadTooLargeError(f"data holds more than {limits.INFLATED_MAX:,} values: pass a reference instead")
        if isinstance(value, dict):
            stack.extend((value[key], f"{where}.{_key(key, where)[:40]}", depth + 1) for key in value)
        elif isinstance(value, list | tuple):
            stack.extend((item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value))
        else:
            _check_scalar(value, where[:200])


def _check_scalar(value: Any, where: str) -> None:
    if isinstance(value, str):
        _check_text(value, where)
    elif isinstance(value, float):
        if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124 - NaN is unlike itself
            raise InvalidPayloadError(f"{where} is {value}: JSON has no such number")
    elif value is not None and not isinstance(value, int):
        raise InvalidPayloadError(f"{where} is a {type(value).__name__}: only plain JSON types can be stored")


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise InvalidPayloadError(f"{where} has the key {key!r}: keys must be text")
    _check_text(key, f"{where}: a key")
    return key


def _check_text(text: str, where: str) -> None:
    if _SURROGATE.search(text):
        raise InvalidPayloadError(f"{where} holds a lone surrogate: it is not valid Unicode text")


def encode(task: str, data: Any, *, max_size: int = limits.PAYLOAD_DEFAULT) -> bytes:
    """Return RQ's ``data`` field for a task and its data (any plain JSON value).

    Args:
        task: the task's name.
        data: plain JSON; the pod gets it exactly as given.
        max_size: bytes of compact JSON that ``data`` may have.

    Raises:
        InvalidPayloadError: bad task name, or the data is not plain JSON.
        PayloadTooLargeError: the data is larger than ``max_size``.
    """
    check_task(task)
    text = dumps(data)
    _check_size(len(text.encode()), max_size)
    return wrap(task, text)


def compact(plain: Any) -> str:
    """Return compact JSON of what ``contract.plain.to_plain`` gave, keys in the order given, non-ASCII kept."""
    return _ENCODER.encode(plain)


def wrap(task: str, data_json: str) -> bytes:
    """Return RQ's ``data`` field for a checked task and the compact JSON of its data."""
    whole = f'["{OUTSIDE_POD_FUNC}",null,["{task}",{data_json}],{{}}]'.encode()
    if len(whole) > _WINDOW:
        return zlib.compress(whole)
    engine = zlib.compressobj(wbits=_WINDOW_BITS, memLevel=_MEMORY)
    return engine.compress(whole) + engine.flush()


_WINDOW_BITS, _MEMORY = 10, 4
_WINDOW = 2**_WINDOW_BITS
"""Bytes that fit into zlib's smallest windows: setting up a large one takes ten times as long as filling it."""


def _check_size(size: int, max_size: int) -> None:
    if size > max_size:
        raise PayloadTooLargeError(
            f"data is {size:,} bytes of JSON, more than the {max_size:,} allowed: store it elsewhere and pass a "
            "reference (URL, object key, path)"
        )


def decode(raw: bytes, *, max_size: int = limits.PAYLOAD_MAX, stored_max: int = limits.STORED_MAX) -> Payload:
    """Return what a stored ``data`` field holds.

    Args:
        raw: the field's bytes; uncompressed JSON is accepted too, as RQ does.
        max_size: bytes of compact JSON the data may have.
        stored_max: bytes the field may have as stored.

    Raises:
        InvalidPayloadError: anything but such a payload; the message says what and, for pickle, what to do.
        PayloadTooLargeError: too large, stored or inflated.
    """
    if len(raw) > stored_max:
        raise PayloadTooLargeError(f"the stored payload is {len(raw):,} bytes, more than the {stored_max:,} allowed")
    if not raw:
        raise InvalidPayloadError("the job has no data")
    inflated = _inflate(raw)
    if inflated[:1] == b"\x80":
        raise InvalidPayloadError(PICKLE_REMEDY)
    func, args, kwargs = _shape(_parse(inflated))
    if func == OUTSIDE_POD_FUNC:
        return _own(args, kwargs, max_size)
    return _payload(func, {"args": args, "kwargs": kwargs}, max_size, plain=True)


def _inflate(raw: bytes) -> bytes:
    if raw[:1] in {b"[", b"\x80"} or raw[:1].isspace():
        return raw
    engine = zlib.decompressobj()
    try:
        inflated = engine.decompress(raw, limits.INFLATED_MAX + 1)
    except zlib.error as error:
        raise InvalidPayloadError(f"the payload is not zlib data: {error}") from error
    if len(inflated) > limits.INFLATED_MAX:
        raise PayloadTooLargeError(f"the payload inflates to more than {limits.INFLATED_MAX:,} bytes")
    if not engine.eof:
        raise InvalidPayloadError("the payload is not zlib data: it is cut short")
    if engine.unused_data:
        raise InvalidPayloadError("the payload is not zlib data: something follows its end")
    return inflated


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_constant, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise InvalidPayloadError("the payload is not UTF-8 text") from error
    except RecursionError as error:
        raise InvalidPayloadError(f"the payload is nested deeper than {limits.JSON_DEPTH} levels") from error
    except ValueError as error:
        if isinstance(error, InvalidPayloadError):
            raise
        raise InvalidPayloadError(f"the payload is not JSON: {error}") from error


def _constant(name: str) -> NoReturn:
    raise InvalidPayloadError(f"the payload holds {name}: JSON has no such number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise InvalidPayloadError("the payload has an object with the same key twice")
    return made


def _shape(value: Any) -> tuple[str, list[Any], dict[str, Any]]:
    if not isinstance(value, list) or len(value) != _PARTS:
        raise InvalidPayloadError("the payload is not [function, instance, args, kwargs]")
    func, instance, args, kwargs = value
    if not isinstance(func, str) or not func:
        raise InvalidPayloadError("the payload names no function")
    if instance is not None:
        raise InvalidPayloadError("the payload is a call of a method on an instance; enqueue a function")
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise InvalidPayloadError("the payload's args are not a list or its kwargs not an object")
    return func, args, kwargs


def _own(args: list[Any], kwargs: dict[str, Any], max_size: int) -> Payload:
    if len(args) != 2 or kwargs or not isinstance(args[0], str):  # noqa: PLR2004 - task and data
        raise InvalidPayloadError("the payload is not [task, data]")
    return _payload(args[0], args[1], max_size, plain=False)


def _payload(task: str, data: Any, max_size: int, *, plain: bool) -> Payload:
    check_task(task)
    text = dumps(data)
    _check_size(len(text.encode()), max_size)
    return Payload(task, text, plain)


def fingerprint(task: str, data_json: str) -> str:
    """Return a hash of task and data that does not depend on the order of keys, for ``if_exists``.

    Raises:
        InvalidPayloadError: ``data_json`` is not JSON.
    """
    try:
        return fingerprint_of(task, json.loads(data_json))
    except (ValueError, RecursionError) as error:
        raise InvalidPayloadError(f"data is not JSON: {error}") from error


def fingerprint_of(task: str, plain: Any) -> str:
    """Return the same of what ``contract.plain.to_plain`` gave."""
    canonical = _CANONICAL.encode(plain)
    return hashlib.sha256(f"{task}\n{canonical}".encode()).hexdigest()[:32]
