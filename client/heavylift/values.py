"""JSON values held against Python types, and made into them; standard library only."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import cache
from pathlib import Path, PurePath
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin
from uuid import UUID

from heavylift.contract.durations import to_ms
from heavylift.contract.plain import dumps
from heavylift.errors import InvalidPayloadError

_LISTS = (list, Sequence, MutableSequence, Iterable, Collection)
_SETS = (set, frozenset, AbstractSet)
_MAPPINGS = (dict, Mapping, MutableMapping)
_SHOWN = 60


# -- annotations ------------------------------------------------------------------------------------------------------
def resolve(annotations: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """Return annotations as types; one that cannot be resolved (imported for type checkers only) becomes Any.

    Args:
        annotations: name -> annotation, text where evaluation is postponed.
        names: the globals they were written among.
    """
    found = {}
    for name, annotation in annotations.items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found[name] = typing.get_type_hints(holder, dict(names), include_extras=True)[name]
        except Exception:  # noqa: BLE001 - an annotation is any expression of the user's
            found[name] = Any
    return found


def fields_of(kind: Any) -> Collection[str] | None:
    """Return the names of a model's fields; None when ``kind`` is no dataclass, TypedDict or pydantic model."""
    if not isinstance(kind, type):
        return None
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind) if field.init]
    if typing.is_typeddict(kind):
        return list(kind.__annotations__)
    known = getattr(kind, "model_fields", None) if hasattr(kind, "model_validate_json") else None
    return list(known) if isinstance(known, Mapping) else None


