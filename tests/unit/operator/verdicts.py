"""Classification, with the kind of verdict insisted on."""

from __future__ import annotations

from typing import Any

from heavylift_operator.core.classify import Asked, classify
from heavylift_operator.core.evidence import Evidence
from heavylift_operator.core.outcome import Ended, Underway
from tests.unit.operator.objects import EXECUTION, T0

NOW = T0 + 40_000


def ended(seen: Evidence, **asked: Any) -> Ended:
    """Classify and insist on an end."""
    found = classify(seen, Asked(execution=EXECUTION, now=NOW, **asked))
    assert isinstance(found, Ended), found
    return found


def underway(seen: Evidence, **asked: Any) -> Underway:
    """Classify and insist on no end."""
    found = classify(seen, Asked(execution=EXECUTION, now=asked.pop("now", NOW), **asked))
    assert isinstance(found, Underway), found
    return found
