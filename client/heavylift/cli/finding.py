"""What a check of ``heavylift doctor`` found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked thing."""

    check: str
    level: Level
    message: str
    """What was seen; with what to do unless all is well."""
