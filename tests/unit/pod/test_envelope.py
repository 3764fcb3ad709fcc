"""The envelope and plain JSON: limits kept when writing, hostile input when reading."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from heavylift.contract import envelope, limits
from heavylift.contract.envelope import Raised
from heavylift.contract.names import RESULT_LIMIT
from heavylift.contract.plain import dumps, to_plain
from heavylift.errors import InvalidPayloadError, PayloadTooLargeError

EXECUTION = "abcdefghijklmnop-7"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def _inner(**fields: Any) -> str:
    return json.dumps({"$heavylift": {"v": 1, "execution": EXECUTION, **fields}})


ANY_TEXT = st.text(alphabet=st.characters())  # lone surrogates too


@given(JSON)
def test_result_comes_back_as_it_was(value: Any) -> None:
    """What fits is read back exactly; what does not is refused, never cut."""
    try:
        text = envelope.encode_result(EXECUTION, value)
    except PayloadTooLargeError:
        assert len(json.dumps(value).encode()) > RESULT_LIMIT - 200
        return

    assert len(text.encode()) <= RESULT_LIMIT
    decoded = envelope.decode(text, EXECUTION)
    assert decoded.kind == "result"
    assert json.loads(decoded.value_json or "") == value


def test_largest_result_fills_the_limit_exactly() -> None:
    """The message's limit is the true one: one byte less fits, one more does not."""
    with pytest.raises(PayloadTooLargeError) as refused:
        envelope.encode_result(EXECUTION, "x" * RESULT_LIMIT)
    room = int(str(refused.value).split("more than the ")[1].split()[0].replace(",", ""))

    assert len(envelope.encode_result(EXECUTION, "x" * (room - 2)).encode()) == RESULT_LIMIT
    with pytest.raises(PayloadTooLargeError):
        envelope.encode_result(EXECUTION, "x" * (room - 1))


@given(ANY_TEXT, ANY_TEXT, st.integers(0, 3000))
def test_error_always_fits_and_is_read_back(message: str, trace: str, repeat: int) -> None:
    """Any texts, however long or odd, become a valid envelope within the limit."""
    text = envelope.encode_error(EXECUTION, Raised("ValueError", message * repeat, trace * repeat), no_retry=True)

    assert len(text.encode()) <= RESULT_LIMIT
    decoded = envelope.decode(text, EXECUTION)
    assert (decoded.kind, decoded.error_type, decoded.no_retry) == ("error", "ValueError", True)


def test_traceback_is_cut_before_the_message() -> None:
    """A long traceback loses its head; the message stays whole."""
    text = envelope.encode_error(EXECUTION, Raised("E", "m" * 3000, "head" + "t" * 3000 + "the end"))

    decoded = envelope.decode(text, EXECUTION)

    assert decoded.message == "m" * 3000
    assert decoded.traceback.startswith("…")
    assert decoded.traceback.endswith("the end")


@pytest.mark.parametrize(("delay_ms", "message"), [(None, ""), (600_000, ""), (1, "busy")])
def test_snooze_is_read_back(delay_ms: int | None, message: str) -> None:
    """A snooze carries its delay and what was said."""
    decoded = envelope.decode(envelope.encode_snooze(EXECUTION, delay_ms, message), EXECUTION)

    assert (decoded.kind, decoded.delay_ms, decoded.message) == ("snooze", delay_ms, message)


@pytest.mark.parametrize(
    ("message", "want_kind", "want"),
    [
        ("", "empty", ""),
        (" \n", "empty", ""),
        (_inner(checkpoint={"page": 3}), "checkpoint", ""),
        (_inner(checkpoint=[3]), "invalid", "checkpoint is not an object"),
        (_inner(checkpoint={"page": "x" * 2040}), "invalid", "a checkpoint of 2,051 bytes"),
        (_inner(checkpoint=None), "invalid", ""),
        (_inner(ok=False, snooze=True, hold="yes"), "invalid", "wrong type"),
        ('{"rows": 3}', "plain", '{"rows":3}'),
        ("null", "plain", "null"),
        ("0", "plain", "0"),
        ("Traceback (most recent call last):", "invalid", "not JSON"),
        ("[" * 4096, "invalid", "nested"),
        ("[NaN]", "invalid", "NaN"),
        ("1e999", "invalid", "no such number"),
        ('"\\ud800"', "invalid", "surrogate"),
        ('"' + "x" * 4095 + '"', "invalid", "4,097 bytes"),
        ('{"$heavylift": 1}', "invalid", "not an envelope"),
        ('{"$heavylift": {}, "more": 1}', "invalid", "not an envelope"),
        ('{"$heavylift": {"v": 2, "execution": "abcdefghijklmnop-7", "ok": true}}', "invalid", "version"),
        ('{"$heavylift": {"v": true, "execution": "abcdefghijklmnop-7", "ok": true}}', "invalid", "version"),
        ('{"$heavylift": {"v": 1, "execution": "abcdefghijklmnop-6", "ok": true}}', "invalid", "another execution"),
        ('{"$heavylift": {"v": 1, "ok": true}}', "invalid", "another execution"),
        ('{"$heavylift": {"v": 1, "execution": "abcdefghijklmnop-7", "ok": "yes"}}', "invalid", "ok is not"),
        ('{"$heavylift": {"v": 1, "execution": "abcdefghijklmnop-7", "ok": true}}', "result", "null"),
        (
            '{"$heavylift": {"v": 1, "execution": "abcdefghijklmnop-7", "ok": false, "delayMs": -1}}',
            "invalid",
            "delayMs",
        ),
        ('{"$heavylift": {"v": 1, "execution": "abcdefghijklmnop-7", "ok": false, "error": []}}', "invalid", "error"),
        (
            '{"$heavylift": {"v": 1, "execution": "abcdefghijklmnop-7", "ok": false, "error": {"type": 3}}}',
            "invalid",
            "wrong type",
        ),
    ],
)
def test_termination_message_of_any_program(message: str, want_kind: str, want: str) -> None:
    """Plain JSON, log lines, forged and broken envelopes: each is one kind, with the reason."""
    decoded = envelope.decode(message, EXECUTION)

    assert decoded.kind == want_kind
    assert want in (decoded.reason if want_kind == "invalid" else decoded.value_json or "")