@cache
def _types_of(kind: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        module = sys.modules.get(base.__module__)
        found |= resolve(inspect.get_annotations(base), vars(module) if module else {})
    if typing.is_typeddict(kind):  # its bases are not among its mro
        module = sys.modules.get(kind.__module__)
        found |= resolve(kind.__annotations__, vars(module) if module else {})
    return found


# -- towards JSON -----------------------------------------------------------------------------------------------------
def simple(value: Any) -> Any:
    """Return a value with what JSON lacks spelled as ``convert`` reads it: times, UUIDs, decimals, paths, enums ..."""
    if isinstance(value, Enum):
        return simple(value.value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID | Decimal | PurePath):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {key: simple(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((simple(item) for item in value), key=repr)
    if isinstance(value, list | tuple) and not hasattr(value, "_asdict"):
        return [simple(item) for item in value]
    if hasattr(value, "model_validate_json") and not isinstance(value, type):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)  # so that it is valid input again
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: simple(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


# -- from JSON --------------------------------------------------------------------------------------------------------
def convert(value: Any, kind: Any, where: str) -> Any:
    """Return a JSON value as the type an annotation asks for.

    Args:
        value: plain JSON.
        kind: the annotation, resolved; what is not known here (any class of the user's) takes the value as it is.
        where: the value's path for messages, for example ``data.rows[3].price``.

    Raises:
        InvalidPayloadError: it is no such value; the message starts with the path.
    """
    if kind is Any or kind is object or isinstance(kind, TypeVar | str):
        return value
    if kind is None or kind is type(None):
        return value if value is None else _refuse(value, where, "null")
    origin = get_origin(kind)
    if origin is Union or origin is types.UnionType:
        return _any_of(value, kind, where)
    if origin is Literal:
        return _literal(value, kind, where)
    if hasattr(kind, "__supertype__"):  # a NewType
        return convert(value, kind.__supertype__, where)
    if origin is not None and not isinstance(origin, type):  # Annotated, Required, NotRequired, Final
        return convert(value, get_args(kind)[0], where) if get_args(kind) else value
    base = origin or kind
    if base in _SCALARS:
        return _SCALARS[base](value, where)
    if base in _LISTS or base in _SETS or base is tuple or base in _MAPPINGS:
        return _container(value, base, get_args(kind), where)
    return _structure(value, base, where) if isinstance(base, type) else value


def _refuse(value: Any, where: str, wanted: str) -> NoReturn:
    shown = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    text = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
    raise InvalidPayloadError(f"{where[:200]} is {text}: give {wanted}")


def _any_of(value: Any, kind: Any, where: str) -> Any:
    reasons = []
    options = sorted(get_args(kind), key=lambda option: option is not type(value))  # int before float for 1, and so on
    for option in options:
        try:
            return convert(value, option, where)
        except InvalidPayloadError as error:
            reasons.append(str(error))
    if len(reasons) == 2 and type(None) in options:  # noqa: PLR2004 - Optional: the other one says it
        raise InvalidPayloadError(reasons[0] if options[1] is type(None) else reasons[1])
    raise InvalidPayloadError("; or ".join(reasons))


def _literal(value: Any, kind: Any, where: str) -> Any:
    for option in get_args(kind):
        plain = option.value if isinstance(option, Enum) else option
        if type(plain) is type(value) and plain == value:
            return option
    return _refuse(value, where, "one of " + ", ".join(repr(option) for option in get_args(kind)))


def _container(value: Any, base: Any, inner: tuple[Any, ...], where: str) -> Any:
    if base in _MAPPINGS:
        if not isinstance(value, dict):
            return _refuse(value, where, "an object")
        keys, items = inner if len(inner) == 2 else (Any, Any)  # noqa: PLR2004 - key and value
        return {convert(k, keys, f"a key of {where}"): convert(v, items, f"{where}.{k[:40]}") for k, v in value.items()}
    if not isinstance(value, list):
        return _refuse(value, where, "a list")
    if base is tuple and inner and inner[-1] is not Ellipsis:
        if len(value) != len(inner):
            return _refuse(value, where, f"a list of {len(inner)}")
        return tuple(convert(v, kind, f"{where}[{i}]") for i, (v, kind) in enumerate(zip(value, inner, strict=True)))
    made = [convert(item, inner[0] if inner else Any, f"{where}[{index}]") for index, item in enumerate(value)]
    if base is tuple:
        return tuple(made)
    if base not in _SETS:
        return made
    return frozenset(made) if base is frozenset else set(made)


def _structure(value: Any, kind: Any, where: str) -> Any:
    if issubclass(kind, Enum):
        return _parsed(kind, value, where, "one of " + ", ".join(repr(member.value) for member in kind))
    known = fields_of(kind)
    if known is None or isinstance(value, kind if not typing.is_typeddict(kind) else ()):
        return value
    if not isinstance(value, dict):
        return _refuse(value, where, f"an object with {', '.join(known) or 'no fields'}")
    if hasattr(kind, "model_validate_json"):
        return _model(value, kind, where)
    made_there = _computed(kind)
    extra = [key for key in value if key not in known and key not in made_there]
    if extra:
        raise InvalidPayloadError(f"{where[:200]}.{extra[0][:40]} is not known: {kind.__name__} has {', '.join(known)}")
    for name in _required(kind):
        if name not in value:
            raise InvalidPayloadError(f"{where[:200]}.{name} is missing")
    inner = _types_of(kind)
    given = {key: item for key, item in value.items() if key in known}
    made = {key: convert(item, inner.get(key, Any), f"{where}.{key}") for key, item in given.items()}
    if typing.is_typeddict(kind):
        return made
    try:
        return kind(**made)
    except (TypeError, ValueError) as error:
        raise InvalidPayloadError(f"{where[:200]}: {error}") from None


def _computed(kind: Any) -> Collection[str]:
    """Return a dataclass's fields that it makes itself: a dump has them, its constructor does not take them."""
    return (
        [field.name for field in dataclasses.fields(kind) if not field.init] if dataclasses.is_dataclass(kind) else ()
    )


def _required(kind: Any) -> Collection[str]:
    if typing.is_typeddict(kind):  # __required_keys__ knows nothing of marks in postponed annotations
        marks = {name: get_origin(found) for name, found in _types_of(kind).items()}
        wanted = {name for name in marks if name in kind.__required_keys__ or marks[name] is typing.Required}
        return sorted(name for name in wanted if marks[name] is not typing.NotRequired)
    missing = dataclasses.MISSING
    return [
        field.name
        for field in dataclasses.fields(kind)
        if field.init and field.default is missing and field.default_factory is missing
    ]


def _model(value: dict[str, Any], kind: Any, where: str) -> Any:
    """Let a pydantic model judge; its errors are told by our paths."""
    try:
        return kind.model_validate_json(dumps(value, where))
    except ValueError as error:
        listed = error.errors() if hasattr(error, "errors") else []
        said = [where + "".join(_step(part) for part in one["loc"]) + f": {one['msg']}" for one in listed[:5]]
        raise InvalidPayloadError("; ".join(said) or f"{where}: {error}") from None


def _step(part: object) -> str:
    return f"[{part}]" if isinstance(part, int) else f".{part}"


# -- scalars ----------------------------------------------------------------------------------------------------------
def _text(value: Any, where: str) -> str:
    return value if isinstance(value, str) else _refuse(value, where, "text")


def _bool(value: Any, where: str) -> bool:
    return value if isinstance(value, bool) else _refuse(value, where, "true or false")


def _int(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return _refuse(value, where, "a whole number")


def _float(value: Any, where: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return _refuse(value, where, "a number")


def _timedelta(value: Any, where: str) -> timedelta:
    try:
        return timedelta(milliseconds=to_ms(value))
    except (TypeError, ValueError, OverflowError):
        return _refuse(value, where, "a duration: seconds, or text like 90s or 1h30m")


def _from_text(make: Callable[[str], Any], wanted: str) -> Callable[[Any, str], Any]:
    def parse(value: Any, where: str) -> Any:
        return _parsed(make, value, where, wanted) if isinstance(value, str) else _refuse(value, where, wanted)

    return parse


def _parsed(make: Callable[[Any], Any], value: Any, where: str, wanted: str) -> Any:
    try:
        return make(value)
    except (ValueError, TypeError, InvalidOperation):
        return _refuse(value, where, wanted)


def _decimal(value: Any, where: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return _refuse(value, where, "a decimal number")
    made: Decimal = _parsed(Decimal, str(value), where, "a decimal number")
    return made


_SCALARS: dict[Any, Callable[[Any, str], Any]] = {
    str: _text,
    bool: _bool,
    int: _int,
    float: _float,
    timedelta: _timedelta,
    Decimal: _decimal,
    datetime: _from_text(datetime.fromisoformat, "a time like 2026-01-31T09:00:00Z"),
    date: _from_text(date.fromisoformat, "a date like 2026-01-31"),
    time: _from_text(time.fromisoformat, "a time of day like 09:30:00"),
    UUID: _from_text(UUID, "a UUID"),
    Path: _from_text(Path, "a path"),
    PurePath: _from_text(PurePath, "a path"),
}
