"""What is read of any custom resource of ours, sound or not; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from heavylift.errors import HeavyliftError

P = TypeVar("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Object(Generic[P]):
    """One object as it stands in the cluster."""

    namespace: str
    name: str
    uid: str
    generation: int
    parsed: P | None
    """None = it is not sound."""
    error: str = ""
    """What is wrong with it, and the remedy."""
    status: Mapping[str, Any]
    """As it stands in the cluster."""


def parsed(parse: Callable[[Mapping[str, Any]], P], obj: Mapping[str, Any]) -> tuple[P | None, str]:
    """Return the parsed object, or what is wrong with it; never raises for one that is not sound."""
    try:
        return parse(obj), ""
    except HeavyliftError as problem:
        return None, str(problem)
