"""The payload's strict coding."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.contract import limits, payload
from heavylift.contract.names import OUTSIDE_POD_FUNC
from heavylift.errors import InvalidPayloadError, PayloadTooLargeError

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


def _rq(value: Any) -> bytes:
    return zlib.compress(json.dumps(value).encode())


@given(data=_JSON)
def test_what_is_encoded_is_decoded(data: Any) -> None:
    """Every plain JSON value comes back as it was given."""
    got = payload.decode(payload.encode("annual", data))
    assert (got.task, json.loads(got.data_json), got.plain) == ("annual", data, False)


def test_plain_rq_becomes_args_and_kwargs() -> None:
    """A call by RQ's own client is its function's path with args and kwargs as data."""
    got = payload.decode(_rq(["app.report", None, [1, "x"], {"year": 2026}]))
    assert (got.task, json.loads(got.data_json), got.plain) == (
        "app.report",
        {"args": [1, "x"], "kwargs": {"year": 2026}},
        True,
    )


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\x00garbage", id="not zlib"),
        pytest.param(_rq(["f", None, [], {}])[:-3], id="zlib cut short"),
        pytest.param(_rq(["f", None, [], {}]) + b"more", id="zlib with a tail"),
        pytest.param(zlib.compress(b"{nope"), id="not json"),
        pytest.param(zlib.compress(b"\xff\xfe"), id="not utf-8"),
        pytest.param(_rq({"func": "f"}), id="object"),
        pytest.param(_rq(["f", None, []]), id="three parts"),
        pytest.param(_rq([None, None, [], {}]), id="func null"),
        pytest.param(_rq([7, None, [], {}]), id="func a number"),
        pytest.param(_rq(["f", {"x": 1}, [], {}]), id="instance"),
        pytest.param(_rq(["f", None, {}, {}]), id="args an object"),
        pytest.param(_rq(["f", None, [], []]), id="kwargs a list"),
        pytest.param(_rq([OUTSIDE_POD_FUNC, None, ["only task"], {}]), id="ours without data"),
        pytest.param(_rq([OUTSIDE_POD_FUNC, None, [1, {}], {}]), id="ours with a number as task"),
        pytest.param(_rq(["rm -rf /; $(x)", None, [], {}]), id="task with shell characters"),
        pytest.param(zlib.compress(b'["f",null,[NaN],{}]'), id="NaN"),
        pytest.param(zlib.compress(b'["f",null,[1e999],{}]'), id="infinite"),
        pytest.param(zlib.compress(b'["f",null,["\\ud800"],{}]'), id="lone surrogate"),
        pytest.param(zlib.compress(b'["f",null,[],{"a":1,"a":2}]'), id="key twice"),
        pytest.param(zlib.compress(b'["f",null,' + b"[" * 100 + b"]" * 100 + b",{}]"), id="deep"),
        pytest.param(zlib.compress(b'["f",null,' + b"[" * 100_000 + b"]" * 100_000 + b",{}]"), id="very deep"),
        pytest.param(zlib.compress(b'["f",null,[' + b"9" * 5000 + b"],{}]"), id="huge number"),
    ],
)
def test_bad_payload_is_refused(raw: bytes) -> None:
    """Whatever is not such a payload is refused by its own error."""
    with pytest.raises(InvalidPayloadError):
        payload.decode(raw)


def test_pickle_is_refused_with_the_remedy() -> None:
    """Pickled bytes are named, with what to do, and never read."""
    with pytest.raises(InvalidPayloadError, match="JSONSerializer"):
        payload.decode(zlib.compress(b"\x80\x05cposix\nsystem\n."))


def test_bomb_is_refused() -> None:
    """A small field that inflates to much is refused, and no more of it than the limit is ever inflated."""
    bomb = zlib.compress(b"[" + b" " * 50_000_000)
    assert len(bomb) < limits.STORED_MAX
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLargeError, match="inflates"):
            payload.decode(bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 * limits.INFLATED_MAX


def test_size_limits() -> None:
    """Data over the limit is refused when encoded and when decoded, a stored field over its limit unread."""
    with pytest.raises(PayloadTooLargeError, match="reference"):
        payload.encode("t", "x" * limits.PAYLOAD_DEFAULT)
    raw = payload.encode("t", "x" * 1000)
    with pytest.raises(PayloadTooLargeError):
        payload.decode(raw, max_size=1000)
    with pytest.raises(PayloadTooLargeError, match="stored"):
        payload.decode(b"x" * (limits.STORED_MAX + 1))


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"a": [1, {2, 3}]}, r"data\.a\[1\] is a set"),
        ({"a": {1: 2}}, "keys must be text"),
        ({"a": float("nan")}, r"data\.a is nan"),
        (["\ud800"], "surrogate"),
        (b"bytes", "bytes"),
    ],
)
def test_encode_names_the_bad_value(data: Any, where: str) -> None:
    """A value that JSON cannot carry is named by its path."""
    with pytest.raises(InvalidPayloadError, match=where):
        payload.encode("t", data)


def test_shared_structure_does_not_explode() -> None:
    """A small object graph whose JSON would be huge is refused early."""
    value: Any = "x"
    for _ in range(40):
        value = [value, value]
    with pytest.raises(PayloadTooLargeError):
        payload.encode("t", value)


def test_fingerprint_ignores_key_order() -> None:
    """The same data in another order of keys has the same fingerprint; other data or tasks have another."""
    one = payload.fingerprint("t", '{"a":1,"b":2}')
    assert one == payload.fingerprint("t", '{ "b": 2, "a": 1 }')
    assert len({one, payload.fingerprint("u", '{"a":1,"b":2}'), payload.fingerprint("t", '{"a":1}')}) == 3
