"""Outcomes as the JSON text that scripts store, bounded; and failures as RQ's tools read them."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from heavylift.contract import limits
from heavylift.contract.outcomes import OutcomeClass
from heavylift.store.model import Json, Outcome

SMALL_EVIDENCE = 1024
"""Bytes of evidence an entry of the history keeps."""
_ROUNDS = 200
_SHORTEST = 16
_LEAD = max(len(f"cancelled; its last attempt ended as {cls}: ") for cls in OutcomeClass)
_ENCODER = json.JSONEncoder(separators=(",", ":"), default=str)


def compact(value: Any) -> str:
    """Return ASCII JSON in one line; what JSON does not know becomes text."""
    return _ENCODER.encode(value)


def bounded(value: Json, limit: int) -> Json:
    """Return the object with its longest texts cut until it is at most ``limit`` bytes of JSON."""
    if len(compact(value)) <= limit:
        return value
    work: Json = json.loads(compact(value))
    for _ in range(_ROUNDS):
        holder, key, length = _longest(work)
        if length <= _SHORTEST or holder is None:
            break
        holder[key] = holder[key][: length // 2] + "…"
        if len(compact(work)) <= limit:
            return work
    return {"cut": f"more than {limit} bytes"}


def _longest(value: Any) -> tuple[Any, Any, int]:
    """Return where the longest text stands: its container, its key and its length."""
    best: tuple[Any, Any, int] = (None, None, 0)
    stack = [value]
    while stack:
        holder = stack.pop()
        for key, item in holder.items() if isinstance(holder, dict) else enumerate(holder):
            if isinstance(item, str) and len(item) > best[2]:
                best = (holder, key, len(item))
            elif isinstance(item, dict | list):
                stack.append(item)
    return best


def size(text: str) -> int:
    """Return how many bytes of UTF-8 a text has, lone surrogates replaced."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def clip(message: str, limit: int = limits.MESSAGE_MAX) -> str:
    """Return a message of at most ``limit`` bytes of UTF-8, lone surrogates replaced."""
    if message.isascii() and len(message) <= limit:
        return message
    encoded = message.encode("utf-8", "replace")
    return encoded.decode() if len(encoded) <= limit else encoded[: limit - 3].decode("utf-8", "ignore") + "…"


def body(outcome: Outcome, *, evidence: int = limits.EVIDENCE_MAX) -> str:
    """Return ``{"class":..., "message":..., "exitCode":..., "evidence":...}``, one line, not empty."""
    return _body(outcome, compact(bounded(outcome.evidence, evidence)))


def _body(outcome: Outcome, evidence: str) -> str:
    message, code = compact(clip(outcome.message)), "null" if outcome.exit_code is None else outcome.exit_code
    return f'{{"class":"{outcome.cls.value}","message":{message},"exitCode":{code},"evidence":{evidence}}}'


def both(*outcomes: Outcome) -> list[str]:
    """Return the body of each outcome and the one its history keeps, empty = the same; all have the same evidence."""
    if not outcomes:
        return []
    evidence = small = compact(outcomes[0].evidence)
    if len(evidence) > SMALL_EVIDENCE:
        evidence = compact(bounded(outcomes[0].evidence, limits.EVIDENCE_MAX))
        small = compact(bounded(outcomes[0].evidence, SMALL_EVIDENCE))
    return [text for one in outcomes for text in (_body(one, evidence), "" if small == evidence else _body(one, small))]


def of_end(outcome: Outcome) -> list[str]:
    """Return ``both`` of an outcome, and of the one if a cancel wins: empty = the script makes it of these."""
    if _LEAD + size(outcome.message) > limits.MESSAGE_MAX:
        return both(outcome, cancelled_instead(outcome))
    return [*both(outcome), "", ""]


def cancelled_instead(outcome: Outcome) -> Outcome:
    """Return the outcome that stands when a cancel wins over this one."""
    if outcome.cls is OutcomeClass.CANCELLED:
        return outcome
    return Outcome(
        cls=OutcomeClass.CANCELLED,
        message=f"cancelled; its last attempt ended as {outcome.cls.value}: {outcome.message}",
        exit_code=outcome.exit_code,
        evidence=outcome.evidence,
    )


def exception_text(outcome: Outcome) -> str:
    """Return RQ's ``exc_string`` of a result: base64 of zlib of ``class: message``."""
    return base64.b64encode(zlib.compress(f"{outcome.cls.value}: {clip(outcome.message)}".encode())).decode()


def return_value(result: str | None) -> str:
    """Return RQ's ``return_value`` of a result: base64 of its JSON; empty for null."""
    if result is None or result.strip() == "null":
        return ""
    return base64.b64encode(result.encode()).decode()


def ends(outcomes: dict[str, Outcome]) -> str:
    """Return outcomes that a script itself may come to, by code, as one JSON argument."""
    return compact(
        {
            code: {"class": outcome.cls.value, "body": body(outcome), "exc": exception_text(outcome)}
            for code, outcome in outcomes.items()
        }
    )