@given(ANY_TEXT, ANY_TEXT, st.integers(0, 3000), st.sampled_from(["x" * 2038, "\N{SNOWMAN}" * 679, '"' * 1019]))
def test_a_checkpoint_is_never_cut(message: str, trace: str, repeat: int, kept: str) -> None:
    """The largest checkpoint and any error share the limit; the error gives way."""
    checkpoint = dumps({"k": kept}, "checkpoint")
    assert 2030 < len(checkpoint.encode()) <= limits.CHECKPOINT_MAX
    raised = Raised("E" * 300, message * repeat, trace * repeat)

    text = envelope.encode_error(EXECUTION, raised, checkpoint=checkpoint)

    assert len(text.encode()) <= RESULT_LIMIT
    assert envelope.decode(text, EXECUTION).checkpoint_json == checkpoint


@pytest.mark.parametrize(("hold", "delay"), [(True, 5000), (False, 5000), (True, None)])
def test_hold_and_checkpoint_of_a_snooze_are_read_back(hold: bool, delay: int | None) -> None:
    """A snooze may speak for its queue, and keep state."""
    text = envelope.encode_snooze(EXECUTION, delay, "busy", hold=hold, checkpoint='{"a":1}')

    decoded = envelope.decode(text, EXECUTION)

    assert (decoded.kind, decoded.hold, decoded.checkpoint_json) == ("snooze", hold, '{"a":1}')


@given(ANY_TEXT)
def test_decode_never_raises(message: str) -> None:
    """Whatever a container wrote, decoding gives an answer."""
    assert envelope.decode(message, EXECUTION).kind in {"plain", "empty", "invalid"}


def test_envelope_asking_for_years_is_capped() -> None:
    """A delay from a pod is bounded."""
    decoded = envelope.decode(envelope.encode_snooze(EXECUTION, 10**15), EXECUTION)

    assert decoded.delay_ms == envelope.DELAY_MAX_MS


@dataclasses.dataclass
class _Row:
    name: str
    points: list[float]


class _Model(BaseModel):
    at: datetime
    row: _Row


class _Pair(NamedTuple):
    left: int
    right: int


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (_Row("a", [1.5]), {"name": "a", "points": [1.5]}),
        (
            _Model(at=datetime(2026, 1, 2, tzinfo=UTC), row=_Row("b", [])),
            {"at": "2026-01-02T00:00:00Z", "row": {"name": "b", "points": []}},
        ),
        ({"pair": _Pair(1, 2), "tuple": (1, 2)}, {"pair": {"left": 1, "right": 2}, "tuple": [1, 2]}),
    ],
)
def test_structures_become_plain(value: object, want: object) -> None:
    """Dataclasses, pydantic models and named tuples become objects, also inside other values."""
    assert to_plain(value) == want


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ({"rows": [{"price": float("nan")}]}, "data.rows[0].price is nan"),
        ({"rows": [{"price": float("-inf")}]}, "data.rows[0].price is -inf"),
        ({"name": "\ud800"}, "data.name holds a lone surrogate"),
        ({"a": {"\udfff": 1}}, "a key of data.a holds a lone surrogate"),
        ({"a": {1: 2}}, "data.a has the key 1: keys must be text"),
        ({"when": datetime(2026, 1, 2, tzinfo=UTC)}, "data.when is a datetime, which JSON cannot hold: pass value."),
        ({"raw": b"x"}, "data.raw is a bytes, which JSON cannot hold: pass base64 text"),
        ({"s": {1, 2}}, "data.s is a set"),
        ({"p": Path("x")}, "data.p is a PosixPath, which JSON cannot hold: pass str(value)"),
        ({"o": object()}, "data.o is a object"),
        ({"cls": _Row}, "data.cls is a type"),
        ({"n": 10**400}, "data.n is an integer of 1329 bits"),
    ],
)
def test_what_json_cannot_hold_is_named_by_its_path(value: object, want: str) -> None:
    """The first bad value is named by path and type, with what to pass instead."""
    with pytest.raises(InvalidPayloadError) as refused:
        to_plain(value)

    assert want in str(refused.value)


def test_cycle_and_depth_are_bounded() -> None:
    """A value that holds itself is refused as too deep, not by the interpreter's stack."""
    cycle: list[Any] = []
    cycle.append(cycle)

    with pytest.raises(InvalidPayloadError, match="nested deeper than 64 levels"):
        to_plain(cycle)
