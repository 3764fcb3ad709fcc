"""The envelope: what ``heavylift run`` leaves in the result file, and what any program's result file can mean.

```json
{"$heavylift": {"v": 1, "execution": "<id>", "ok": true, "result": ...}}
{"$heavylift": {"v": 1, "execution": "<id>", "ok": false, "error": {"type": "", "message": "", "traceback": ""},
                "noRetry": true, "delayMs": 120000}}
{"$heavylift": {"v": 1, "execution": "<id>", "ok": false, "snooze": true, "delayMs": 600000, "hold": true}}
{"$heavylift": {"v": 1, "execution": "<id>", "checkpoint": {"page": 17}}}
```
The last one, without ``ok``, is left while the program still works; any that is not ok can carry a ``checkpoint`` too.
Never more than names.RESULT_LIMIT bytes of UTF-8: the kubelet cuts what is longer. It counts only with the right
execution; programs in other languages may write plain JSON instead. Everything decoded here is hostile input.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from heavylift.contract import limits
from heavylift.contract.names import RESULT_LIMIT
from heavylift.contract.plain import dumps
from heavylift.errors import InvalidPayloadError, PayloadTooLargeError

KEY = "$heavylift"
VERSION = 1
DELAY_MAX_MS = 30 * 24 * 3_600_000
"""The longest delay an envelope may ask for: 30 days."""
_TYPE_MAX = 200
_SURROGATE = re.compile("[\ud800-\udfff]")
_FIELDS = {"v", "execution", "ok", "result", "error", "noRetry", "delayMs", "snooze", "hold", "checkpoint"}

Kind = Literal["result", "error", "snooze", "checkpoint", "plain", "empty", "invalid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What a result file says."""

    kind: Kind
    """``result`` | ``error`` | ``snooze``: an envelope of this execution; ``checkpoint``: one that only keeps state;
    ``plain``: JSON of a program without envelopes; ``empty``; ``invalid``: neither, see ``reason``."""
    value_json: str | None = None
    """Compact JSON of the result (``result`` and ``plain``)."""
    error_type: str = ""
    message: str = ""
    traceback: str = ""
    no_retry: bool = False
    delay_ms: int | None = None
    """Wait this long before the next start; None = the queue's rule decides."""
    hold: bool = False
    """``snooze``: hold the whole queue back for ``delay_ms``."""
    checkpoint_json: str | None = None
    """Compact JSON of an object, at most limits.CHECKPOINT_MAX bytes, for the next attempt."""
    reason: str = ""
    """Why it is ``invalid``."""


# -- writing ----------------------------------------------------------------------------------------------------------
def encode_result(execution: str, value: Any) -> str:
    """Return the envelope of a result.

    Raises:
        InvalidPayloadError: the value is not plain JSON; the message starts with the path, for example ``result[2]``.
        PayloadTooLargeError: it does not fit; the message says to return a reference.
    """
    inner = {"v": VERSION, "execution": execution, "ok": True}
    head = _dumps({KEY: inner})[:-2]
    text = dumps(value, "result")
    room = RESULT_LIMIT - _size(head) - len(',"result":}}')
    if _size(text) > room:
        raise PayloadTooLargeError(
            f"the result is {_size(text):,} bytes of JSON, more than the {room:,} a result may have: store it "
            "elsewhere and return a reference (URL, object key, path)"
        )
    return f'{head},"result":{text}}}}}'


@dataclass(frozen=True, slots=True)
class Raised:
    """What a program says of its failure."""

    type: str
    """The error's type, for example ``ValueError``."""
    message: str
    traceback: str = ""
    """Its end is kept, because the end names the error."""


def encode_error(
    execution: str,
    raised: Raised,
    *,
    no_retry: bool = False,
    delay_ms: int | None = None,
    checkpoint: str | None = None,
) -> str:
    """Return the envelope of a typed error; what does not fit is cut: the traceback's head first, then the message.

    Args:
        execution: the execution's id.
        raised: what went wrong.
        no_retry: another attempt would end the same way.
        delay_ms: wait this long before the next attempt.
        checkpoint: JSON of an object within limits.CHECKPOINT_MAX; never cut.
    """
    error = {
        "type": _clean(raised.type)[:_TYPE_MAX],
        "message": _clean(raised.message),
        "traceback": _clean(raised.traceback),
    }
    inner: dict[str, Any] = {"v": VERSION, "execution": execution, "ok": False, "error": error}
    if no_retry:
        inner["noRetry"] = True
    if delay_ms is not None:
        inner["delayMs"] = delay_ms
    _keep(inner, checkpoint)
    return _fit({KEY: inner}, error)


def encode_snooze(
    execution: str,
    delay_ms: int | None = None,
    message: str = "",
    *,
    hold: bool = False,
    checkpoint: str | None = None,
) -> str:
    """Return the envelope of a snooze: run again after ``delay_ms`` (None = the default), spend no attempt.

    Args:
        execution: the execution's id.
        delay_ms: not before.
        message: why.
        hold: let the whole queue wait, too.
        checkpoint: as of ``encode_error``.
    """
    inner: dict[str, Any] = {"v": VERSION, "execution": execution, "ok": False, "snooze": True}
    if delay_ms is not None:
        inner["delayMs"] = delay_ms
    if hold:
        inner["hold"] = True
    _keep(inner, checkpoint)
    if not message:
        return _dumps({KEY: inner})
    error = inner["error"] = {"type": "Snooze", "message": _clean(message), "traceback": ""}
    return _fit({KEY: inner}, error)


