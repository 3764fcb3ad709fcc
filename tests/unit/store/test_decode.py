"""JSON from Redis: what of it is taken, and what it becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift.contract import limits
from heavylift.contract.names import UNREADABLE
from heavylift.store import decode


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a":1}', {"a": 1}),
        ("NaN", None),
        ("[1e400,-Infinity,1.5]", [None, None, 1.5]),
        ('{"\\ud800":["\\udfff",{"x":"\\ud83d\\ude00"}]}', {"\ufffd": ["\ufffd", {"x": "\U0001f600"}]}),
        (b'"\xff"', "\ufffd"),
        ("0x5", None),
        ("9" * 5000, None),
        ("[" * 100_000, None),
        ("", None),
        (None, None),
    ],
)
def test_json_is_made_harmless(text: Any, found: Any) -> None:
    """What no stream takes and no sum can hold becomes a replacement; what is no JSON is nothing."""
    assert decode.parsed(text) == found


@pytest.mark.parametrize(("open_", "close"), [("[", "]"), ('{"a":', "}")])
def test_what_nests_too_deep_is_nothing(open_: str, close: str) -> None:
    """Everything that is taken can be written again and shown, from whatever depth of calls."""
    most = 2 * limits.JSON_DEPTH
    within = (open_ * most + "1" + close * most).replace("[1]", "[]")
    assert json.dumps(decode.parsed(within), separators=(",", ":")) == within
    assert decode.parsed(open_ * (most + 1) + "1" + close * (most + 1)) is None
    assert decode.parsed("[" + "[]," * 500 + "[]]") == [[]] * 501


@pytest.mark.parametrize(
    ("score", "found"), [(b"5", 5), (b"inf", 0), (b"-inf", 0), (b"nan", 0), ("", 0), (1e18, 10**18)]
)
def test_scores_are_whole_numbers(score: Any, found: int) -> None:
    """A score that is no number of milliseconds counts as none."""
    assert decode.score(score) == found


def test_a_claims_options_are_all_or_unreadable() -> None:
    """Nothing of a claim's options goes missing between the script that read them and the render that judges them."""
    row: list[Any] = ["j", "q", "ns", "inc-1", "inc", 1, 1, "t", b"", 0, 0, b"", b"{}", "", [], "", 0, "", ""]
    for text, options in (
        (b"{}", {}),
        (b'{"a":1}', {"a": 1}),
        (b"[1]", {UNREADABLE: True}),
        (b"{", {UNREADABLE: True}),
    ):
        row[11] = text
        (claim,) = decode.claims([row], install="i", worker="w")
        assert claim.options == options
