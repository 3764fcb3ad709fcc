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


_LINES = b"j\nq\nns\ninc-1\ninc\n1\n1\nt\n0\n0\n\n\n0\n"


def test_what_is_frozen_as_for_the_claim_before_is_the_same() -> None:
    """An empty text stands for what the row before it has."""
    rows: list[Any] = [
        [_LINES, b"", b"{}", frozen, [], b""] for frozen in (b'{"maxAttempts":1}', b"", b'{"maxAttempts":2}', b"")
    ]
    claims = decode.claims(rows, install="i", worker="w")
    assert [claim.frozen["maxAttempts"] for claim in claims] == [1, 1, 2, 2]


def test_a_claims_options_are_all_or_unreadable() -> None:
    """Nothing of a claim's options goes missing between the script that read them and the render that judges them."""
    row: list[Any] = [_LINES, b"", b"", b"{}", [], b""]
    for text, options in (
        (b"{}", {}),
        (b'{"a":1}', {"a": 1}),
        (b"[1]", {UNREADABLE: True}),
        (b"{", {UNREADABLE: True}),
    ):
        row[2] = text
        (claim,) = decode.claims([row], install="i", worker="w")
        assert claim.options == options