def encode_checkpoint(execution: str, checkpoint: str) -> str:
    """Return the envelope of a checkpoint (JSON of an object within limits.CHECKPOINT_MAX) of work that goes on."""
    head = _dumps({KEY: {"v": VERSION, "execution": execution}})[:-2]
    return f'{head},"checkpoint":{checkpoint}}}}}'


def _keep(inner: dict[str, Any], checkpoint: str | None) -> None:
    if checkpoint is not None:
        inner["checkpoint"] = json.loads(checkpoint)


def _fit(whole: dict[str, Any], error: dict[str, str]) -> str:
    for field, keep_end in (("traceback", True), ("message", False)):
        text = error[field]
        low, high = 0, len(text)
        while low < high:  # the longest piece that fits, by bisection: escapes make bytes and characters differ
            middle = (low + high + 1) // 2
            error[field] = _piece(text, middle, keep_end=keep_end)
            low, high = (middle, high) if _size(_dumps(whole)) <= RESULT_LIMIT else (low, middle - 1)
        error[field] = _piece(text, low, keep_end=keep_end)
        if low:
            break
    return _dumps(whole)


def _piece(text: str, length: int, *, keep_end: bool) -> str:
    if length >= len(text):
        return text
    if length == 0:
        return ""
    return "…" + text[len(text) - length + 1 :] if keep_end else text[: length - 1] + "…"


def _clean(text: str) -> str:
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _size(text: str) -> int:
    return len(text.encode())


# -- reading ----------------------------------------------------------------------------------------------------------
class _MalformedError(Exception):
    """The message says what is wrong; never leaves this module."""


def decode(message: str, execution: str) -> Envelope:
    """Return what a termination message says; never raises.

    Args:
        message: the container's termination message as Kubernetes reports it: a program's own words, or log lines.
        execution: the execution whose pod it is; an envelope of another one is ``invalid``.
    """
    if not message.strip():
        return Envelope(kind="empty")
    try:
        value = _parse(message)
        if isinstance(value, dict) and KEY in value:
            return _envelope(value, execution)
        return Envelope(kind="plain", value_json=dumps(value, "result"))
    except _MalformedError as error:
        return Envelope(kind="invalid", reason=str(error))
    except InvalidPayloadError as error:
        return Envelope(kind="invalid", reason=str(error))


def _parse(message: str) -> Any:
    size = len(message.encode("utf-8", "surrogatepass"))
    if size > RESULT_LIMIT:
        raise _MalformedError(f"{size:,} bytes, more than the {RESULT_LIMIT:,} a result may have")
    try:
        return json.loads(message, parse_constant=_constant)
    except RecursionError:
        raise _MalformedError(f"nested deeper than {limits.JSON_DEPTH} levels") from None
    except ValueError as error:
        raise _MalformedError(f"not JSON: {error}") from None


def _constant(name: str) -> NoReturn:
    raise _MalformedError(f"not JSON: {name} is no number there")


def _envelope(value: dict[str, Any], execution: str) -> Envelope:
    inner = value[KEY]
    if len(value) != 1 or not isinstance(inner, dict) or not inner.keys() <= _FIELDS:
        raise _MalformedError("not an envelope: fields that do not belong there")
    if inner.get("v") != VERSION or isinstance(inner["v"], bool):
        raise _MalformedError(f"an envelope of another version than {VERSION}")
    if inner.get("execution") != execution:
        raise _MalformedError("an envelope of another execution")
    ok = inner.get("ok")
    if "ok" not in inner and inner.get("checkpoint") is not None:
        return Envelope(kind="checkpoint", checkpoint_json=_checkpoint(inner))
    if not isinstance(ok, bool):
        raise _MalformedError("not an envelope: ok is not true or false")
    if ok:
        return Envelope(kind="result", value_json=dumps(inner.get("result"), "result"))
    return _not_ok(inner)


def _not_ok(inner: dict[str, Any]) -> Envelope:
    error = inner.get("error", {})
    if not isinstance(error, dict):
        raise _MalformedError("not an envelope: error is not an object")
    texts = [error.get(name, "") for name in ("type", "message", "traceback")]
    flags = [inner.get(name, False) for name in ("noRetry", "snooze", "hold")]
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(flag, bool) for flag in flags):
        raise _MalformedError("not an envelope: a field of the wrong type")
    no_retry, snooze, hold = flags
    return Envelope(
        kind="snooze" if snooze else "error",
        error_type=_clean(texts[0])[:_TYPE_MAX],
        message=_clean(texts[1]),
        traceback=_clean(texts[2]),
        no_retry=no_retry and not snooze,
        delay_ms=_delay(inner.get("delayMs")),
        hold=hold and snooze,
        checkpoint_json=_checkpoint(inner),
    )


def _checkpoint(inner: dict[str, Any]) -> str | None:
    state = inner.get("checkpoint")
    if state is None:
        return None
    if not isinstance(state, dict):
        raise _MalformedError("not an envelope: checkpoint is not an object")
    text = dumps(state, "checkpoint")
    if _size(text) > limits.CHECKPOINT_MAX:
        raise _MalformedError(
            f"a checkpoint of {_size(text):,} bytes, more than the {limits.CHECKPOINT_MAX:,} it may have"
        )
    return text


def _delay(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _MalformedError("not an envelope: delayMs is not a whole number of milliseconds")
    return min(value, DELAY_MAX_MS)
