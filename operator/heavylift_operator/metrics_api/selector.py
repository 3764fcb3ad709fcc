"""Label selectors, the grammar of ``k8s.io/apimachinery/pkg/labels`` in full; pure.

``a=b``, ``a==b``, ``a!=b``, ``a in (b, c)``, ``a notin (b)``, ``a``, ``!a``, ``a>1``, ``a<1``, all joined by commas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from typing_extensions import override

from heavylift.errors import InvalidInputError

_TOKEN: Final = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^=!(),<> \t\r\n]+)")
_BLANK: Final = re.compile(r"[ \t\r\n]*")
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_WHOLE: Final = re.compile(r"[0-9]+")
_PREFIX_MAX: Final = 253
_INT64_MAX: Final = 2**63 - 1
TEXT_MAX: Final = 8_000
_END: Final = ""


class InvalidSelectorError(InvalidInputError):
    """Not a label selector; the message says where it stops being one."""


class Operator(StrEnum):
    """What a requirement asks of a label."""

    EQUALS = "="
    NOT_EQUALS = "!="
    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    ABSENT = "!"
    GREATER = ">"
    LESS = "<"


_NEGATIVE: Final = {Operator.NOT_EQUALS, Operator.NOT_IN}
_OPERATORS: Final = {
    "=": Operator.EQUALS,
    "==": Operator.EQUALS,
    "!=": Operator.NOT_EQUALS,
    "in": Operator.IN,
    "notin": Operator.NOT_IN,
    ">": Operator.GREATER,
    "<": Operator.LESS,
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One part of a selector."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the labels meet it; a label that is not there meets ``!=``, ``notin`` and ``!``."""
        held = labels.get(self.key)
        match self.operator:
            case Operator.EXISTS:
                return held is not None
            case Operator.ABSENT:
                return held is None
            case Operator.NOT_EQUALS | Operator.NOT_IN:
                return held is None or held not in self.values
            case Operator.GREATER | Operator.LESS:
                return self._compares(held)
            case _:
                return held is not None and held in self.values

    def _compares(self, held: str | None) -> bool:
        if held is None or not _WHOLE.fullmatch(held) or int(held) > _INT64_MAX:
            return False
        (bound,) = (int(value) for value in self.values)
        return int(held) > bound if self.operator is Operator.GREATER else int(held) < bound

    @override
    def __str__(self) -> str:
        values = ",".join(sorted(self.values))
        match self.operator:
            case Operator.EXISTS:
                return self.key
            case Operator.ABSENT:
                return f"!{self.key}"
            case Operator.IN | Operator.NOT_IN:
                return f"{self.key} {self.operator} ({values})"
            case _:
                return f"{self.key}{self.operator}{values}"


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that all must be met; none = everything matches."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the labels meet every requirement."""
        return all(one.matches(labels) for one in self.requirements)

    @override
    def __str__(self) -> str:
        return ",".join(str(one) for one in self.requirements)


def parse(text: str) -> Selector:
    """Return the selector a text writes; blank = everything.

    Raises:
        InvalidSelectorError: it is none, or longer than 8,000 characters.
    """
    if len(text) > TEXT_MAX:
        raise InvalidSelectorError(f"the selector has {len(text)} characters: at most {TEXT_MAX} are read")
    return Selector(tuple(_Parser(_tokens(text)).requirements()))


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while match := _TOKEN.match(text, at):
        found.append(match[1])
        at = match.end()
    assert _BLANK.fullmatch(text, at)  # noqa: S101 - every other character begins a token
    return found


class _Parser:
    """Reads tokens from left to right; ``in`` and ``notin`` are words only where an operator may stand."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self._at = tokens, 0

    def requirements(self) -> list[Requirement]:
        """Return all requirements."""
        found: list[Requirement] = []
        while self._peek() != _END:
            found.append(self._requirement())
            separator = self._take()
            if separator == _END:
                break
            if separator != ",":
                raise _unexpected(separator, "',' or the end")
            if not (_is_word(self._peek()) or self._peek() == "!"):
                raise _unexpected(self._peek(), "a key after ','")
        return found

    def _requirement(self) -> Requirement:
        absent = self._peek() == "!"
        if absent:
            self._take()
        key = _checked_key(self._word("a key"))
        if absent:
            return Requirement(key, Operator.ABSENT)
        if self._peek() in {_END, ","}:
            return Requirement(key, Operator.EXISTS)
        written = self._take()
        operator = _OPERATORS.get(written)
        if operator is None:
            raise _unexpected(written, "one of = == != in notin < >")
        listed = operator in {Operator.IN, Operator.NOT_IN}
        values = self._list() if listed else [self._exact()]
        for value in values:
            _check_value(key, value)
        if operator in {Operator.GREATER, Operator.LESS} and not _is_int64(values[0]):
            raise InvalidSelectorError(f"{values[0][:80]!r} is no whole number: {operator} compares numbers")
        return Requirement(key, operator, frozenset(values))

    def _exact(self) -> str:
        """Return one value; nothing there is the empty value."""
        return "" if self._peek() in {_END, ","} else self._word("a value")

    def _list(self) -> list[str]:
        """Return the values in brackets; nothing before a comma or bracket stands for the empty value."""
        if (first := self._take()) != "(":
            raise _unexpected(first, "'('")
        values = [self._listed()]
        while (mark := self._take()) == ",":
            values.append(self._listed())
        if mark != ")":
            raise _unexpected(mark, "',' or ')'")
        return values

    def _listed(self) -> str:
        return "" if self._peek() in {",", ")"} else self._word("a value")

    def _word(self, wanted: str) -> str:
        token = self._take()
        if not _is_word(token):
            raise _unexpected(token, wanted)
        return token

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token


def _is_word(token: str) -> bool:
    return token != _END and token[0] not in "=!(),<>"


def _is_int64(value: str) -> bool:
    return _WHOLE.fullmatch(value) is not None and int(value) <= _INT64_MAX


def _unexpected(token: str, wanted: str) -> InvalidSelectorError:
    found = repr(token[:80]) if token else "the end"
    return InvalidSelectorError(f"found {found}, expected {wanted}")


def _checked_key(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    fits = not slash or (len(prefix) <= _PREFIX_MAX and _PREFIX.fullmatch(prefix) is not None)
    if not fits or not _NAME.fullmatch(name):
        raise InvalidSelectorError(
            f"{key[:80]!r} is no label key: a name of at most 63 letters, digits, '-', '_' and '.', "
            "which may follow a DNS name and '/'"
        )
    return key


def _check_value(key: str, value: str) -> None:
    if value and not _NAME.fullmatch(value):
        raise InvalidSelectorError(
            f"{value[:80]!r} is no value of the label {key[:80]}: at most 63 letters, digits, '-', '_' and '.', "
            "with a letter or digit at both ends"
        )
